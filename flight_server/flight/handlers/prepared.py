"""Prepared statements: create, bind, run, close."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.domain.statement import SqlStatement
from flight_server.flight.routes import Messages
from flight_server.flight.wire import messages
from flight_server.flight.wire.actions import unpack_request
from flight_server.flight.wire.commands import PreparedStatementQuery, PreparedStatementUpdate
from flight_server.flight.wire.tickets import Answer, answer_to

if TYPE_CHECKING:
    from flight_server.services.prepared import PreparedService


@dataclass(frozen=True, slots=True)
class PreparedHandlers:
    """Answers the commands and actions of prepared statements."""

    prepared: "PreparedService"

    async def create(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Prepare a statement."""
        request = unpack_request("ActionCreatePreparedStatementRequest", body)
        statement = await self.prepared.create(
            call, SqlStatement(request.query, request.transaction_id or None)
        )
        result = messages.pack(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=statement.handle,
            dataset_schema=statement.dataset_schema,
            parameter_schema=statement.parameter_schema,
            is_update=statement.is_update,
        )
        return (result,)

    async def close(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Drop a prepared statement."""
        request = unpack_request("ActionClosePreparedStatementRequest", body)
        await self.prepared.close(call, request.prepared_statement_handle)
        return ()

    async def info(self, call: CallContext, command: PreparedStatementQuery) -> Answer:
        """Plan a prepared query with the parameters bound last."""
        plan = await self.prepared.plan(call, command.handle)
        return answer_to(plan)

    async def schema(self, call: CallContext, command: PreparedStatementQuery) -> bytes:
        """Return the schema of a prepared query's rows."""
        return await self.prepared.schema(call, command.handle)

    async def bind(self, call: CallContext, command: PreparedStatementQuery, sent: Messages) -> bytes:
        """Bind parameters and return the handle that stands for the statement with them."""
        handle = await self.prepared.bind(call, command.handle, sent)
        return messages.encode("DoPutPreparedStatementResult", prepared_statement_handle=handle)

    async def update(self, call: CallContext, command: PreparedStatementUpdate, sent: Messages) -> bytes:
        """Run a prepared statement once per row of parameters and return the sum of its counts."""
        rows = await self.prepared.update(call, command.handle, sent)
        return messages.encode("DoPutUpdateResult", record_count=rows)
