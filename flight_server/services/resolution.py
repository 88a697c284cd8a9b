"""Resolution: which dataset version a name means, for one caller, at one commit, in one transaction."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from flight_server.catalog.store import Catalog
from flight_server.domain import columns
from flight_server.domain.bucket import PRIMARY, Bucket, BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import (
    Dataset,
    DatasetChange,
    DatasetTotals,
    IngestMode,
    ObjectRef,
    display_name,
    fold_name,
)
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from flight_server.frames.requests import ObjectGroup, Relation, SystemPage, TableName, is_system
from flight_server.services import time_travel
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES, SystemTables

CATALOG = "lakehouse"
"""The one Flight SQL catalog."""

_SHOWN_NAMES = 5
_REMEMBERED_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a statement reads: the catalog at a commit, under the changes its transaction has staged."""

    commit: int
    changes: tuple[DatasetChange, ...] = ()


class Names:
    """Finds datasets by name; shared by all statements; `_found` remembers what the catalog said."""

    def __init__(self, catalog: Catalog, registry: BucketRegistry) -> None:
        self.catalog = catalog
        self.registry = registry
        self._totals: RecentMap[tuple[str, int], DatasetTotals] = RecentMap(_REMEMBERED_NAMES)
        self.system_tables = SystemTables(catalog, registry)
        self._found: RecentMap[object, tuple[Dataset | None]] = RecentMap(_REMEMBERED_NAMES)

    def search_path(self, call: CallContext) -> tuple[str, ...]:
        """Return where unqualified names are looked for: the current bucket, `primary`, the others."""
        readable = [bucket.name for bucket in self.visible(call.identity)]
        return tuple(name for name in dict.fromkeys([call.bucket, PRIMARY, *readable]) if name in readable)

    def visible(self, identity: Identity) -> list[Bucket]:
        """Return the buckets that exist for a caller."""
        return [bucket for bucket in self.registry if identity.may("read", bucket.name)]

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
        return NotFoundError(f"no table {wanted!r}; {hint}")


def _near_misses(wanted: str, names: Iterable[str]) -> list[str]:
    """Return names like the one wanted, or of the same table in another bucket."""
    names = list(names)
    last = fold_name(wanted.rsplit(".", 1)[-1])
    folded = {fold_name(name): name for name in names}
    tables = {fold_name(name.rsplit(".", 1)[-1]): name for name in names}
    close = [folded[near] for near in difflib.get_close_matches(fold_name(wanted), folded)]
    close += [tables[near] for near in difflib.get_close_matches(last, tables)]
    return list(dict.fromkeys(close))[:_SHOWN_NAMES]


