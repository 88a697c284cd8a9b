"""Tickets and the FlightInfo that carries them.

A ticket is a serialized Any: `TicketStatementQuery` for rows of a statement, the command itself
for metadata.
"""

from dataclasses import dataclass
from typing import TypeAlias

from flight_server.flight.wire import commands, messages

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be fetched: the schema (encapsulated IPC message) and the ticket."""

    schema: bytes
    ticket: bytes


@dataclass(frozen=True, slots=True)
class StatementTicket:
    """Fetch the rows of a statement by its handle."""

    handle: bytes


Ticket: TypeAlias = StatementTicket | commands.Command


def encode_statement(handle: bytes) -> bytes:
    """Return the ticket that fetches the rows of a statement."""
    return messages.pack("TicketStatementQuery", statement_handle=handle)


def encode_sql_info(codes: frozenset[int]) -> bytes:
    """Return the ticket that fetches SqlInfo rows."""
    return messages.pack("CommandGetSqlInfo", info=sorted(codes))


def decode(request: bytes) -> Ticket:
    """Decode a serialized `Ticket`.

    Raises InvalidArgumentError or UnimplementedError when it is not one that this server made.
    """
    name, value = messages.unpack(messages.parse("Ticket", request).ticket)
    if name == "TicketStatementQuery":
        return StatementTicket(messages.parse(name, value).statement_handle)
    return commands.decode_message(name, value)


def encode_info(descriptor: bytes, answer: Answer) -> bytes:
    """Return a serialized FlightInfo with one endpoint on this same connection.

    `descriptor` is the request's serialized FlightDescriptor, echoed as it came.
    """
    endpoint = messages.create("FlightEndpoint", ticket=messages.create("Ticket", ticket=answer.ticket))
    return messages.encode(
        "FlightInfo",
        schema=answer.schema,
        flight_descriptor=descriptor,
        endpoint=[endpoint],
        total_records=_UNKNOWN,
        total_bytes=_UNKNOWN,
    )
