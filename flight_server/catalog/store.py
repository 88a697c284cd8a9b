"""The catalog: which datasets exist, what each version consists of, and what has been committed."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    bindparam,
    or_,
    select,
)

from flight_server.catalog import (
    backup,
    commits,
    idempotency,
    imports,
    listing,
    lookup,
    migration,
    system_tables,
)
from flight_server.catalog import sweep as sweeping
from flight_server.catalog.import_stage import staged
from flight_server.catalog.quotas import Quotas
from flight_server.catalog.sqlite import (
    WRITES,
    CommitWatch,
    database_exists,
    open_engine,
    parse_url,
    translated,
)
from flight_server.catalog.tables import (
    object_refs,
    schemas,
    secret_keys,
)
from flight_server.catalog.upgrade import create_key, ensure_schema
from flight_server.catalog.vector_catalog import VectorCatalog
from flight_server.domain import faults
from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.dataset import (
    CatalogTotals,
    CommitRequest,
    CommittedChange,
    Dataset,
    DatasetChange,
    DatasetFilter,
    DatasetTotals,
    ExpiredVersions,
    ExpiryRule,
    ImportedDataset,
    Namespace,
    ObjectRef,
    VersionRange,
    fold_name,
)
from flight_server.errors import LakehouseError

_LIST_OBJECTS = (
    select(*object_refs.c["bucket", "key", "rows", "bytes", "schema_id", "managed"])
    .where(
        object_refs.c.dataset == bindparam("dataset"),
        object_refs.c.added_version <= bindparam("version"),
        or_(
            object_refs.c.removed_version.is_(None),
            object_refs.c.removed_version > bindparam("version"),
        ),
    )
    .order_by(object_refs.c.id)
)

_SECRET_KEYS = select(secret_keys.c.key).order_by(secret_keys.c.id)

_SYSTEM_ROWS: Mapping[str, Callable[[Connection, int | None, int], Sequence[Row[Any]]]] = {
    "datasets": system_tables.dataset_rows,
    "object_refs": system_tables.object_rows,
    "commits": system_tables.commit_rows,
}


class Catalog:
    """The set of datasets and their versions; every method may be called from any thread.

    Each call is one transaction, and reads never wait for writers. All state is in the database, where
    other processes may change it at any time; the only state here is the watch, which has its own lock.
    """

    def __init__(self, engine: Engine, watch: CommitWatch) -> None:
        self._reader = engine
        self._writer = engine.execution_options(**{WRITES: True})
        self._watch = watch
        self.vectors = VectorCatalog(self._read, self._write)
        self.quotas = Quotas(self._read)

    @classmethod
    def open(cls, url: str) -> "Catalog":
        """Open the catalog at a database URL (`sqlite:///…`), making it when it is new; the caller closes it.

        One of an older version is brought to this one. Raises FailedPreconditionError when it is no catalog,
        InvalidArgumentError when the URL names no database that is served.
        """
        parsed = parse_url(url)
        with translated():
            engine = open_engine(parsed)
            try:
                ensure_schema(engine)
                return cls(engine, CommitWatch(parsed))
            except BaseException:
                engine.dispose()
                raise

    @staticmethod
    def exists(url: str) -> bool:
        """Tell whether a database URL names a catalog that is there. Raises InvalidArgumentError."""
        return database_exists(parse_url(url))

    def close(self) -> None:
        """Close all connections."""
        self._watch.close()
        self._reader.dispose()

    def newest_commit(self) -> int:
        """Return the id of the newest commit of any process, 0 when there is none."""
        with translated():
            return self._watch.newest()

    def secret_keys(self) -> tuple[bytes, ...]:
        """Return the keys that sign tickets and handles, the newest last."""
        with self._read() as connection:
            found = tuple(connection.execute(_SECRET_KEYS).scalars())
        if found:
            return found
        with self._write() as connection:  # a backup has none
            if not connection.execute(_SECRET_KEYS).first():
                create_key(connection)
            return tuple(connection.execute(_SECRET_KEYS).scalars())

    def find_dataset(self, namespaces: Sequence[str], name: str, commit: int) -> Dataset | None:
        """Find the dataset of a name as it was at a commit; the first namespace that has it wins.

        Names compare as `fold_name` says.
        """
        order = [fold_name(namespace) for namespace in namespaces]
        values = {"namespaces": order, "name": fold_name(name), "commit": commit}
        with self._read() as connection:
            found = [Dataset(*row) for row in connection.execute(lookup.FIND_DATASET, values)]
        return min(found, key=lambda dataset: order.index(dataset.namespace), default=None)

    def list_datasets(
        self,
        commit: int,
        wanted: DatasetFilter | None = None,
        after: tuple[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Dataset]:
        """List datasets as they were at a commit, ordered by namespace and name; see DatasetFilter.

        `after` (namespace, name) and `limit` make pages of the list.
        """
        statement = listing.page_datasets(lookup.LIST_DATASETS, wanted, after, limit)
        with self._read() as connection:
            return [Dataset(*row) for row in connection.execute(statement, {"commit": commit})]

    def totals(self, commit: int, ids: Sequence[str]) -> dict[str, DatasetTotals]:
        """Return what datasets, by their ids, held at a commit."""
        with self._read() as connection:
            return listing.totals(connection, commit, ids)

    def find_version(
        self, dataset_id: str, commit: int, version: int | None, at: int | None
    ) -> Dataset | None:
        """Find a version of a dataset by number, or else the newest one committed by a moment.

        `at` is in microseconds since 1970 UTC; nothing newer than `commit` is found.
        """
        with self._read() as connection:
            return listing.find_version(connection, dataset_id, commit, version, at)

    def version_range(self, dataset_id: str, commit: int) -> VersionRange | None:
        """Return which versions a dataset has at a commit, None when it has none."""
        with self._read() as connection:
            return listing.version_range(connection, dataset_id, commit)

    def system_rows(self, table: str, after: int | None, limit: int) -> Sequence[Row[Any]]:
        """Return the next rows of `datasets`, `object_refs` or `commits`, in the order of their first column.

        `after` is the first column of the last row before; see `catalog.system_tables` for the columns.
        """
        with self._read() as connection:
            return _SYSTEM_ROWS[table](connection, after, limit)

    def commit_buckets(self, first: int, last: int) -> dict[int, set[str]]:
        """Return the buckets in which the datasets lie that the commits of a range changed."""
        with self._read() as connection:
            return system_tables.commit_buckets(connection, first, last)

    def list_names(self, commit: int, namespaces: Collection[str] | None = None) -> list[tuple[str, str]]:
        """List (namespace, name) of the datasets that existed at a commit, in order; None for all of them."""
        statement = lookup.LIST_NAMES
        if namespaces is not None:
            statement = statement.where(lookup.NAMES.c.namespace.in_(namespaces))
        with self._read() as connection:
            rows = connection.execute(statement, {"commit": commit})
            return [(namespace, name) for namespace, name in rows]

    def crowded(self, small_bytes: int, objects: int) -> list[tuple[str, str]]:
        """List (namespace, name) of the tables with more than so many objects of ours below a size."""
        with self._read() as connection:
            return listing.crowded(connection, small_bytes, objects)

    def list_namespaces(self, commit: int) -> list[Namespace]:
        """List the schemas that had been made by a commit, beside those of the buckets themselves."""
        with self._read() as connection:
            rows = connection.execute(lookup.LIST_NAMESPACES, {"commit": commit})
            return [Namespace(name, bucket) for name, bucket in rows]

    def list_objects(self, dataset_id: str, version: int) -> list[ObjectRef]:
        """List the objects of a dataset's version in the order in which they were added."""
        with self._read() as connection:
            rows = connection.execute(_LIST_OBJECTS, {"dataset": dataset_id, "version": version}).all()
            known = _schemas(connection, {row.schema_id for row in rows})
        return [
            ObjectRef(bucket, key, row_count, size, known.get(schema_id), managed)
            for bucket, key, row_count, size, schema_id, managed in rows
        ]

    def commit(self, changes: Sequence[DatasetChange], principal: str, summary: str) -> list[CommittedChange]:
        """Make all changes in one commit, or none, and return what became of each, in their order.

        Several changes to one dataset become one version; without changes there is no commit.
        Raises AlreadyExistsError, NotFoundError or ConflictError, with what the caller has to look at.
        """
        if not changes:
            return []
        with self._write() as connection:
            made = self._apply(connection, CommitRequest(tuple(changes), principal, summary))
            faults.reach(faults.Place.COMMIT_READY)
        faults.reach(faults.Place.COMMIT_MADE)
        return made

    def commit_all(self, requests: Sequence[CommitRequest]) -> list[list[CommittedChange] | LakehouseError]:
        """Make several commits in one transaction, which costs one wait for the disk; return their outcomes.

        Each is all or none by itself and sees those before it: an outcome is what `commit` returns or
        raises. What the database itself raises ends all of them.
        """
        with self._write() as connection:
            outcomes = [self._outcome(connection, request) for request in requests]
            faults.reach(faults.Place.COMMIT_READY)
        faults.reach(faults.Place.COMMIT_MADE)
        return outcomes

    def _outcome(
        self, connection: Connection, request: CommitRequest
    ) -> list[CommittedChange] | LakehouseError:
        try:
            with connection.begin_nested():
                return self._apply(connection, request)
        except LakehouseError as error:
            return error

    def _apply(self, connection: Connection, request: CommitRequest) -> list[CommittedChange]:
        self.quotas.check(connection, request.changes)
        return commits.apply(connection, request.changes, request.principal, request.summary)

    def find_upload(self, principal: str, key: str) -> tuple[str, CommittedChange] | None:
        """Return digest and result of the upload that a principal has committed under a key."""
        with self._read() as connection:
            return idempotency.find(connection, principal, key)

    def bury(self, keys: Sequence[str], *, dry_run: bool) -> list[str]:
        """Return those of the keys that no version uses; no commit can use them from now on."""
        with self._read() if dry_run else self._write() as connection:
            return sweeping.bury(connection, keys, dry_run=dry_run)

    def expire(self, rule: ExpiryRule, *, dry_run: bool) -> ExpiredVersions:
        """Forget versions that a rule lets go, with what only they use; the caller removes the objects."""
        with self._read() if dry_run else self._write() as connection:
            expired = sweeping.expire(connection, rule, dry_run=dry_run)
        self.quotas.forget()
        return expired

    def backup(self, file: Path, until: datetime) -> CatalogTotals:
        """Write a copy of the catalog to a new file; sweep keeps all that it names until a moment.

        Raises AlreadyExistsError when there is such a file.
        """
        with translated():
            return backup.write(self._writer, file, until)

    def content(self) -> CatalogTotals:
        """Return what the catalog holds, older versions included."""
        with self._read() as connection:
            return backup.totals(connection)

    def refs_after(self, after: int, limit: int) -> Sequence[Row[Any]]:
        """Return the next refs, of all versions: id, bucket and key as they were written."""
        with self._read() as connection:
            return backup.refs_after(connection, after, limit)

    def import_datasets(self, pieces: Iterable[ImportedDataset], principal: str) -> dict[str, object]:
        """Take over datasets that exist elsewhere, in one commit; report counts and shadowed names.

        Pieces with the same id are one dataset. One whose id is known already is left alone and counted
        as `already_imported`. Of one name the newest `created_at` wins, the last to arrive among equals.
        The pieces are read before the write transaction begins; what they raise ends the import.
        """
        with translated(), self._reader.connect() as connection, staged(connection) as stage:
            stage.fill(pieces)
            connection.commit()
            connection.execution_options(**{WRITES: True})
            report = imports.import_staged(connection, stage, principal)
            faults.reach(faults.Place.IMPORT_READY)
            connection.commit()
            return report

    def migrate(self, registry: BucketRegistry, dry_run: bool) -> dict[str, object]:
        """Rewrite bucket aliases and legacy URLs to canonical form and report what was found.

        A run that changes something is a commit and is logged; a dry run only reads.
        """
        with self._read() if dry_run else self._write() as connection:
            report = migration.migrate(connection, registry, dry_run=dry_run)
            faults.reach(faults.Place.MIGRATE_READY)
            return report

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with translated(), self._writer.begin() as connection:
            yield connection


def _schemas(connection: Connection, ids: set[int | None]) -> dict[int | None, bytes]:
    found = select(*schemas.c["id", "arrow_schema"]).where(schemas.c.id.in_(ids - {None}))
    return {row.id: row.arrow_schema for row in connection.execute(found)}
