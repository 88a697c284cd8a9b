"""Answers what an engine process asks about one statement: what its names mean, and what there is."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from flight_server.domain.dataset import (
    CATALOG,
    Dataset,
    DatasetChange,
    DatasetTotals,
    Kind,
    ObjectRef,
    display_name,
    fold_name,
)
from flight_server.domain.identity import Identity
from flight_server.domain.staging import Snapshot, refs_after
from flight_server.domain.vector import IndexRecord
from flight_server.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from flight_server.frames.requests import (
    LISTED,
    VIEW_MARK,
    ObjectGroup,
    Relation,
    SystemPage,
    TableName,
    is_system,
    is_version,
)
from flight_server.services import time_travel
from flight_server.services.introspection import Introspection, View
from flight_server.services.journal_views import JOURNAL_VIEWS, journal_view
from flight_server.services.resolution import Names
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES

LocatedRef = tuple[ObjectRef, tuple[str, str]]
"""An object as it is stored, and its bucket and key as an engine process finds it."""


class StatementResolution:
    """Answers an engine process's questions about one statement."""

    def __init__(
        self,
        names: Names,
        identity: Identity,
        search_path: Sequence[str],
        snapshot: Snapshot,
        options: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Answer for a caller at a snapshot; `options` tells those of its session that have a value."""
        self._names = names
        self._identity = identity
        self._search_path = search_path
        self._snapshot = snapshot
        self._found: dict[str, tuple[Dataset, Sequence[DatasetChange]]] = {}
        self._introspection = Introspection(names, View(identity, search_path, snapshot, options))

    def resolve(self, names: Sequence[TableName]) -> list[str]:
        """Return the relation of each dataset name. Raises NotFoundError."""
        return [self._resolve(name) for name in names]

    def ahead(self, names: Sequence[TableName]) -> dict[TableName, str]:
        """Resolve names before anybody asks."""
        return {name: self._resolve(name) for name in names}

    def qualify(self, names: Sequence[TableName]) -> list[tuple[str, ...]]:
        """Return the full path of each dataset name, in time travel its version too. Raises NotFoundError."""
        return [self._qualify(name) for name in names]

    def _qualify(self, written: TableName) -> tuple[str, ...]:
        relation = self._resolve(written)
        if is_system(relation):
            return (CATALOG, *relation.split("."))
        dataset, _ = self._found[relation]
        is_past = written != TableName(written.path) or written.path != time_travel.unversioned(written).path
        name = f"{dataset.name}@{dataset.version}" if is_past else dataset.name
        return (CATALOG, dataset.namespace, name)

    def _resolve(self, written: TableName) -> str:
        name = time_travel.unversioned(written)
        spaces, table = self.place(name.path)
        if spaces == [SYSTEM_SCHEMA]:
            return self._system(name)
        dataset = self._names.find(spaces, table, self._snapshot)
        if dataset is None:
            self._names.registry.check_profiles(self._identity, spaces)
            raise self._names.missing(self._identity, name.path, self._snapshot)
        if name.version is None and name.at is None:
            return self.relation(dataset)
        if dataset.kind == Kind.VIEW:
            raise InvalidArgumentError(
                f"{display_name(dataset.namespace, dataset.name)} is a view and has no versions: leave out AT"
            )
        return self._remember(self._names.past(dataset, name, self._snapshot.commit), ())

    def relation(self, dataset: Dataset) -> str:
        """Return the relation of a dataset or a view as its statement sees it."""
        staged = self._snapshot.datasets.get((dataset.namespace, fold_name(dataset.name)))
        return self._remember(dataset, staged.steps if staged else ())

    def _remember(self, dataset: Dataset, staged: Sequence[DatasetChange]) -> str:
        mark = VIEW_MARK if dataset.kind == Kind.VIEW else ""
        relation = f"{mark}{dataset.id}@{dataset.version}"
        if staged:
            relation += f"+{_digest(staged)}"
        self._found[relation] = dataset, staged
        return relation

    def dataset(self, relation: str) -> Dataset:
        """Return what a relation that was named here reads."""
        return self._found[relation][0]

    def _system(self, name: TableName) -> str:
        if name.version is not None or name.at is not None:
            raise InvalidArgumentError("system tables show the present and have no versions: leave out AT")
        relation = f"{SYSTEM_SCHEMA}.{fold_name(name.path[-1])}"
        if relation in JOURNAL_VIEWS:
            return self._remember(journal_view(relation, self._names, self._identity, self._snapshot), ())
        if relation not in SYSTEM_TABLES:
            raise self._names.missing(self._identity, name.path, self._snapshot)
        return relation

    def place(self, name: Sequence[str]) -> tuple[Sequence[str], str]:
        """Return in which schemas a name is looked for, and what for. Raises NotFoundError."""
        if len(name) == 1:
            return self._search_path, name[0]
        if len(name) > 3 or (len(name) == 3 and fold_name(name[0]) != CATALOG):
            raise NotFoundError(f"no table {'.'.join(name)!r}; a full name is {CATALOG}.<schema>.<table>")
        if fold_name(name[-2]) == SYSTEM_SCHEMA:
            return [SYSTEM_SCHEMA], name[-1]
        return [self._names.namespace(self._identity, name[-2], self._snapshot).name], name[-1]

    def describe(self, relations: Sequence[str]) -> Mapping[str, Relation]:
        """Return columns and objects of relations that `resolve` named.

        Raises FailedPreconditionError when objects lie in a bucket that is not configured.
        """
        return {relation: self._describe(relation) for relation in relations}

    def indexes(self, relation: str) -> Sequence[IndexRecord]:
        """Return the indexes that the dataset of a relation has now."""
        found = self._found.get(relation)
        return () if found is None else self._names.indexes(found[0])

    def totals(self, name: TableName) -> DatasetTotals | None:
        """Return what the committed dataset of a name holds, None for all else. Raises NotFoundError."""
        relation = self._resolve(name)
        return self._names.totals(self._found[relation][0]) if is_version(relation) else None

    def rows(self, relation: str, after: int | None) -> SystemPage:
        """Return the next rows of a system table that `resolve` named, or of what describes the catalog."""
        if relation in LISTED:
            return self._introspection.page(relation, after)
        return self._names.system_tables.page(self._identity, relation, after)

    def _describe(self, relation: str) -> Relation:
        if is_system(relation):
            return Relation(SYSTEM_TABLES[relation].schema.serialize().to_pybytes(), ())
        dataset = self.dataset(relation)
        if dataset.definition is not None:
            return Relation(dataset.schema or b"", (), dataset.definition)
        schema = dataset.schema
        located = self.refs(relation)
        if schema is None:
            raise FailedPreconditionError(
                f"the columns of {display_name(dataset.namespace, dataset.name)} are not known: "
                "its objects could not be read when it was imported; import it again"
            )
        groups: dict[bytes, list[tuple[str, str]]] = {}
        for ref, place in located:
            groups.setdefault(ref.schema or schema, []).append(place)
        return Relation(schema, tuple(ObjectGroup(own, tuple(places)) for own, places in groups.items()))

    def refs(self, relation: str) -> list[LocatedRef]:
        """Return the objects of a relation that was named here, and where they are."""
        dataset, staged = self._found[relation]
        stored = self._names.catalog.list_objects(dataset.id, dataset.version) if dataset.version else []
        return [(ref, self._locate(dataset, ref)) for ref in refs_after(stored, staged)]

    def _locate(self, dataset: Dataset, ref: ObjectRef) -> tuple[str, str]:
        bucket, written, key = self._names.registry.locate(ref.bucket, ref.key)
        name = display_name(dataset.namespace, dataset.name)
        if not self._identity.may("read", bucket or written):
            raise self._names.missing(self._identity, (name,), self._snapshot)
        if bucket is None:
            raise FailedPreconditionError(
                f"objects of {name} lie in bucket {written!r}, which is not configured: "
                "add it to the configuration, or make it an alias"
            )
        return bucket, key


def _digest(staged: Sequence[DatasetChange]) -> str:
    """Return a name for staged changes: the same for the same content, and for no other."""
    content = sha256()
    for change in staged:
        keys = ",".join(stored.key for stored in change.objects)
        content.update(
            f"{change.mode}:{len(change.schema)}:{keys};{change.removed};".encode() + change.schema
        )
        content.update(f"{change.name}:{change.new_name}:{change.definition};".encode())
    return content.hexdigest()
