"""Prepared statements: the handle carries the statement, and the parameters bound to it.

Binding answers with a new handle. Older drivers go on with the first one: what was bound to that last is
remembered too, within a budget.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from flight_server.domain.call import CallContext
from flight_server.domain.execution import Execution
from flight_server.domain.recent import RecentMap
from flight_server.domain.statement import Plan, PreparedStatement, SqlStatement
from flight_server.errors import ResourceExhaustedError
from flight_server.frames import flight_data
from flight_server.services.handles import Handles, Opened
from flight_server.services.query import QueryService
from flight_server.services.transactions import TransactionService

_KIND = "prepared"
_BOUND_BYTES = 64 * 1024 * 1024
_REMEMBERED = 10_000


class PreparedService:
    """Creates, binds, plans and closes prepared statements.

    `_worked` are the seconds that preparing took those that have not run yet.
    """

    def __init__(self, query: QueryService, transactions: TransactionService, handles: Handles) -> None:
        self._query = query
        self._transactions = transactions
        self._handles = handles
        self._bound: RecentMap[str, Sequence[bytes]] = RecentMap(_BOUND_BYTES)
        self._worked: RecentMap[str, float] = RecentMap(_REMEMBERED)

    async def create(self, call: CallContext, statement: SqlStatement) -> PreparedStatement:
        """Bind a statement once for its schemas and return its handle; nothing is run."""
        execution, prepared_id = Execution(), uuid.uuid4().hex
        planned = await self._query.prepare(call, statement, (), execution)
        transaction_id = statement.transaction_id
        fields = {
            "sql": statement.sql,
            "transaction": transaction_id.hex() if transaction_id else None,
            "digest": planned.digest,
            "id": prepared_id,
        }
        handle = self._handles.seal(_KIND, call, fields)
        self._worked.put(prepared_id, execution.worked)
        # Drivers that do not know `is_update` take a statement without a schema for an update.
        schema = b"" if planned.is_update else planned.schema
        return PreparedStatement(handle, schema, planned.parameters, planned.is_update)

    async def bind(self, call: CallContext, handle: bytes, messages: AsyncIterator[bytes]) -> bytes:
        """Return a handle of the same statement with parameters, sent as FlightData messages."""
        opened = self._handles.open(_KIND, call, handle)
        bound = await _bound(messages)
        self._bound.put(opened.fields["id"], bound, sum(map(len, bound)) + 1)
        return self._handles.seal(_KIND, call, opened.fields, bound)

    async def plan(self, call: CallContext, handle: bytes) -> Plan:
        """Plan the statement with the parameters bound last; one that has effects is run."""
        opened = self._handles.open(_KIND, call, handle)
        return await self._query.plan(call, self._executed(call, opened), self._parameters(opened))

    async def schema(self, call: CallContext, handle: bytes) -> bytes:
        """Return the schema of the statement's rows with the parameters bound last; nothing is run."""
        opened = self._handles.open(_KIND, call, handle)
        return (
            await self._query.prepare(
                call, self._statement(call, opened), self._parameters(opened), Execution()
            )
        ).schema

    async def update(self, call: CallContext, handle: bytes, messages: AsyncIterator[bytes]) -> int:
        """Run the statement as an update, once for each row of parameters; return the rows changed."""
        opened = self._handles.open(_KIND, call, handle)
        sent = await _bound(messages)
        return await self._query.update(call, self._executed(call, opened), sent or self._parameters(opened))

    async def close(self, call: CallContext, handle: bytes) -> None:
        """Forget the statement: there is nothing to forget, so closing twice is no error."""

    def _parameters(self, opened: Opened) -> Sequence[bytes]:
        return opened.messages or self._bound.get(opened.fields["id"]) or ()

    def _statement(self, call: CallContext, opened: Opened) -> SqlStatement:
        prepared_in = opened.fields["transaction"]
        # Drivers keep a prepared statement beyond the transaction that it was created in.
        transaction_id = (
            self._transactions.successor(call, bytes.fromhex(prepared_in)) if prepared_in else None
        )
        return SqlStatement(opened.fields["sql"], transaction_id, opened.fields["digest"])

    def _executed(self, call: CallContext, opened: Opened) -> SqlStatement:
        """Return the statement to run.

        What preparing it took counts for its first run: a client that sends both sees one statement.
        """
        worked = self._worked.pop(opened.fields["id"]) or 0.0
        return replace(self._statement(call, opened), worked=worked)


async def _bound(messages: AsyncIterator[bytes]) -> Sequence[bytes]:
    """Read parameters to their end; there are none when a client sends nothing but the command."""
    bound: list[bytes] = []
    size = 0
    async for message in messages:
        size += len(message)
        if size > _BOUND_BYTES:
            raise ResourceExhaustedError(
                f"parameters take more than {_BOUND_BYTES} bytes: load them into a table and join it"
            )
        bound.append(message)
    return bound if any(len(flight_data.parse(message).header) for message in bound) else ()
