"""Prepared statements: nothing is kept between calls, the handle carries the statement."""

from collections.abc import AsyncIterator, Sequence

from flight_server.domain.call import CallContext
from flight_server.domain.statement import Plan, PreparedStatement
from flight_server.errors import ResourceExhaustedError
from flight_server.services.handles import Handles, Opened
from flight_server.services.query import QueryService
from flight_server.services.transactions import TransactionService

_KIND = "prepared"
_BOUND_BYTES = 64 * 1024 * 1024


class PreparedService:
    """Creates, binds, plans and closes prepared statements."""

    def __init__(self, query: QueryService, transactions: TransactionService, handles: Handles) -> None:
        self._query = query
        self._transactions = transactions
        self._handles = handles

    async def create(self, call: CallContext, sql: str, transaction_id: bytes | None) -> PreparedStatement:
        """Bind a statement once for its schemas and return its handle."""
        planned = await self._query.prepare(call, sql, transaction_id)
        return PreparedStatement(
            self._seal(call, sql, transaction_id, ()), planned.schema, planned.parameters, is_update=False
        )

    async def bind(self, call: CallContext, handle: bytes, messages: AsyncIterator[bytes]) -> bytes:
        """Return a handle of the same statement with parameters, sent as FlightData messages."""
        sql, transaction_id, _ = self._open(call, handle)
        bound: list[bytes] = []
        size = 0
        async for message in messages:
            size += len(message)
            if size > _BOUND_BYTES:
                raise ResourceExhaustedError(
                    f"parameters take more than {_BOUND_BYTES} bytes: load them into a table and join it"
                )
            bound.append(message)
        return self._seal(call, sql, transaction_id, bound)

    async def plan(self, call: CallContext, handle: bytes) -> Plan:
        """Plan the statement with the parameters bound last."""
        sql, transaction_id, opened = self._open(call, handle)
        return await self._query.plan(call, sql, transaction_id, opened.messages)

    async def update(self, call: CallContext, handle: bytes, messages: AsyncIterator[bytes]) -> int:
        """Run the statement as an update, once for each row of parameters; return the rows changed."""
        sql, transaction_id, _ = self._open(call, handle)
        return await self._query.update(call, sql, transaction_id)

    async def close(self, call: CallContext, handle: bytes) -> None:
        """Forget the statement: there is nothing to forget, so closing twice is no error."""

    def _seal(
        self, call: CallContext, sql: str, transaction_id: bytes | None, messages: Sequence[bytes]
    ) -> bytes:
        fields = {"sql": sql, "transaction": transaction_id.hex() if transaction_id else None}
        return self._handles.seal(_KIND, call, fields, messages)

    def _open(self, call: CallContext, handle: bytes) -> tuple[str, bytes | None, Opened]:
        opened = self._handles.open(_KIND, call, handle)
        prepared_in = opened.fields["transaction"]
        # Drivers keep a prepared statement beyond the transaction that it was created in.
        transaction_id = (
            self._transactions.successor(call, bytes.fromhex(prepared_in)) if prepared_in else None
        )
        return opened.fields["sql"], transaction_id, opened
