"""What there is to query: catalogs, schemas, tables and their types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.flight.routes import Messages, StreamHandler
from flight_server.flight.wire.commands import GetCatalogs, GetDbSchemas, GetTables, GetTableTypes, Metadata
from flight_server.flight.wire.tickets import Answer, encode_metadata
from flight_server.services import tables
from flight_server.services.tables import SchemaFilter, TableFilter

if TYPE_CHECKING:
    from flight_server.services.tables import TableService

_SCHEMAS = {
    GetCatalogs: tables.CATALOGS,
    GetDbSchemas: tables.DB_SCHEMAS,
    GetTables: tables.TABLES,
    GetTableTypes: tables.TABLE_TYPES,
}


@dataclass(frozen=True, slots=True)
class MetadataHandlers:
    """Answers the commands that describe what there is to query; their tickets are the commands."""

    tables: "TableService"

    @property
    def streams(self) -> Mapping[type, StreamHandler]:
        """The commands served here, each with what streams its rows."""
        return {
            GetCatalogs: self._catalogs,
            GetDbSchemas: self._db_schemas,
            GetTables: self._tables,
            GetTableTypes: self._table_types,
        }

    async def info(self, call: CallContext, command: Metadata) -> Answer:
        """Return the fixed schema and the command itself as the ticket."""
        return Answer(await self.schema(call, command), encode_metadata(command))

    async def schema(self, _: CallContext, command: Metadata) -> bytes:
        """Return the fixed schema."""
        with_schema = isinstance(command, GetTables) and command.include_schema
        schema = tables.TABLES_WITH_SCHEMA if with_schema else _SCHEMAS[type(command)]
        return schema.serialize().to_pybytes()

    def _catalogs(self, _: CallContext, __: GetCatalogs) -> Messages:
        return self.tables.catalogs()

    def _db_schemas(self, call: CallContext, command: GetDbSchemas) -> Messages:
        return self.tables.db_schemas(call, SchemaFilter(command.catalog, command.db_schema_filter_pattern))

    def _tables(self, call: CallContext, command: GetTables) -> Messages:
        wanted = TableFilter(
            SchemaFilter(command.catalog, command.db_schema_filter_pattern),
            command.table_name_filter_pattern,
            command.table_types,
            command.include_schema,
        )
        return self.tables.tables(call, wanted)

    def _table_types(self, _: CallContext, __: GetTableTypes) -> Messages:
        return self.tables.table_types()
