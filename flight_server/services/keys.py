"""Keys that tables declare: CommandGetPrimaryKeys and its three relatives.

A dataset comes into being by an upload, a registration or an import, and none of them declares a
key: so no table has one, and a table that does not exist has none either (JDBC expects no rows for
it, not an error). `KeyService` is the one place that answers; schemas and order of rows are those
of the reference implementations (arrow-go `schema_ref`).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pyarrow as pa

from flight_server.domain.call import CallContext
from flight_server.frames.flight_data import schema_message
from flight_server.services import rows


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """The table whose keys are asked for; a catalog or schema that is None may be any."""

    catalog: str | None
    db_schema: str | None
    table: str


PRIMARY_KEYS = rows.schema(
    ("catalog_name", pa.utf8(), rows.OPTIONAL),
    ("db_schema_name", pa.utf8(), rows.OPTIONAL),
    ("table_name", pa.utf8(), rows.REQUIRED),
    ("column_name", pa.utf8(), rows.REQUIRED),
    # The specification has key_name first; Go, Java and C++ all have it behind.
    ("key_sequence", pa.int32(), rows.REQUIRED),
    ("key_name", pa.utf8(), rows.OPTIONAL),
)
"""Rows in the order of catalog, schema, table, key_name and key_sequence, which counts from 1."""

FOREIGN_KEYS = rows.schema(
    ("pk_catalog_name", pa.utf8(), rows.OPTIONAL),
    ("pk_db_schema_name", pa.utf8(), rows.OPTIONAL),
    ("pk_table_name", pa.utf8(), rows.REQUIRED),
    ("pk_column_name", pa.utf8(), rows.REQUIRED),
    ("fk_catalog_name", pa.utf8(), rows.OPTIONAL),
    ("fk_db_schema_name", pa.utf8(), rows.OPTIONAL),
    ("fk_table_name", pa.utf8(), rows.REQUIRED),
    ("fk_column_name", pa.utf8(), rows.REQUIRED),
    ("key_sequence", pa.int32(), rows.REQUIRED),
    ("fk_key_name", pa.utf8(), rows.OPTIONAL),
    ("pk_key_name", pa.utf8(), rows.OPTIONAL),
    ("update_rule", pa.uint8(), rows.REQUIRED),
    ("delete_rule", pa.uint8(), rows.REQUIRED),
)
"""Exported keys in the order of their fk_ columns, the others of their pk_ columns; then as above."""


class KeyService:
    """Describes keys as FlightData messages, the schema first."""

    async def primary(self, call: CallContext, table: KeyedTable) -> AsyncIterator[bytes]:
        """Yield the columns of a table's primary key."""
        yield _message(PRIMARY_KEYS)

    async def exported(self, call: CallContext, table: KeyedTable) -> AsyncIterator[bytes]:
        """Yield the foreign keys of other tables that refer to a table."""
        yield _message(FOREIGN_KEYS)

    async def imported(self, call: CallContext, table: KeyedTable) -> AsyncIterator[bytes]:
        """Yield the foreign keys of a table."""
        yield _message(FOREIGN_KEYS)

    async def crossing(
        self, call: CallContext, parent: KeyedTable, foreign: KeyedTable
    ) -> AsyncIterator[bytes]:
        """Yield the foreign keys of one table that refer to another, their parent."""
        yield _message(FOREIGN_KEYS)


def _message(schema: pa.Schema) -> bytes:
    return schema_message(schema.serialize().to_pybytes())
