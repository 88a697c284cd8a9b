"""System tables: what the catalog, the configuration and this gateway hold, as far as the caller may read it.

They show the present, whatever commit the statement around them reads at, and come page by page, so
that a table of any size takes the gateway no more memory than one page.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias

import pyarrow as pa

from flight_server.catalog.store import Catalog
from flight_server.domain import declarations
from flight_server.domain.bucket import PRIMARY, BucketRegistry
from flight_server.domain.dataset import DatasetTotals
from flight_server.domain.identity import Identity
from flight_server.domain.trial import EVAL_SETS, TRIALS
from flight_server.errors import InternalError
from flight_server.frames.requests import SystemPage
from flight_server.services.profile_table import PROFILES, ProfileTable
from flight_server.services.queries import Queries
from flight_server.services.sessions import SessionService

SYSTEM_SCHEMA = "sys"
"""The schema of the system tables; no bucket may have its name."""

_PAGE_ROWS = 10_000
_MOMENT = pa.timestamp("us", "UTC")
_NOTHING = DatasetTotals(0, 0, 0)

_Rows: TypeAlias = Iterable[Sequence[object]]
_Read: TypeAlias = Callable[["SystemTables", Identity, int | None], tuple[_Rows, int | None]]


@dataclass(frozen=True, slots=True)
class SystemTable:
    """The columns of a system table, and what reads a page of its rows; a view over datasets has none."""

    schema: pa.Schema
    read: _Read | None = None


class SystemTables:
    """Reads system tables; may be used from any thread."""

    def __init__(
        self,
        catalog: Catalog,
        registry: BucketRegistry,
        sessions: SessionService,
        queries: Queries,
        profile_table: ProfileTable,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._sessions = sessions
        self._queries = queries
        self._profiles = profile_table

    def page(self, identity: Identity, name: str, after: int | None) -> SystemPage:
        """Return a page of the table `sys.<name>` as an Arrow IPC stream.

        `after` is None for the first page, then what the page before said was `following`.
        """
        table = SYSTEM_TABLES[name]
        if table.read is None:
            raise InternalError(f"{name} is a view and has no rows of its own")
        rows, following = table.read(self, identity, after)
        columns = list(zip(*rows, strict=True)) or [()] * len(table.schema)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, table.schema.types, strict=True)]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=table.schema))
        return SystemPage(sink.getvalue().to_pybytes(), following)

    def _may_read(self, identity: Identity, written: str) -> bool:
        return identity.may("read", self._registry.canonical(written) or written)

    def _next(self, table: str, after: int | None) -> tuple[Sequence[Any], int | None]:
        rows = self._catalog.system_rows(table, after, _PAGE_ROWS)
        return rows, rows[-1][0] if len(rows) == _PAGE_ROWS else None

    def buckets(self, identity: Identity, _after: int | None) -> tuple[_Rows, None]:
        """Read `sys.buckets`."""
        used = self._catalog.quotas.used()
        rows = [
            (
                bucket.name,
                list(bucket.aliases),
                bucket.read_only,
                bucket.is_profile,
                not bucket.read_only and identity.may("write", bucket.name),
                sum(used.get(name, 0) for name in (bucket.name, *bucket.aliases)),
                bucket.quota_bytes,
            )
            for bucket in self._registry.visible(identity)
        ]
        return rows, None

    def datasets(self, identity: Identity, after: int | None) -> tuple[_Rows, int | None]:
        """Read `sys.datasets`, in the order in which the datasets arrived."""
        found, following = self._next("datasets", after)
        shown = [row for row in found if self._may_read(identity, row.bucket)]
        totals = self._catalog.totals(self._catalog.newest_commit(), [row.id for row in shown])
        rows = []
        for _, *columns, kind, shadowed_by, schema, definition in shown:
            held = totals.get(columns[3], _NOTHING)
            comment = declarations.comment(declarations.read(schema)) if schema else None
            counts = (held.rows, held.bytes, held.objects)
            rows.append((*columns, *counts, shadowed_by, kind, definition, comment))
        return rows, following

    def object_refs(self, identity: Identity, after: int | None) -> tuple[_Rows, int | None]:
        """Read `sys.object_refs`, in the order in which the refs were added."""
        found, following = self._next("object_refs", after)
        # A page has thousands of refs in a handful of buckets.
        may_read = cache(partial(self._may_read, identity))
        rows = [
            row[1:-1] for row in found if may_read(row.home) and may_read(self._place(row.bucket, row.key))
        ]
        return rows, following

    def _place(self, bucket: str, key: str) -> str:
        """Return the name of the bucket in which a ref's object lies, as it is written."""
        return self._registry.locate(bucket, key)[1] if "://" in key else bucket

    def commits(self, identity: Identity, after: int | None) -> tuple[_Rows, int | None]:
        """Read `sys.commits`; a commit is shown to those who may read every dataset it changed."""
        found, following = self._next("commits", after)
        if not found or identity.is_admin:
            return found, following
        changed = self._catalog.commit_buckets(found[0][0], found[-1][0])
        rows = [
            row
            for row in found
            if row[0] in changed and all(self._may_read(identity, name) for name in changed[row[0]])
        ]
        return rows, following

    def profiles(self, identity: Identity, _after: int | None) -> tuple[_Rows, None]:
        """Read `sys.profiles`."""
        return self._profiles.rows(identity), None

    def queries(self, identity: Identity, _after: int | None) -> tuple[_Rows, None]:
        """Read `sys.queries`, the oldest first."""
        rows = [
            (
                query.id,
                query.session_id,
                query.principal,
                query.bucket,
                query.sql,
                query.state.value,
                query.started_at,
                query.ended_at,
                query.progress,
                query.rows,
                query.bytes,
            )
            for query in self._queries.all(identity)
        ]
        return rows, None

    def sessions(self, identity: Identity, _after: int | None) -> tuple[_Rows, None]:
        """Read `sys.sessions`, those used longest ago first."""
        ticks, now = time.monotonic(), time.time_ns() // 1_000
        rows = [
            (
                session.id,
                session.principal,
                session.created_at,
                now - int((ticks - session.last_used) * 1_000_000),
                session.bucket or PRIMARY,
                list(session.schemas),
                session.transaction_id is not None,
                session.active_calls,
                list(map(str, session.holdings)),
            )
            for session in self._sessions.all(identity)
        ]
        return rows, None


