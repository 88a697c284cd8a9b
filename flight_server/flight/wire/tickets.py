"""Tickets and the FlightInfo that carries them.

A ticket is a serialized Any: `TicketStatementQuery` for rows of a statement, the command itself
for metadata.
"""

import builtins
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from flight_server.domain.statement import Plan
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire import commands, messages

_LONGEST_METADATA = 1_024
"""Bytes of the metadata of a FlightInfo of ours, at most."""

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be fetched: the schema (encapsulated IPC message) and the ticket, empty for nothing.

    `rows` and `bytes` are None where they are not known. The ticket is good until `expires`, in
    seconds since 1970 UTC (None: for ever); `query_id` is what its statement can be cancelled by.
    """

    schema: builtins.bytes
    ticket: builtins.bytes
    rows: int | None = None
    bytes: int | None = None
    expires: float | None = None
    query_id: str | None = None


@dataclass(frozen=True, slots=True)
class Polled:
    """How far a polled query is: complete when there is no `descriptor` to poll with.

    `progress` is 0 to 1, None where it is not known; `expires` in seconds since 1970 UTC.
    """

    answer: Answer
    descriptor: builtins.bytes | None = None
    progress: float | None = None
    expires: float | None = None


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


def answer_to(plan: Plan) -> Answer:
    """Return what is said of a planned statement."""
    return Answer(
        plan.schema,
        encode_statement(plan.handle) if plan.handle else b"",
        plan.rows,
        plan.bytes,
        plan.expires,
        plan.query_id,
    )


def decode(request: bytes) -> Ticket:
    """Decode a serialized `Ticket`.

    Raises InvalidArgumentError or UnimplementedError when it is not one that this server made.
    """
    name, value = messages.unpack(messages.parse("Ticket", request).ticket)
    if name == "TicketStatementQuery":
        return StatementTicket(messages.parse(name, value).statement_handle)
    return commands.decode_message(name, value)


def encode_info(descriptor: bytes, answer: Answer) -> bytes:
    """Return a serialized FlightInfo with one endpoint on this same connection, none without a ticket.

    `descriptor` is the request's serialized FlightDescriptor, echoed as it came.
    """
    endpoints = [_endpoint(answer.ticket, answer.expires)] if answer.ticket else []
    return _encode_info(descriptor, answer, endpoints)


def _encode_info(descriptor: bytes, answer: Answer, endpoints: Sequence[Any]) -> bytes:
    return messages.encode(
        "FlightInfo",
        schema=answer.schema,
        flight_descriptor=descriptor,
        endpoint=endpoints,
        total_records=_UNKNOWN if answer.rows is None else answer.rows,
        total_bytes=_UNKNOWN if answer.bytes is None else answer.bytes,
        app_metadata=b"" if answer.query_id is None else json.dumps({"query_id": answer.query_id}).encode(),
    )


def _endpoint(ticket: bytes, expires: float | None) -> Any:
    expiration = {} if expires is None else {"expiration_time": _timestamp(expires)}
    return messages.create("FlightEndpoint", ticket=messages.create("Ticket", ticket=ticket), **expiration)


def _timestamp(seconds: float) -> Any:
    whole, part = divmod(seconds, 1)
    return messages.create("Timestamp", seconds=int(whole), nanos=int(part * 1_000_000_000))


def encode_endpoint(ticket: bytes, expires: float) -> bytes:
    """Return a serialized FlightEndpoint whose ticket is good until a moment in seconds since 1970 UTC."""
    data: bytes = _endpoint(ticket, expires).SerializeToString()
    return data


def encode_poll(descriptor: bytes, polled: Polled) -> bytes:
    """Return a serialized PollInfo; what is not complete has an info without endpoints yet."""
    if polled.descriptor is None:
        return messages.encode("PollInfo", info=encode_info(descriptor, polled.answer))
    known = {} if polled.progress is None else {"progress": polled.progress}
    expiration = {} if polled.expires is None else {"expiration_time": _timestamp(polled.expires)}
    return messages.encode(
        "PollInfo",
        info=_encode_info(descriptor, polled.answer, []),
        flight_descriptor=polled.descriptor,
        **known,
        **expiration,
    )


def encode_poll_descriptor(handle: bytes) -> bytes:
    """Return the serialized FlightDescriptor to poll with; its command looks like a statement's ticket."""
    return messages.encode("FlightDescriptor", type=commands.CMD, cmd=encode_statement(handle))


def decode_info(info: Any) -> tuple[bytes | None, str | None]:
    """Return the statement handle and the query id of a parsed FlightInfo, None where it has none of ours."""
    handle = next((endpoint_handle(endpoint) for endpoint in info.endpoint), None)
    known = info.app_metadata if len(info.app_metadata) <= _LONGEST_METADATA else b""
    try:
        query_id = json.loads(known or b"{}")["query_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        query_id = None
    return handle, query_id if isinstance(query_id, str) else None


def endpoint_handle(endpoint: Any) -> bytes | None:
    """Return the statement handle in a parsed FlightEndpoint's ticket, None when it has none."""
    try:
        name, value = messages.unpack(endpoint.ticket.ticket)
        is_statement = name == "TicketStatementQuery"
        return messages.parse(name, value).statement_handle if is_statement else None
    except InvalidArgumentError:
        return None
