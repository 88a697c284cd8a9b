"""Resolution: which dataset version a name means, for one caller, at one commit, in one transaction."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flight_server.catalog.store import Catalog
from flight_server.domain.bucket import PRIMARY, Bucket, BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import (
    Dataset,
    DatasetChange,
    IngestMode,
    ObjectRef,
    display_name,
    fold_name,
)
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from flight_server.frames.requests import ObjectGroup, QualifiedName, Relation

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
            raise NotFoundError(f"no schema {written!r}; the schemas here are the buckets: {known}")
        return self.registry.resolve(name)

    def find(self, namespaces: Sequence[str], name: str, snapshot: Snapshot) -> Dataset | None:
        """Find a dataset by name, the first namespace that has it wins; staged changes count."""
        found = self._committed(tuple(namespaces), name, snapshot.commit)
        reach = namespaces if found is None else namespaces[: list(namespaces).index(found.namespace)]
        for namespace in reach:
            for change in snapshot.changes:
                if change.namespace == namespace and fold_name(change.name) == fold_name(name):
                    return Dataset(
                        change.dataset_id, namespace, change.name, 0, snapshot.commit, change.schema
                    )
        return found

    def _committed(self, namespaces: tuple[str, ...], name: str, commit: int) -> Dataset | None:
        """Look up the catalog as it was at a commit, which never changes: so it is remembered."""
        key = (namespaces, name, commit)
        known = self._found.get(key)
        if known is None:
            known = (self.catalog.find_dataset(namespaces, name, commit),)
            self._found.put(key, known)
        return known[0]

    def missing(self, identity: Identity, name: QualifiedName, commit: int) -> NotFoundError:
        """Return the error for a name that is no dataset, with names that come near."""
        visible = {bucket.name for bucket in self.visible(identity)}
        shown = [
            display_name(space, table) for space, table in self.catalog.list_names(commit) if space in visible
        ]
        wanted = ".".join(name)
        near = _near_misses(wanted, shown)
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
        self._found: dict[str, Dataset] = {}

    def resolve(self, names: Sequence[QualifiedName]) -> list[str]:
        """Return the relation of each dataset name. Raises NotFoundError."""
        return [self._resolve(name) for name in names]

    def ahead(self, names: Sequence[QualifiedName]) -> dict[QualifiedName, str]:
        """Resolve names before anybody asks."""
        return {name: self._resolve(name) for name in names}

    def _resolve(self, name: QualifiedName) -> str:
        spaces, table = self._place(name)
        dataset = self._names.find(spaces, table, self._snapshot)
        if dataset is None:
            raise self._names.missing(self._identity, name, self._snapshot.commit)
        relation = f"{dataset.id}@{dataset.version}"
        staged = self._staged(dataset)
        if staged:
            # The key of the last staged object makes the name unique to this state of the transaction.
            stored = [item for change in staged for item in change.objects]
            relation += f"+{len(staged)}.{stored[-1].key if stored else staged[-1].dataset_id}"
        self._found[relation] = dataset
        return relation

    def _place(self, name: QualifiedName) -> tuple[Sequence[str], str]:
        if len(name) == 1:
            return self._search_path, name[0]
        if len(name) > 3 or (len(name) == 3 and fold_name(name[0]) != CATALOG):
            raise NotFoundError(f"no table {'.'.join(name)!r}; a full name is {CATALOG}.<bucket>.<table>")
        return [self._names.namespace(self._identity, name[-2]).name], name[-1]

    def _staged(self, dataset: Dataset) -> list[DatasetChange]:
        key = (dataset.namespace, fold_name(dataset.name))
        return [c for c in self._snapshot.changes if (c.namespace, fold_name(c.name)) == key]

    def describe(self, relations: Sequence[str]) -> Mapping[str, Relation]:
        """Return columns and objects of relations that `resolve` named.

        Raises FailedPreconditionError when objects lie in a bucket that is not configured.
        """
        return {relation: self._describe(self._found[relation]) for relation in relations}

    def _describe(self, dataset: Dataset) -> Relation:
        refs = self._names.catalog.list_objects(dataset.id, dataset.version) if dataset.version else []
        schema = dataset.schema
        for change in self._staged(dataset):
            schema = change.schema
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


def _staged_refs(change: DatasetChange) -> list[ObjectRef]:
    return [
        ObjectRef(change.bucket, stored.key, stored.rows, stored.bytes, change.schema, True)
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