def _schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    return pa.schema(list(columns.items()))


SYSTEM_TABLES: dict[str, SystemTable] = {
    f"{SYSTEM_SCHEMA}.buckets": SystemTable(
        _schema(
            {
                "name": pa.utf8(),
                "aliases": pa.list_(pa.utf8()),
                "read_only": pa.bool_(),
                "is_profile": pa.bool_(),
                "may_write": pa.bool_(),
                "used_bytes": pa.int64(),
                "quota_bytes": pa.int64(),
            }
        ),
        SystemTables.buckets,
    ),
    f"{SYSTEM_SCHEMA}.commits": SystemTable(
        _schema({"id": pa.int64(), "at": _MOMENT, "principal": pa.utf8(), "summary": pa.utf8()}),
        SystemTables.commits,
    ),
    f"{SYSTEM_SCHEMA}.datasets": SystemTable(
        _schema(
            {
                "namespace": pa.utf8(),
                "bucket": pa.utf8(),
                "name": pa.utf8(),
                "id": pa.utf8(),
                "version": pa.int64(),
                "commit": pa.int64(),
                "created_at": _MOMENT,
                "changed_at": _MOMENT,
                "rows": pa.int64(),
                "bytes": pa.int64(),
                "objects": pa.int64(),
                "shadowed_by": pa.utf8(),
                "kind": pa.utf8(),
                "definition": pa.utf8(),
                "comment": pa.utf8(),
            }
        ),
        SystemTables.datasets,
    ),
    f"{SYSTEM_SCHEMA}.eval_sets": SystemTable(EVAL_SETS),
    f"{SYSTEM_SCHEMA}.object_refs": SystemTable(
        _schema(
            {
                "dataset_id": pa.utf8(),
                "namespace": pa.utf8(),
                "dataset": pa.utf8(),
                "bucket": pa.utf8(),
                "key": pa.utf8(),
                "rows": pa.int64(),
                "bytes": pa.int64(),
                "checksum": pa.utf8(),
                "added_version": pa.int64(),
                "removed_version": pa.int64(),
                "managed": pa.bool_(),
            }
        ),
        SystemTables.object_refs,
    ),
    f"{SYSTEM_SCHEMA}.profiles": SystemTable(PROFILES, SystemTables.profiles),
    f"{SYSTEM_SCHEMA}.queries": SystemTable(
        _schema(
            {
                "id": pa.utf8(),
                "session_id": pa.utf8(),
                "principal": pa.utf8(),
                "bucket": pa.utf8(),
                "sql": pa.utf8(),
                "state": pa.utf8(),
                "started_at": _MOMENT,
                "ended_at": _MOMENT,
                "progress": pa.float64(),
                "rows": pa.int64(),
                "bytes": pa.int64(),
            }
        ),
        SystemTables.queries,
    ),
    f"{SYSTEM_SCHEMA}.sessions": SystemTable(
        _schema(
            {
                "id": pa.utf8(),
                "principal": pa.utf8(),
                "created_at": _MOMENT,
                "last_used_at": _MOMENT,
                "bucket": pa.utf8(),
                "schemas": pa.list_(pa.utf8()),
                "in_transaction": pa.bool_(),
                "calls": pa.int64(),
                "holds": pa.list_(pa.utf8()),
            }
        ),
        SystemTables.sessions,
    ),
    f"{SYSTEM_SCHEMA}.trials": SystemTable(TRIALS),
}
"""Qualified name → system table, in order of name; columns are described in docs/reference."""
