"""What the server is and can do (CommandGetSqlInfo)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.flight.routes import Messages
from flight_server.flight.wire.commands import GetSqlInfo
from flight_server.flight.wire.tickets import Answer, encode_sql_info
from flight_server.services.metadata import SQL_INFO, all_codes

if TYPE_CHECKING:
    from flight_server.services.metadata import MetadataService


@dataclass(frozen=True, slots=True)
class SqlInfoHandlers:
    """Answers CommandGetSqlInfo."""

    metadata: "MetadataService"

    async def info(self, call: CallContext, command: GetSqlInfo) -> Answer:
        """Return the fixed schema and the command itself, with its codes written out, as the ticket."""
        return Answer(SQL_INFO, encode_sql_info(command.codes or all_codes(call)))

    async def schema(self, _: CallContext, __: GetSqlInfo) -> bytes:
        """Return the fixed schema."""
        return SQL_INFO

    def stream(self, call: CallContext, command: GetSqlInfo) -> Messages:
        """Stream the rows of the codes asked for."""
        return self.metadata.sql_info(command.codes or all_codes(call))
