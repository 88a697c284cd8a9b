"""What there is to query: catalogs, schemas, tables with their keys, and the types of SQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.flight.routes import Messages, StreamHandler
from flight_server.flight.wire.commands import (
    GetCatalogs,
    GetCrossReference,
    GetDbSchemas,
    GetExportedKeys,
    GetImportedKeys,
    GetPrimaryKeys,
    GetTables,
    GetTableTypes,
    GetXdbcTypeInfo,
    Metadata,
)
from flight_server.flight.wire.tickets import Answer, encode_metadata
from flight_server.services import keys, tables, xdbc_types
from flight_server.services.keys import KeyedTable
from flight_server.services.tables import SchemaFilter, TableFilter

if TYPE_CHECKING:
    from flight_server.services.keys import KeyService
    from flight_server.services.tables import TableService

_SCHEMAS = {
    GetCatalogs: tables.CATALOGS,
    GetDbSchemas: tables.DB_SCHEMAS,
    GetTables: tables.TABLES,
    GetTableTypes: tables.TABLE_TYPES,
    GetXdbcTypeInfo: xdbc_types.SCHEMA,
    GetPrimaryKeys: keys.PRIMARY_KEYS,
    GetExportedKeys: keys.FOREIGN_KEYS,
    GetImportedKeys: keys.FOREIGN_KEYS,
    GetCrossReference: keys.FOREIGN_KEYS,
}


@dataclass(frozen=True, slots=True)
class MetadataHandlers:
    """Answers the commands that describe what there is to query; their tickets are the commands."""

    tables: "TableService"
    keys: "KeyService"

    @property
    def streams(self) -> Mapping[type, StreamHandler]:
        """The commands served here, each with what streams its rows."""
        return {
            GetCatalogs: self._catalogs,
            GetDbSchemas: self._db_schemas,
            GetTables: self._tables,
            GetTableTypes: self._table_types,
            GetXdbcTypeInfo: self._type_info,
            GetPrimaryKeys: self._primary_keys,
            GetExportedKeys: self._exported_keys,
            GetImportedKeys: self._imported_keys,
            GetCrossReference: self._cross_reference,
        }

    async def info(self, call: CallContext, command: Metadata) -> Answer:
        """Return the fixed schema and the command itself as the ticket."""
        return Answer(await self.schema(call, command), encode_metadata(command))

    async def schema(self, _: CallContext, command: Metadata) -> bytes:
        """Return the fixed schema."""
        with_schema = isinstance(command, GetTables) and command.include_schema
        schema = tables.TABLES_WITH_SCHEMA if with_schema else _SCHEMAS[type(command)]
        return schema.serialize().to_pybytes()

    def _catalogs(self, call: CallContext, _: GetCatalogs) -> Messages:
        return self.tables.catalogs(call)

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

    async def _type_info(self, _: CallContext, command: GetXdbcTypeInfo) -> Messages:
        for message in xdbc_types.type_info(command.data_type):
            yield message

    def _primary_keys(self, call: CallContext, command: GetPrimaryKeys) -> Messages:
        return self.keys.primary(call, _table(command))

    def _exported_keys(self, call: CallContext, command: GetExportedKeys) -> Messages:
        return self.keys.exported(call, _table(command))

    def _imported_keys(self, call: CallContext, command: GetImportedKeys) -> Messages:
        return self.keys.imported(call, _table(command))

    def _cross_reference(self, call: CallContext, command: GetCrossReference) -> Messages:
        parent = KeyedTable(command.pk_catalog, command.pk_db_schema, command.pk_table)
        foreign = KeyedTable(command.fk_catalog, command.fk_db_schema, command.fk_table)
        return self.keys.crossing(call, parent, foreign)


def _table(command: GetPrimaryKeys | GetExportedKeys | GetImportedKeys) -> KeyedTable:
    return KeyedTable(command.catalog, command.db_schema, command.table)
