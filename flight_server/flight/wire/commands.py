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


@dataclass(frozen=True, slots=True)
class GetCatalogs:
    """List the catalogs."""


@dataclass(frozen=True, slots=True)
class GetDbSchemas:
    """List schemas; None does not filter."""

    catalog: str | None
    db_schema_filter_pattern: str | None


@dataclass(frozen=True, slots=True)
class GetTables:
    """List tables; None, and no table types, do not filter."""

    catalog: str | None
    db_schema_filter_pattern: str | None
    table_name_filter_pattern: str | None
    table_types: tuple[str, ...]
    include_schema: bool


@dataclass(frozen=True, slots=True)
class GetTableTypes:
    """List the types that tables have."""


Command: TypeAlias = (
    DatasetPath
    | StatementQuery
    | StatementUpdate
    | PreparedStatementQuery
    | PreparedStatementUpdate
    | StatementIngest
    | GetSqlInfo
    | GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
)

Metadata: TypeAlias = GetCatalogs | GetDbSchemas | GetTables | GetTableTypes

PATH, _CMD = 1, 2


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


def _present(message: Any, field: str) -> Any:
    """Return an optional field, None when it is absent; a filter that is empty is not absent."""
    return getattr(message, field) if message.HasField(field) else None


def _tables(message: Any) -> GetTables:
    return GetTables(
        catalog=_present(message, "catalog"),
        db_schema_filter_pattern=_present(message, "db_schema_filter_pattern"),
        table_name_filter_pattern=_present(message, "table_name_filter_pattern"),
        table_types=tuple(message.table_types),
        include_schema=message.include_schema,
    )


_DECODERS: Mapping[str, Callable[[Any], Command]] = {
    "CommandStatementQuery": lambda m: StatementQuery(m.query, m.transaction_id or None),
    "CommandStatementUpdate": lambda m: StatementUpdate(m.query, m.transaction_id or None),
    "CommandPreparedStatementQuery": lambda m: PreparedStatementQuery(m.prepared_statement_handle),
    "CommandPreparedStatementUpdate": lambda m: PreparedStatementUpdate(m.prepared_statement_handle),
    "CommandStatementIngest": _ingest,
    "CommandGetSqlInfo": lambda m: GetSqlInfo(frozenset(m.info)),
    "CommandGetCatalogs": lambda _: GetCatalogs(),
    "CommandGetDbSchemas": lambda m: GetDbSchemas(
        _present(m, "catalog"), _present(m, "db_schema_filter_pattern")
    ),
    "CommandGetTables": _tables,
    "CommandGetTableTypes": lambda _: GetTableTypes(),
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
    if message.type == PATH:
        return DatasetPath(tuple(message.path))
    raise InvalidArgumentError("the flight descriptor has neither a path nor a command")
