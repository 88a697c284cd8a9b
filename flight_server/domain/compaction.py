"""Which objects of a dataset are merged, and with which others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flight_server.domain import declarations
from flight_server.domain.dataset import ObjectRef

TARGET_BYTES = 128 * 1024 * 1024
"""Size of the objects that are made.

Scans split work by row groups, so larger ones read no faster; an UPDATE of one row writes a whole object.
"""

SMALL_BYTES = TARGET_BYTES // 2
"""Objects below this are merged. What is left over when the others have been made stays small."""

_SORTED_BYTES = 16 * TARGET_BYTES
"""How much is sorted at once; beyond memory it goes through temporary files."""

_GROUP_OBJECTS = 4_096


@dataclass(frozen=True, slots=True)
class Compaction:
    """What is to be compacted: a dataset, all of a bucket or schema, or everything that one may write.

    `sort_by` declares the dataset's sort key first; empty takes it away, None leaves it alone.
    """

    bucket: str | None = None
    dataset: str | None = None
    sort_by: tuple[str, ...] | None = None


def groups(refs: Sequence[ObjectRef], key: tuple[str, ...]) -> list[list[ObjectRef]]:
    """Return the objects to be merged, group by group, each of one bucket and in the order of `refs`.

    A dataset with a sort key also has those objects sorted that were written before it was declared.
    Objects that are not ours are left alone.
    """
    sorted_schemas = {ref.schema: is_sorted(ref.schema, key) for ref in refs}
    chosen: dict[str, list[ObjectRef]] = {}
    for ref in refs:
        if ref.managed and (ref.bytes < SMALL_BYTES or not sorted_schemas[ref.schema]):
            chosen.setdefault(ref.bucket, []).append(ref)
    limit = _SORTED_BYTES if key else TARGET_BYTES
    found = [group for those in chosen.values() for group in _split(those, limit)]
    return [group for group in found if len(group) > 1 or not sorted_schemas[group[0].schema]]


def is_sorted(schema: bytes | None, key: tuple[str, ...]) -> bool:
    """Tell whether an object of a schema is sorted by a key; by no key all are."""
    return not key or (schema is not None and declarations.sorted_by(declarations.read(schema)) == key)


def _split(refs: Sequence[ObjectRef], limit: int) -> Iterator[list[ObjectRef]]:
    group: list[ObjectRef] = []
    size = 0
    for ref in refs:
        group.append(ref)
        size += ref.bytes
        if size >= limit or len(group) == _GROUP_OBJECTS:
            yield group
            group, size = [], 0
    if group:
        yield group
