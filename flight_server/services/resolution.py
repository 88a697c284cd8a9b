"""Resolution: which dataset version a name means, for one caller, at one commit, in one transaction."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flight_server.catalog.store import Catalog
from flight_server.domain import columns
from flight_server.domain.bucket import PRIMARY, Bucket, BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import (
    Dataset,
    DatasetChange,
    DatasetTotals,
    IngestMode,
    display_name,
    fold_name,
)
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.errors import InvalidArgumentError, NotFoundError
from flight_server.frames.requests import TableName
from flight_server.services import time_travel
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES, SystemTables

MAX_NAME_LENGTH = 255
"""Characters of a dataset's longest name."""

_SHOWN_NAMES = 5
_REMEMBERED_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a statement reads: the catalog at a commit, under the changes its transaction has staged."""

    commit: int
    changes: tuple[DatasetChange, ...] = ()


class Names:
    """Finds datasets by name; shared by all statements; `_found` remembers what the catalog said."""

    def __init__(self, catalog: Catalog, registry: BucketRegistry, system_tables: SystemTables) -> None:
        self.catalog = catalog
        self.registry = registry
        self._totals: RecentMap[tuple[str, int], DatasetTotals] = RecentMap(_REMEMBERED_NAMES)
        self.system_tables = system_tables
        self._found: RecentMap[object, tuple[Dataset | None]] = RecentMap(_REMEMBERED_NAMES)

    def search_path(self, call: CallContext) -> tuple[str, ...]:
        """Return where bare names are looked for: the session's schemas, the current bucket, the others."""
        readable = [bucket.name for bucket in self.visible(call.identity)]
        wanted = dict.fromkeys([*call.schemas, call.bucket, PRIMARY, *readable])
        return tuple(name for name in wanted if name in readable)

    def visible(self, identity: Identity) -> list[Bucket]:
        """Return the buckets that exist for a caller."""
        return [bucket for bucket in self.registry if identity.may("read", bucket.name)]

    def may_change(self, identity: Identity, namespace: str) -> bool:
        """Tell whether a caller may change datasets of a namespace that it can see."""
        return identity.may("write", namespace) and not self.registry.resolve(namespace).read_only

    def namespace(self, identity: Identity, written: str) -> Bucket:
        """Return the bucket that a schema name means. Raises NotFoundError."""
        name = self.registry.canonical(fold_name(written)) if written else None
        if name is None or not identity.may("read", name):
            known = ", ".join(bucket.name for bucket in self.visible(identity))
            raise NotFoundError(
                f"no schema {written!r}; the schemas here are the buckets: {known}; "
                f"and {SYSTEM_SCHEMA!r}, the system tables"
            )
        return self.registry.resolve(name)

    def find(self, namespaces: Sequence[str], name: str, snapshot: Snapshot) -> Dataset | None:
        """Find a dataset by name, the first namespace that has it wins; staged changes count."""
        found = self._committed(tuple(namespaces), name, snapshot.commit)
        reach = namespaces if found is None else namespaces[: list(namespaces).index(found.namespace)]
        for namespace in reach:
            for change in snapshot.changes:
                if change.namespace == namespace and fold_name(change.name) == fold_name(name):
                    found = Dataset(change.dataset_id, namespace, change.name, 0, snapshot.commit, None)
                    return _with_staged_schema(found, snapshot)
        return found and _with_staged_schema(found, snapshot)

    def _committed(self, namespaces: tuple[str, ...], name: str, commit: int) -> Dataset | None:
        """Look up the catalog as it was at a commit, which never changes: so it is remembered."""
        key = (namespaces, name, commit)
        known = self._found.get(key)
        if known is None:
            known = (self.catalog.find_dataset(namespaces, name, commit),)
            self._found.put(key, known)
        return known[0]

    def totals(self, dataset: Dataset) -> DatasetTotals:
        """Return what a committed version holds."""
        key = (dataset.id, dataset.version)
        known = self._totals.get(key)
        if known is None:
            known = self.catalog.totals(dataset.commit, [dataset.id])[dataset.id]
            self._totals.put(key, known)
        return known

    def past(self, dataset: Dataset, name: TableName, commit: int) -> Dataset:
        """Return the version of a dataset that a name says. Raises NotFoundError."""
        key = (dataset.id, name.version, name.at, commit)
        known = self._found.get(key)
        if known is None:
            known = (time_travel.travel(self.catalog, dataset, name, commit),)
            self._found.put(key, known)
        return known[0] or dataset

    def missing(self, identity: Identity, name: Sequence[str], commit: int) -> NotFoundError:
        """Return the error for a name that is no dataset, with names that come near."""
        visible = {bucket.name for bucket in self.visible(identity)}
        shown = [
            display_name(space, table) for space, table in self.catalog.list_names(commit) if space in visible
        ]
        wanted = ".".join(name)
        near = _near_misses(wanted, [*shown, *SYSTEM_TABLES])
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif shown:
            hint = f"there are {len(shown)} tables here, among them {', '.join(shown[:_SHOWN_NAMES])}"
        else:
            hint = "there are no tables here yet: load one with a bulk ingest"
        return NotFoundError(f"no table {wanted!r}: it does not exist; {hint}")


def _near_misses(wanted: str, names: Iterable[str]) -> list[str]:
    """Return names like the one wanted, or of the same table in another bucket."""
    names = list(names)
    last = fold_name(wanted.rsplit(".", 1)[-1])
    folded = {fold_name(name): name for name in names}
    tables = {fold_name(name.rsplit(".", 1)[-1]): name for name in names}
    close = [folded[near] for near in difflib.get_close_matches(fold_name(wanted), folded)]
    close += [tables[near] for near in difflib.get_close_matches(last, tables)]
    return list(dict.fromkeys(close))[:_SHOWN_NAMES]


def _with_staged_schema(dataset: Dataset, snapshot: Snapshot) -> Dataset:
    schema = dataset.schema
    for change in staged_changes(dataset, snapshot):
        schema = schema_after(schema, change)
    return dataset if schema is dataset.schema else replace(dataset, schema=schema)


def staged_changes(dataset: Dataset, snapshot: Snapshot) -> list[DatasetChange]:
    """Return what the transaction of a snapshot has done to a dataset."""
    key = (dataset.namespace, fold_name(dataset.name))
    return [c for c in snapshot.changes if (c.namespace, fold_name(c.name)) == key]


def schema_after(schema: bytes | None, change: DatasetChange) -> bytes:
    """Return the schema of a dataset, None where it has none, after a staged change."""
    if change.mode is IngestMode.REPLACE or schema is None:
        return change.schema
    return columns.merged(schema, change.schema) if change.evolves else schema


def check_dataset_name(name: str) -> None:
    """Refuse names that SQL could not reach. Raises InvalidArgumentError."""
    _, at, version = name.rpartition("@")
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or (at and version.isdigit()):
        raise InvalidArgumentError(
            f"{name[:80]!r} is not a table name: 1 to {MAX_NAME_LENGTH} printable characters, "
            "not ending in '@' and a number"
        )
