"""Queries in the background: begin one, ask how far it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.domain.statement import PollStatus, SqlStatement
from flight_server.flight.routes import PollHandler
from flight_server.flight.wire.commands import PreparedStatementQuery, RunningQuery, StatementQuery
from flight_server.flight.wire.tickets import Polled, answer_to, encode_poll_descriptor

if TYPE_CHECKING:
    from flight_server.services.polls import PollService
    from flight_server.services.prepared import PreparedService
    from flight_server.services.query import QueryService


@dataclass(frozen=True, slots=True)
class PollHandlers:
    """Answers PollFlightInfo for statements."""

    query: "QueryService"
    prepared: "PreparedService"
    polls: "PollService"

    @property
    def commands(self) -> dict[type, PollHandler]:
        """Return what is polled → its handler."""
        return {
            StatementQuery: self.statement,
            PreparedStatementQuery: self.prepared_statement,
            RunningQuery: self.running,
        }

    async def statement(self, call: CallContext, command: StatementQuery) -> Polled:
        """Begin to run a query."""
        plan = await self.query.plan(call, SqlStatement(command.query, command.transaction_id))
        return _polled(await self.polls.start(call, plan))

    async def prepared_statement(self, call: CallContext, command: PreparedStatementQuery) -> Polled:
        """Begin to run a prepared query with the parameters bound last."""
        return _polled(await self.polls.start(call, await self.prepared.plan(call, command.handle)))

    async def running(self, call: CallContext, command: RunningQuery) -> Polled:
        """Tell how far a query is."""
        return _polled(await self.polls.poll(call, command.handle))


def _polled(status: PollStatus) -> Polled:
    return Polled(
        answer_to(status.plan),
        encode_poll_descriptor(status.handle) if status.handle is not None else None,
        status.progress,
        status.expires,
    )
