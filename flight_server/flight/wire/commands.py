"""What a FlightDescriptor asks for: bytes → one frozen value per command."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from flight_server.errors import InvalidArgumentError, UnimplementedError
from flight_server.flight.wire import messages


@dataclass(frozen=True, slots=True)
class DatasetPath:
    """A descriptor by path: `[dataset]` or `[bucket, dataset]`."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatementQuery:
    """Run a query; None stands for no transaction."""

    query: str
    transaction_id: bytes | None


@dataclass(frozen=True, slots=True)
class StatementUpdate:
    """Run a statement that changes something; None stands for no transaction."""

    query: str
    transaction_id: bytes | None


@dataclass(frozen=True, slots=True)
class PreparedStatementQuery:
    """Run a prepared query, or (DoPut) bind its parameters."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class PreparedStatementUpdate:
    """Run a prepared statement that changes something, once per row of parameters."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class StatementIngest:
    """Load a stream into a table; the options are the numbers of TableDefinitionOptions."""

    table: str
    schema: str | None
    catalog: str | None
    if_not_exist: int
    if_exists: int
    temporary: bool
    transaction_id: bytes | None


@dataclass(frozen=True, slots=True)
class GetSqlInfo:
    """Describe the server; no codes stand for all of them."""

    codes: frozenset[int]


Command: TypeAlias = (
    DatasetPath
    | StatementQuery
    | StatementUpdate
    | PreparedStatementQuery
    | PreparedStatementUpdate
    | StatementIngest
    | GetSqlInfo
)

_PATH, _CMD = 1, 2


def _ingest(message: Any) -> StatementIngest:
    options = message.table_definition_options
    return StatementIngest(
        table=message.table,
        schema=message.schema or None,
        catalog=message.catalog or None,
        if_not_exist=options.if_not_exist,
        if_exists=options.if_exists,
        temporary=message.temporary,
        transaction_id=message.transaction_id or None,
    )


_DECODERS: Mapping[str, Callable[[Any], Command]] = {
    "CommandStatementQuery": lambda m: StatementQuery(m.query, m.transaction_id or None),
    "CommandStatementUpdate": lambda m: StatementUpdate(m.query, m.transaction_id or None),
    "CommandPreparedStatementQuery": lambda m: PreparedStatementQuery(m.prepared_statement_handle),
    "CommandPreparedStatementUpdate": lambda m: PreparedStatementUpdate(m.prepared_statement_handle),
    "CommandStatementIngest": _ingest,
    "CommandGetSqlInfo": lambda m: GetSqlInfo(frozenset(m.info)),
}


def decode_message(name: str, value: bytes) -> Command:
    """Decode the command message of that name.

    Raises UnimplementedError for a command that is not served, InvalidArgumentError for bytes
    that are no such message.
    """
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise UnimplementedError(f"the command {name[:100]!r} is not served here")
    return decoder(messages.parse(name, value))


def decode(descriptor: bytes) -> Command:
    """Decode a serialized FlightDescriptor.

    Raises InvalidArgumentError or UnimplementedError, see `decode_message`.
    """
    message = messages.parse("FlightDescriptor", descriptor)
    if message.type == _CMD:
        return decode_message(*messages.unpack(message.cmd))
    if message.type == _PATH:
        return DatasetPath(tuple(message.path))
    raise InvalidArgumentError("the flight descriptor has neither a path nor a command")
