"""Tickets and the FlightInfo that carries them.

A ticket is a serialized Any: `TicketStatementQuery` for rows of a statement, the command itself
for metadata.
"""

import builtins
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from flight_server.flight.wire import commands, messages

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be fetched: the schema (encapsulated IPC message) and the ticket.

    `rows` and `bytes` are None where they are not known.
    """

    schema: builtins.bytes
    ticket: builtins.bytes
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StatementTicket:
    """Fetch the rows of a statement by its handle."""

    handle: bytes


Ticket: TypeAlias = StatementTicket | commands.Command


def encode_path(path: Sequence[str]) -> bytes:
    """Return a serialized FlightDescriptor by path."""
    return messages.encode("FlightDescriptor", type=commands.PATH, path=list(path))


def encode_statement(handle: bytes) -> bytes:
    """Return the ticket that fetches the rows of a statement."""
    return messages.pack("TicketStatementQuery", statement_handle=handle)


def encode_metadata(command: commands.Metadata) -> bytes:
    """Return the ticket that fetches the rows of a metadata command: the command itself."""
    present = {name: value for name, value in asdict(command).items() if value is not None}
    return messages.pack(f"Command{type(command).__name__}", **present)


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
        total_records=_UNKNOWN if answer.rows is None else answer.rows,
        total_bytes=_UNKNOWN if answer.bytes is None else answer.bytes,
    )
