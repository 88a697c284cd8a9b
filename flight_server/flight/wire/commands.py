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
class RunningQuery:
    """Ask how far a polled query is; PollFlightInfo alone serves it."""

    handle: bytes


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


@dataclass(frozen=True, slots=True)
class GetXdbcTypeInfo:
    """Describe the types of SQL; None stands for all of them."""

    data_type: int | None


@dataclass(frozen=True, slots=True)
class GetPrimaryKeys:
    """List the primary key of a table; a catalog or schema that is None may be any."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetExportedKeys:
    """List the foreign keys that refer to a table."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetImportedKeys:
    """List the foreign keys of a table."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetCrossReference:
    """List the foreign keys of the table `fk_…` that refer to the table `pk_…`."""

    pk_catalog: str | None
    pk_db_schema: str | None
    pk_table: str
    fk_catalog: str | None
    fk_db_schema: str | None
    fk_table: str


Command: TypeAlias = (
    DatasetPath
    | StatementQuery
    | StatementUpdate
    | PreparedStatementQuery
    | PreparedStatementUpdate
    | StatementIngest
    | RunningQuery
    | GetSqlInfo
    | GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
    | GetXdbcTypeInfo
    | GetPrimaryKeys
    | GetExportedKeys
    | GetImportedKeys
    | GetCrossReference
)

Metadata: TypeAlias = (
    GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
    | GetXdbcTypeInfo
    | GetPrimaryKeys
    | GetExportedKeys
    | GetImportedKeys
    | GetCrossReference
)

PATH, CMD = 1, 2


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


def _keyed(make: Callable[[str | None, str | None, str], Command]) -> Callable[[Any], Command]:
    """Return the decoder of a command that asks for the keys of one table."""
    return lambda message: make(_present(message, "catalog"), _present(message, "db_schema"), message.table)


def _cross_reference(message: Any) -> GetCrossReference:
    return GetCrossReference(
        pk_catalog=_present(message, "pk_catalog"),
        pk_db_schema=_present(message, "pk_db_schema"),
        pk_table=message.pk_table,
        fk_catalog=_present(message, "fk_catalog"),
        fk_db_schema=_present(message, "fk_db_schema"),
        fk_table=message.fk_table,
    )


_DECODERS: Mapping[str, Callable[[Any], Command]] = {
    "CommandStatementQuery": lambda m: StatementQuery(m.query, m.transaction_id or None),
    "CommandStatementUpdate": lambda m: StatementUpdate(m.query, m.transaction_id or None),
    "CommandPreparedStatementQuery": lambda m: PreparedStatementQuery(m.prepared_statement_handle),
    "CommandPreparedStatementUpdate": lambda m: PreparedStatementUpdate(m.prepared_statement_handle),
    "CommandStatementIngest": _ingest,
    "TicketStatementQuery": lambda m: RunningQuery(m.statement_handle),
    "CommandGetSqlInfo": lambda m: GetSqlInfo(frozenset(m.info)),
    "CommandGetCatalogs": lambda _: GetCatalogs(),
    "CommandGetDbSchemas": lambda m: GetDbSchemas(
        _present(m, "catalog"), _present(m, "db_schema_filter_pattern")
    ),
    "CommandGetTables": _tables,
    "CommandGetTableTypes": lambda _: GetTableTypes(),
    "CommandGetXdbcTypeInfo": lambda m: GetXdbcTypeInfo(_present(m, "data_type")),
    "CommandGetPrimaryKeys": _keyed(GetPrimaryKeys),
    "CommandGetExportedKeys": _keyed(GetExportedKeys),
    "CommandGetImportedKeys": _keyed(GetImportedKeys),
    "CommandGetCrossReference": _cross_reference,
}


_REFUSED: Mapping[str, str] = {
    "CommandStatementSubstraitPlan": "is not served: Substrait is not, send SQL in CommandStatementQuery"
}


def decode_message(name: str, value: bytes) -> Command:
    """Decode the command message of that name.

    Raises UnimplementedError for a command that is not served, InvalidArgumentError for bytes
    that are no such message.
    """
    decoder = _DECODERS.get(name)
    if decoder is None:
        why = _REFUSED.get(name, "is not served here")
        raise UnimplementedError(f"the command {name[:100]!r} {why}")
    return decoder(messages.parse(name, value))


def decode(descriptor: bytes) -> Command:
    """Decode a serialized FlightDescriptor.

    Raises InvalidArgumentError or UnimplementedError, see `decode_message`.
    """
    message = messages.parse("FlightDescriptor", descriptor)
    if message.type == CMD:
        return decode_message(*messages.unpack(message.cmd))
    if message.type == PATH:
        return DatasetPath(tuple(message.path))
    raise InvalidArgumentError("the flight descriptor has neither a path nor a command")
