"""What gateway and engine process tell each other about statements that change datasets.

The engine process asks for the `target` of a statement (fields path, use) or the `namespace` (field
name), writes objects for it at once, and answers `done` with the changes that these objects are for. Then it
waits for `keep` or `discard`, as an upload does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from flight_server.domain.session import Holding, Verb
from flight_server.frames.frame import Frame, with_parts
from flight_server.frames.requests import encode_holdings


class Use(StrEnum):
    """What a statement wants of its target: to make it, to add rows to it, or anything else."""

    CREATE = "create"
    APPEND = "append"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class TargetObject:
    """An object of a dataset that is to be changed; `rows` is None while unknown."""

    bucket: str
    key: str
    rows: int | None
    schema: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """A dataset or a view that a statement is to change, or the place for one that does not exist yet.

    `kind` is table or view. What exists has a `version` (what its changes start from, None where the
    transaction has made it), and a table a `relation`, a `schema` and its `objects`; who only adds rows is
    told of objects where rows are compared with their keys. `dataset_id` is where objects are written for;
    they may have `room` bytes, None for any number.
    """

    exists: bool
    kind: str
    dataset_id: str
    namespace: str
    name: str
    bucket: str
    version: int | None = None
    relation: str | None = None
    schema: bytes = b""
    objects: tuple[TargetObject, ...] = ()
    room: int | None = None


def encode_target(target: Target) -> Frame:
    """Answer `target`; each distinct schema travels once, the dataset's first."""
    schemas: dict[bytes, int] = {target.schema: 0}
    objects = [
        (item.bucket, item.key, item.rows, schemas.setdefault(item.schema, len(schemas)))
        for item in target.objects
    ]
    plain = ("exists", "dataset_id", "namespace", "name", "bucket", "version", "relation", "room")
    fields: dict[str, Any] = {name: getattr(target, name) for name in plain}
    fields["of_kind"] = target.kind  # a frame has a `kind` of its own
    return with_parts("targeted", fields | {"objects": objects}, schemas)


def decode_target(frame: Frame) -> Target:
    """Read the answer to `target`."""
    schemas, fields = frame.parts(), dict(frame.fields)
    fields.pop("sizes")
    kind = fields.pop("of_kind")
    objects = tuple(
        TargetObject(bucket, key, rows, schemas[number])
        for bucket, key, rows, number in fields.pop("objects")
    )
    return Target(**fields, kind=kind, schema=schemas[0], objects=objects)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A schema that is to be made or dropped: whether it exists, in which bucket, what it holds."""

    exists: bool
    name: str
    bucket: str
    held: tuple[Target, ...] = ()


def encode_namespace(namespace: Namespace) -> Frame:
    """Answer `namespace`; of what it holds only names, ids and versions are told."""
    held = [[item.kind, item.dataset_id, item.name, item.version] for item in namespace.held]
    fields = {"exists": namespace.exists, "name": namespace.name, "bucket": namespace.bucket, "held": held}
    return Frame("namespace", fields)


def decode_namespace(frame: Frame) -> Namespace:
    """Read the answer to `namespace`."""
    fields = frame.fields
    name, bucket = fields["name"], fields["bucket"]
    held = tuple(Target(True, kind, id, name, of, bucket, at) for kind, id, of, at in fields["held"])
    return Namespace(fields["exists"], name, bucket, held)


@dataclass(frozen=True, slots=True)
class StatementChange:
    """What a statement has done to one dataset, view or schema; its objects are written already.

    `mode` is one of `domain.dataset.ChangeMode`. `kind` is table, view or schema: a schema is created (in
    `bucket`) or dropped, its name is the `namespace`. `base_version` is the target's. `removed` are
    (bucket, key) of the target's objects, `objects` have (key, rows, bytes, checksum). `schema` is the one
    that the objects were written with, or the dataset's new one (rewrite and append: None for the target's).
    """

    mode: str
    kind: str
    namespace: str
    name: str
    bucket: str
    dataset_id: str
    base_version: int | None = None
    removed: tuple[tuple[str, str], ...] = ()
    objects: tuple[tuple[str, int, int, str], ...] = ()
    schema: bytes | None = None
    new_name: str | None = None
    definition: str | None = None


def encode_done(
    count: int,
    verb: Verb | None,
    holdings: Iterable[Holding],
    messages: Sequence[bytes],
    changes: Sequence[StatementChange] = (),
) -> Frame:
    """Tell what a statement with effects did, and what its session keeps now."""
    schemas: dict[bytes, int] = {}
    for change in changes:
        if change.schema is not None:
            schemas.setdefault(change.schema, len(messages) + len(schemas))
    encoded = [
        asdict(change) | {"schema": None if change.schema is None else schemas[change.schema]}
        for change in changes
    ]
    fields: dict[str, Any] = {
        "count": count,
        "verb": verb and asdict(verb),
        "holdings": encode_holdings(holdings),
    }
    fields |= {"messages": len(messages), "changes": encoded}
    return with_parts("done", fields, [*messages, *schemas])


def decode_changes(frame: Frame) -> tuple[StatementChange, ...]:
    """Read what a statement that is `done` has changed."""
    parts = frame.parts()
    return tuple(
        StatementChange(
            **fields
            | {
                "removed": tuple((bucket, key) for bucket, key in fields["removed"]),
                "objects": tuple((key, rows, size, check) for key, rows, size, check in fields["objects"]),
                "schema": None if fields["schema"] is None else parts[fields["schema"]],
            }
        )
        for fields in frame.fields["changes"]
    )
