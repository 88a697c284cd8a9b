"""Queries: planned at a commit, then streamed by whoever holds the ticket."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from flight_server.dispatch.dispatcher import Dispatcher, PlannedStatement, StatementRequest
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetTotals
from flight_server.domain.recent import RecentMap
from flight_server.domain.statement import Plan
from flight_server.errors import InvalidArgumentError
from flight_server.frames.requests import TableName
from flight_server.services.handles import Handles, Opened
from flight_server.services.resolution import Names, Snapshot, StatementResolution
from flight_server.services.transactions import TransactionService

_KIND = "statement"
_REMEMBERED_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Bounds on one statement: bytes of its text, seconds of work (None: no bound)."""

    statement_bytes: int
    timeout: float | None


class QueryService:
    """Plans and streams statements.

    `_names_by_sql` remembers which dataset names a text holds, so that they can be resolved
    before the engine process asks; it never decides what may be read. `_planned` remembers what
    a text over certain relations returns.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        names: Names,
        transactions: TransactionService,
        handles: Handles,
        limits: QueryLimits,
    ) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._transactions = transactions
        self._handles = handles
        self._limits = limits
        self._names_by_sql: RecentMap[str, tuple[TableName, ...]] = RecentMap(_REMEMBERED_BYTES)
        self._planned: RecentMap[object, PlannedStatement] = RecentMap(_REMEMBERED_BYTES)

    async def plan(
        self, call: CallContext, sql: str, transaction_id: bytes | None, parameters: Sequence[bytes] = ()
    ) -> Plan:
        """Bind a statement at the newest commit, or at its transaction's, and return its ticket."""
        snapshot = self._snapshot(call, transaction_id)
        planned = await self.bind(call, sql, snapshot, parameters)
        transaction = transaction_id.hex() if transaction_id and snapshot.changes else None
        fields = self._fields(call, sql, snapshot.commit) | {
            "transaction": transaction,
            "staged": len(snapshot.changes),
        }
        return Plan(planned.schema, self._handles.seal(_KIND, call, fields, parameters))

    async def plan_dataset(self, call: CallContext, path: Sequence[str]) -> Plan:
        """Plan reading all of one dataset, named by `[dataset]` or `[bucket, dataset]`."""
        snapshot = self._snapshot(call, None)
        planned = await self.bind(call, _whole(path), snapshot, ())
        resolution = StatementResolution(self._names, call.identity, self._names.search_path(call), snapshot)
        return self.seal_dataset(
            call, path, snapshot.commit, planned.schema, resolution.totals(TableName(tuple(path)))
        )

    def seal_dataset(
        self,
        call: CallContext,
        path: Sequence[str],
        commit: int,
        schema: bytes,
        totals: DatasetTotals | None,
    ) -> Plan:
        """Return the plan of reading all of a dataset at a commit, whose schema is known."""
        handle = self._handles.seal(_KIND, call, self._fields(call, _whole(path), commit))
        held = (totals.rows, totals.bytes) if totals else (None, None)
        return Plan(schema, handle, *held)

    def _fields(self, call: CallContext, sql: str, commit: int) -> dict[str, Any]:
        """Return what a ticket carries of a statement outside a transaction."""
        path = self._names.search_path(call)
        return {"sql": sql, "commit": commit, "path": path, "transaction": None, "staged": 0}

    async def update(self, call: CallContext, sql: str, transaction_id: bytes | None) -> int:
        """Run a statement that returns a count of rows."""
        await self.prepare(call, sql, transaction_id)
        raise InvalidArgumentError("this statement returns rows: send it as a query, not as an update")

    async def prepare(self, call: CallContext, sql: str, transaction_id: bytes | None) -> PlannedStatement:
        """Bind a statement without a ticket."""
        return await self.bind(call, sql, self._snapshot(call, transaction_id), ())

    async def bind(
        self, call: CallContext, sql: str, snapshot: Snapshot, parameters: Sequence[bytes]
    ) -> PlannedStatement:
        """Ask the engine process for the schemas of a statement."""
        self._check_length(sql)
        request = self._request(call, sql, self._names.search_path(call), snapshot, parameters)
        if parameters:
            return await self._dispatcher.plan(request)
        # Relations are immutable, so a text over the same relations always binds alike.
        key = (sql, tuple(request.relations.items()))
        planned = self._planned.get(key) if self._names_by_sql.get(sql) is not None else None
        if planned is None:
            planned = await self._dispatcher.plan(request)
            weight = len(sql) + len(planned.schema) + len(planned.parameters)
            self._names_by_sql.put(sql, planned.names, weight)
            self._planned.put(key, planned, weight)
        return planned

    def stream(self, call: CallContext, handle: bytes) -> AsyncIterator[bytes]:
        """Run the statement of a ticket; yield its FlightData messages, the schema first."""
        opened = self._handles.open(_KIND, call, handle)
        sql, path = opened.fields["sql"], opened.fields["path"]
        request = self._request(call, sql, path, self._opened_snapshot(call, opened), opened.messages)
        return self._dispatcher.stream(request)

    def _snapshot(self, call: CallContext, transaction_id: bytes | None) -> Snapshot:
        if transaction_id is None:
            return Snapshot(self._names.catalog.newest_commit())
        transaction = self._transactions.get(call, transaction_id)
        return Snapshot(self._transactions.snapshot(transaction), tuple(transaction.changes))

    def _opened_snapshot(self, call: CallContext, opened: Opened) -> Snapshot:
        commit, transaction_id = opened.fields["commit"], opened.fields["transaction"]
        if transaction_id is None:
            return Snapshot(commit)
        transaction = self._transactions.get_read(call, bytes.fromhex(transaction_id))
        return Snapshot(commit, tuple(transaction.changes[: opened.fields["staged"]]))

    def _request(
        self,
        call: CallContext,
        sql: str,
        search_path: Sequence[str],
        snapshot: Snapshot,
        parameters: Sequence[bytes],
    ) -> StatementRequest:
        resolution = StatementResolution(self._names, call.identity, search_path, snapshot)
        ahead = resolution.ahead(self._names_by_sql.get(sql) or ())
        return StatementRequest(sql, resolution, parameters, ahead, self._limits.timeout)

    def _check_length(self, sql: str) -> None:
        size = len(sql.encode())
        if size > self._limits.statement_bytes:
            raise InvalidArgumentError(
                f"the statement is {size} bytes long, at most {self._limits.statement_bytes} are read"
            )


def _whole(path: Sequence[str]) -> str:
    return "FROM " + ".".join('"' + part.replace('"', '""') + '"' for part in path)
