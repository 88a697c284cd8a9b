"""Keys that tables declare: CommandGetPrimaryKeys and its three relatives.

They are constraints of the datasets' schemas (`domain.declarations`). A table that does not exist has no
keys (JDBC expects no rows for it, not an error). Foreign keys are recorded and not enforced. Schemas and
order of rows are those of the reference implementations (arrow-go `schema_ref`).
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import CATALOG, Dataset, DatasetFilter, fold_name
from flight_server.domain.declarations import Constraint
from flight_server.services import rows
from flight_server.services.listing import DatasetListing


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """The table whose keys are asked for; a catalog or schema that is None may be any."""

    catalog: str | None
    db_schema: str | None
    table: str

    def means(self, dataset: Dataset) -> bool:
        """Tell whether it is a dataset."""
        return self._means(CATALOG, dataset.namespace, dataset.name)

    def is_parent(self, key: Constraint) -> bool:
        """Tell whether a foreign key refers to it."""
        return len(key.referenced) == 3 and self._means(*key.referenced)

    def _means(self, catalog: str, namespace: str, name: str) -> bool:
        return (
            self.catalog in (None, catalog)
            and self.db_schema in (None, namespace)
            and fold_name(self.table) == fold_name(name)
        )


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


_NO_ACTION = 3
"""`java.sql.DatabaseMetaData.importedKeyNoAction`: what is not enforced changes nothing."""

_Declared = tuple[Dataset, Constraint]


class KeyService:
    """Describes keys as FlightData messages, the schema first."""

    def __init__(self, listing: DatasetListing) -> None:
        self._listing = listing

    async def primary(self, call: CallContext, table: KeyedTable) -> AsyncIterator[bytes]:
        """Yield the columns of a table's primary key."""
        found = await self._declared(
            call, lambda of, key: key.kind == declarations.PRIMARY_KEY and table.means(of)
        )
        records = [
            (CATALOG, of.namespace, of.name, column, at, key.name)
            for of, key in found
            for at, column in enumerate(key.columns, 1)
        ]
        for message in _messages(PRIMARY_KEYS, records):
            yield message

    async def exported(self, call: CallContext, table: KeyedTable) -> AsyncIterator[bytes]:
        """Yield the foreign keys of other tables that refer to a table."""
        async for message in self._foreign(call, lambda _, key: table.is_parent(key)):
            yield message

    async def imported(self, call: CallContext, table: KeyedTable) -> AsyncIterator[bytes]:
        """Yield the foreign keys of a table."""
        async for message in self._foreign(call, lambda of, _: table.means(of)):
            yield message

    async def crossing(
        self, call: CallContext, parent: KeyedTable, foreign: KeyedTable
    ) -> AsyncIterator[bytes]:
        """Yield the foreign keys of one table that refer to another, their parent."""
        async for message in self._foreign(call, lambda of, key: foreign.means(of) and parent.is_parent(key)):
            yield message

    async def _foreign(
        self, call: CallContext, is_wanted: Callable[[Dataset, Constraint], bool]
    ) -> AsyncIterator[bytes]:
        found = await self._declared(
            call, lambda of, key: key.kind == declarations.FOREIGN_KEY and is_wanted(of, key)
        )
        records = [
            (*key.referenced[-3:], of_parent, CATALOG, of.namespace, of.name, column, at, key.name, None,
             _NO_ACTION, _NO_ACTION)
            for of, key in found
            for at, (column, of_parent) in enumerate(zip(key.columns, key.referenced_columns, strict=True), 1)
        ]  # fmt: skip
        for message in _messages(FOREIGN_KEYS, records):
            yield message

    async def _declared(
        self, call: CallContext, is_wanted: Callable[[Dataset, Constraint], bool]
    ) -> list[_Declared]:
        """Return the constraints wanted of the tables that the caller may read, in the order of tables."""
        found: list[_Declared] = []
        namespaces = self._listing.namespaces(call)
        wanted = DatasetFilter(tuple(namespaces))
        has_any = declarations.CONSTRAINTS
        pages = self._listing.pages(
            self._listing.snapshot(call), wanted, lambda item: has_any in (item.schema or b"")
        )
        async for page in pages:
            for dataset in page:
                declared = declarations.constraints(declarations.read(dataset.schema or b""))
                seen = [item for item in declared if item.is_seen_from(namespaces)]
                found += [(dataset, item) for item in seen if is_wanted(dataset, item)]
        return found


def _messages(schema: pa.Schema, records: Sequence[Sequence[Any]]) -> list[bytes]:
    columns = list(zip(*records, strict=True)) or [()] * len(schema)
    return list(rows.messages(rows.batch(schema, columns)))
