"""Resolution: which dataset version a name means, for one caller, at one commit, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from flight_server.catalog.store import Catalog
from flight_server.domain import declarations
from flight_server.domain.bucket import PRIMARY, Bucket, BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import Dataset, DatasetTotals, Namespace, display_name, fold_name
from flight_server.domain.identity import Identity
from flight_server.domain.near import near, offer
from flight_server.domain.recent import RecentMap
from flight_server.domain.staging import Snapshot, StagedDataset
from flight_server.domain.vector import IndexRecord
from flight_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from flight_server.frames.requests import TableName
from flight_server.services import time_travel
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES, SystemTables

MAX_NAME_LENGTH = 255
"""Characters of a dataset's longest name."""

_SHOWN_NAMES = 5
_SHOWN_LENGTH = 2 * MAX_NAME_LENGTH
_REMEMBERED_NAMES = 10_000
_REMEMBERED_COMMITS = 100
_REMEMBERED_CALLERS = 100


class Names:
    """Finds datasets by name; shared by all statements; `_found` and `_spaces` are the catalog's answers."""

    def __init__(self, catalog: Catalog, registry: BucketRegistry, system_tables: SystemTables) -> None:
        self.catalog = catalog
        self.registry = registry
        self._totals: RecentMap[tuple[str, int], DatasetTotals] = RecentMap(_REMEMBERED_NAMES)
        self.system_tables = system_tables
        self._found: RecentMap[object, tuple[Dataset | None]] = RecentMap(_REMEMBERED_NAMES)
        self._spaces: RecentMap[int, Mapping[str, Namespace]] = RecentMap(_REMEMBERED_COMMITS)
        self._indexes: RecentMap[tuple[str, int], Sequence[IndexRecord]] = RecentMap(_REMEMBERED_NAMES)
        self._visible: RecentMap[tuple[Identity, int], Sequence[Bucket]] = RecentMap(_REMEMBERED_CALLERS)
        self._profiles_seen = catalog.newest_commit()

    def refresh(self) -> None:
        """Take in profiles that anybody has made or dropped."""
        newest = self.catalog.newest_commit()
        if newest == self._profiles_seen:
            return
        changed = self.catalog.vectors.profiles_since(self._profiles_seen)
        self._profiles_seen = newest
        if changed:
            self.registry.learn(changed)
            self.forget()

    def forget(self) -> None:
        """Forget what is remembered of the catalog: the past of a profile ends when it is dropped."""
        for known in (self._found, self._spaces, self._totals, self._indexes):
            known.clear()

    def search_path(self, call: CallContext, snapshot: Snapshot) -> tuple[str, ...]:
        """Return where bare names are looked for: the session's schemas, the current bucket, the others.

        Profiles that were made are not among the others.
        """
        others = (bucket.name for bucket in self.registry.configured)
        wanted = dict.fromkeys([*call.schemas, call.bucket, PRIMARY, *others])
        return self.readable(call.identity, wanted, snapshot)

    def readable(self, identity: Identity, namespaces: Iterable[str], snapshot: Snapshot) -> tuple[str, ...]:
        """Return those of some namespaces that exist for a caller now."""
        return tuple(name for name in namespaces if self.find_namespace(identity, name, snapshot))

    def visible(self, identity: Identity) -> Sequence[Bucket]:
        """Return the buckets that exist for a caller."""
        key = (identity, self.registry.epoch)
        known = self._visible.get(key)
        if known is None:
            known = tuple(self.registry.visible(identity))
            self._visible.put(key, known)
        return known

    def namespaces(self, identity: Identity, snapshot: Snapshot) -> list[Namespace]:
        """Return the schemas that exist for a caller: those of its buckets, then those that were made."""
        buckets = [Namespace(bucket.name, bucket.name) for bucket in self.visible(identity)]
        readable = {bucket.name for bucket in buckets}
        made = {**self._made(snapshot.commit), **snapshot.namespaces}
        return [*buckets, *(space for space in made.values() if space and space.bucket in readable)]

    def _made(self, commit: int) -> Mapping[str, Namespace]:
        """Return the schemas that were made and not dropped by a commit."""
        known = self._spaces.get(commit)
        if known is None:
            stored = self.catalog.list_namespaces(commit)
            known = {
                space.name: Namespace(space.name, bucket)
                for space in stored
                if self.registry.canonical(space.name) is None
                and (bucket := self.registry.canonical(space.bucket)) is not None
            }
            self._spaces.put(commit, known)
        return known

    def may_change(self, identity: Identity, namespace: Namespace) -> bool:
        """Tell whether a caller may change datasets of a namespace that it can see."""
        bucket = self.registry.known(namespace.bucket)
        return identity.may("write", bucket.name) and not bucket.read_only

    def check_change(self, identity: Identity, namespace: Namespace) -> None:
        """Refuse what may not be changed.

        Raises NotFoundError where the caller has no such bucket, PermissionDeniedError or
        FailedPreconditionError.
        """
        self.registry.resolve(identity, namespace.bucket)
        if not identity.may("write", namespace.bucket):
            raise PermissionDeniedError(f"bucket {namespace.bucket} may be read by you but not written")
        if self.registry.known(namespace.bucket).read_only:
            raise FailedPreconditionError(f"bucket {namespace.bucket} is read-only")

    def namespace(self, identity: Identity, written: str, snapshot: Snapshot) -> Namespace:
        """Return the namespace that a schema name means. Raises NotFoundError."""
        found = self.find_namespace(identity, written, snapshot)
        if found is None:
            raise NotFoundError(f"no schema {written[:80]!r}; {self._schemas(identity, written, snapshot)}")
        return found

    def _schemas(self, identity: Identity, written: str, snapshot: Snapshot) -> str:
        """Return what a schema that is not there could be instead."""

        def is_seen(name: str) -> bool:
            return name == SYSTEM_SCHEMA or self.find_namespace(identity, name, snapshot) is not None

        made = {**self._made(snapshot.commit), **snapshot.namespaces}
        buckets = (bucket.name for bucket in self.visible(identity))
        names = [*dict.fromkeys([*buckets, *made, SYSTEM_SCHEMA])]
        return offer(fold_name(written), names, "schemas", is_seen, "FROM information_schema.schemata")

    def find_namespace(self, identity: Identity, written: str, snapshot: Snapshot) -> Namespace | None:
        """Return the namespace that a schema name means, None where the caller has none of that name."""
        name = fold_name(written)
        bucket = self.registry.find(name) if written else None
        if bucket is not None:
            found: Namespace | None = Namespace(bucket.name, bucket.name)
        elif name in snapshot.namespaces:
            found = snapshot.namespaces[name]
        else:
            found = self._made(snapshot.commit).get(name)
        return found if found is not None and identity.may("read", found.bucket) else None

    def find(self, namespaces: Sequence[str], name: str, snapshot: Snapshot) -> Dataset | None:
        """Find a dataset by name, the first namespace that has it wins; staged changes count."""
        if not snapshot.datasets:
            return self._committed(tuple(namespaces), name, snapshot.commit)
        for namespace in namespaces:
            key = (namespace, fold_name(name))
            staged = snapshot.datasets.get(key)
            if staged is not None:
                return self.staged(staged, snapshot)
            found = None if key in snapshot.datasets else self._committed((namespace,), name, snapshot.commit)
            if found is not None:
                return found
        return None

    def staged(self, staged: StagedDataset, snapshot: Snapshot) -> Dataset:
        """Return a dataset as a transaction has left it."""
        base = None
        if staged.origin is not None:
            namespace, name = staged.origin
            base = self._committed((namespace,), name, snapshot.commit)
        return staged.over(base, snapshot.commit)

    def _committed(self, namespaces: tuple[str, ...], name: str, commit: int) -> Dataset | None:
        """Look up the catalog as it was at a commit, which never changes: so it is remembered."""
        if len(name) > MAX_NAME_LENGTH:  # made up, and many of these would fill the memory
            return self.catalog.find_dataset(namespaces, name, commit)
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

    def indexes(self, dataset: Dataset) -> Sequence[IndexRecord]:
        """Return the indexes that a dataset has now, for the columns that it has in this version."""
        key = (dataset.id, self.catalog.newest_commit())
        records = self._indexes.get(key)
        if records is None:
            records = self.catalog.vectors.indexes(dataset.id)
            self._indexes.put(key, records)
        if not records or dataset.schema is None:
            return ()
        names = {declarations.column_id(field): field.name for field in declarations.read(dataset.schema)}
        return [replace(record, column=names[record.column]) for record in records if record.column in names]

    def past(self, dataset: Dataset, name: TableName, commit: int) -> Dataset:
        """Return the version of a dataset that a name says. Raises NotFoundError."""
        key = (dataset.id, name.version, name.at, commit)
        known = self._found.get(key)
        if known is None:
            known = (time_travel.travel(self.catalog, dataset, name, commit),)
            self._found.put(key, known)
        return known[0] or dataset

    def missing(self, identity: Identity, name: Sequence[str], snapshot: Snapshot) -> NotFoundError:
        """Return the error for a name that is no dataset, with names that come near."""
        wanted = ".".join(name)
        shown = self._shown(identity, name, snapshot)
        close = _near_misses(wanted, [*shown, *SYSTEM_TABLES])
        if close:
            hint = f"did you mean {' or '.join(close)}?"
        elif shown:
            hint = offer(wanted, shown, "tables", more="SHOW ALL TABLES")
        else:
            hint = "there are no tables here yet: create one, or load one with a bulk ingest"
        return NotFoundError(f"no table {wanted[:_SHOWN_LENGTH]!r}: it does not exist; {hint}")

    def _shown(self, identity: Identity, name: Sequence[str], snapshot: Snapshot) -> list[str]:
        """Return the tables of the schemas in which a name may be meant: not those of any other profile."""
        own = {bucket.name for bucket in self.registry.configured} | {fold_name(part) for part in name[:-1]}
        wanted = own.union(self._made(snapshot.commit), snapshot.namespaces)
        spaces = {space for space in wanted if self.find_namespace(identity, space, snapshot)}
        stored = [
            key for key in self.catalog.list_names(snapshot.commit, spaces) if key not in snapshot.datasets
        ]
        staged = [
            (item.namespace, item.name)
            for item in snapshot.datasets.values()
            if item is not None and item.namespace in spaces
        ]
        return [display_name(space, table) for space, table in [*stored, *staged]]


def _near_misses(wanted: str, names: Iterable[str]) -> list[str]:
    """Return names like the one wanted, or of the same table in another bucket."""
    names = list(names)
    last = fold_name(wanted.rsplit(".", 1)[-1])
    folded = {fold_name(name): name for name in names}
    tables = {fold_name(name.rsplit(".", 1)[-1]): name for name in names}
    close = [folded[found] for found in near(fold_name(wanted), folded)]
    close += [tables[found] for found in near(last, tables)]
    return list(dict.fromkeys(close))[:_SHOWN_NAMES]


def check_dataset_name(name: str) -> None:
    """Refuse names that SQL could not reach. Raises InvalidArgumentError."""
    _, at, version = name.rpartition("@")
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or (at and version.isdigit()):
        raise InvalidArgumentError(
            f"{name[:80]!r} is not a table name: 1 to {MAX_NAME_LENGTH} printable characters, "
            "not ending in '@' and a number"
        )