class StatementResolution:
    """Answers an engine process's questions about one statement."""

    def __init__(
        self,
        names: Names,
        identity: Identity,
        search_path: Sequence[str],
        snapshot: Snapshot,
    ) -> None:
        self._names = names
        self._identity = identity
        self._search_path = search_path
        self._snapshot = snapshot
        self._found: dict[str, tuple[Dataset, Sequence[DatasetChange]]] = {}

    def resolve(self, names: Sequence[TableName]) -> list[str]:
        """Return the relation of each dataset name. Raises NotFoundError."""
        return [self._resolve(name) for name in names]

    def ahead(self, names: Sequence[TableName]) -> dict[TableName, str]:
        """Resolve names before anybody asks."""
        return {name: self._resolve(name) for name in names}

    def _resolve(self, written: TableName) -> str:
        name = time_travel.unversioned(written)
        spaces, table = self._place(name.path)
        if spaces == [SYSTEM_SCHEMA]:
            return self._system(name)
        dataset = self._names.find(spaces, table, self._snapshot)
        if dataset is None:
            raise self._names.missing(self._identity, name.path, self._snapshot.commit)
        staged: Sequence[DatasetChange] = ()
        if name.version is not None or name.at is not None:
            dataset = self._names.past(dataset, name, self._snapshot.commit)
        else:
            staged = staged_changes(dataset, self._snapshot)
        relation = f"{dataset.id}@{dataset.version}"
        if staged:
            relation += f"+{_digest(staged)}"
        self._found[relation] = dataset, staged
        return relation

    def _system(self, name: TableName) -> str:
        if name.version is not None or name.at is not None:
            raise InvalidArgumentError("system tables show the present and have no versions: leave out AT")
        relation = f"{SYSTEM_SCHEMA}.{fold_name(name.path[-1])}"
        if relation not in SYSTEM_TABLES:
            raise self._names.missing(self._identity, name.path, self._snapshot.commit)
        return relation

    def _place(self, name: Sequence[str]) -> tuple[Sequence[str], str]:
        if len(name) == 1:
            return self._search_path, name[0]
        if len(name) > 3 or (len(name) == 3 and fold_name(name[0]) != CATALOG):
            raise NotFoundError(f"no table {'.'.join(name)!r}; a full name is {CATALOG}.<bucket>.<table>")
        if fold_name(name[-2]) == SYSTEM_SCHEMA:
            return [SYSTEM_SCHEMA], name[-1]
        return [self._names.namespace(self._identity, name[-2]).name], name[-1]

    def describe(self, relations: Sequence[str]) -> Mapping[str, Relation]:
        """Return columns and objects of relations that `resolve` named.

        Raises FailedPreconditionError when objects lie in a bucket that is not configured.
        """
        return {relation: self._describe(relation) for relation in relations}

    def totals(self, name: TableName) -> DatasetTotals | None:
        """Return what the committed dataset of a name holds, None for system tables. Raises NotFoundError."""
        relation = self._resolve(name)
        return None if is_system(relation) else self._names.totals(self._found[relation][0])

    def rows(self, relation: str, after: int | None) -> SystemPage:
        """Return the next rows of a system table that `resolve` named."""
        return self._names.system_tables.page(self._identity, relation, after)

    def _describe(self, relation: str) -> Relation:
        if is_system(relation):
            return Relation(SYSTEM_TABLES[relation].schema.serialize().to_pybytes(), ())
        dataset, staged = self._found[relation]
        refs = self._names.catalog.list_objects(dataset.id, dataset.version) if dataset.version else []
        schema = dataset.schema
        for change in staged:
            schema = schema_after(schema, change)
            kept = [] if change.mode is IngestMode.REPLACE else refs
            refs = [*kept, *_staged_refs(change)]
        groups: dict[bytes, list[tuple[str, str]]] = {}
        located = [(self._locate(dataset, ref), ref.schema) for ref in refs]
        if schema is None:
            raise FailedPreconditionError(
                f"the columns of {display_name(dataset.namespace, dataset.name)} are not known: "
                "its objects could not be read when it was imported; import it again"
            )
        for place, own in located:
            groups.setdefault(own or schema, []).append(place)
        return Relation(schema, tuple(ObjectGroup(own, tuple(places)) for own, places in groups.items()))

    def _locate(self, dataset: Dataset, ref: ObjectRef) -> tuple[str, str]:
        bucket, written, key = self._names.registry.locate(ref.bucket, ref.key)
        name = display_name(dataset.namespace, dataset.name)
        if bucket is None:
            raise FailedPreconditionError(
                f"objects of {name} lie in bucket {written!r}, which is not configured: "
                "add it to the configuration, or make it an alias"
            )
        if not self._identity.may("read", bucket):
            raise self._names.missing(self._identity, (name,), self._snapshot.commit)
        return bucket, key


def _digest(staged: Sequence[DatasetChange]) -> str:
    """Return a name for staged changes: the same for the same content, and for no other."""
    content = sha256()
    for change in staged:
        keys = ",".join(stored.key for stored in change.objects)
        content.update(f"{change.mode}:{len(change.schema)}:{keys};".encode() + change.schema)
    return content.hexdigest()


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


def _staged_refs(change: DatasetChange) -> list[ObjectRef]:
    return [
        ObjectRef(
            change.bucket,
            stored.key,
            stored.rows,
            stored.bytes,
            stored.schema or change.schema,
            change.managed,
        )
        for stored in change.objects
    ]


def check_dataset_name(name: str) -> None:
    """Refuse names that SQL could not reach. Raises InvalidArgumentError."""
    _, at, version = name.rpartition("@")
    if not name or len(name) > 255 or not name.isprintable() or (at and version.isdigit()):
        raise InvalidArgumentError(
            f"{name[:80]!r} is not a table name: 1 to 255 printable characters, "
            "not ending in '@' and a number"
        )
