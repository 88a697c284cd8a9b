"""Statements by their SQL text: query, fetch, update."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.domain.statement import SqlStatement
from flight_server.flight.routes import Messages
from flight_server.flight.wire import messages
from flight_server.flight.wire.commands import StatementQuery, StatementUpdate
from flight_server.flight.wire.tickets import Answer, StatementTicket, answer_to

if TYPE_CHECKING:
    from flight_server.services.query import QueryService


@dataclass(frozen=True, slots=True)
class StatementHandlers:
    """Answers CommandStatementQuery, CommandStatementUpdate and the tickets of all statements."""

    query: "QueryService"

    async def info(self, call: CallContext, command: StatementQuery) -> Answer:
        """Plan a query."""
        plan = await self.query.plan(call, SqlStatement(command.query, command.transaction_id))
        return answer_to(plan)

    async def schema(self, call: CallContext, command: StatementQuery) -> bytes:
        """Return the schema of a query's rows.

        It is prepared, not planned: GetSchema must not execute, and planning executes updates.
        """
        return await self.query.schema(call, SqlStatement(command.query, command.transaction_id))

    def stream(self, call: CallContext, ticket: StatementTicket) -> Messages:
        """Stream the rows of a planned statement."""
        return self.query.stream(call, ticket.handle)

    async def update(self, call: CallContext, command: StatementUpdate, _: Messages) -> bytes:
        """Run a statement and return its count; what else the client sends is not read."""
        rows = await self.query.update(call, SqlStatement(command.query, command.transaction_id))
        return messages.encode("DoPutUpdateResult", record_count=rows)
