"""Rows of the Flight SQL commands that describe catalogs, schemas and tables.

Schemas and order are those of the reference implementations (arrow-go `schema_ref`). Only what the
caller may read is there. A filter that is None does not filter; an empty one matches empty names,
which nothing here has.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import Dataset, DatasetFilter
from flight_server.domain.pattern import like
from flight_server.frames.flight_data import BatchFramer, schema_message
from flight_server.services.listing import DatasetListing
from flight_server.services.resolution import CATALOG, Names
from flight_server.services.sql_schemas import SqlSchema, SqlSchemas
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES

TABLE = "TABLE"
SYSTEM_TABLE = "SYSTEM TABLE"

_SYNONYMS = {"BASE TABLE": TABLE}
"""Names of table types that clients ask with → ours (Grafana, information_schema)."""


def _columns(*columns: tuple[str, bool]) -> pa.Schema:
    """Return a schema of texts from (name, nullable)."""
    return pa.schema([pa.field(name, pa.utf8(), nullable) for name, nullable in columns])


CATALOGS = _columns(("catalog_name", False))
DB_SCHEMAS = _columns(("catalog_name", True), ("db_schema_name", False))
TABLES = _columns(
    ("catalog_name", True), ("db_schema_name", True), ("table_name", False), ("table_type", False)
)
TABLES_WITH_SCHEMA = TABLES.append(pa.field("table_schema", pa.binary(), nullable=False))
TABLE_TYPES = _columns(("table_type", False))


@dataclass(frozen=True, slots=True)
class SchemaFilter:
    """What CommandGetDbSchemas asks for; None does not filter."""

    catalog: str | None
    db_schema_filter_pattern: str | None


@dataclass(frozen=True, slots=True)
class TableFilter:
    """What CommandGetTables asks for; None, and no table types, do not filter."""

    schemas: SchemaFilter
    table_name_filter_pattern: str | None
    table_types: tuple[str, ...]
    include_schema: bool


class TableService:
    """Describes what there is to query."""

    def __init__(self, names: Names, listing: DatasetListing, sql_schemas: SqlSchemas) -> None:
        self._names = names
        self._listing = listing
        self._sql_schemas = sql_schemas
        self._system = {
            full.partition(".")[2]: table.schema.serialize().to_pybytes()
            for full, table in SYSTEM_TABLES.items()
        }

    async def catalogs(self) -> AsyncIterator[bytes]:
        """Yield the one catalog, as FlightData messages."""
        for message in _messages(CATALOGS, [[CATALOG]]):
            yield message

    async def table_types(self) -> AsyncIterator[bytes]:
        """Yield the types that tables have here, as FlightData messages."""
        for message in _messages(TABLE_TYPES, [[SYSTEM_TABLE, TABLE]]):
            yield message

    async def db_schemas(self, call: CallContext, wanted: SchemaFilter) -> AsyncIterator[bytes]:
        """Yield the schemas: the buckets and the system tables' own; as FlightData messages."""
        found = self._schemas(call, wanted)
        for message in _messages(DB_SCHEMAS, [[CATALOG] * len(found), found]):
            yield message

    async def tables(self, call: CallContext, wanted: TableFilter) -> AsyncIterator[bytes]:
        """Yield the tables, page by page, as FlightData messages."""
        schema = TABLES_WITH_SCHEMA if wanted.include_schema else TABLES
        yield schema_message(schema.serialize().to_pybytes())
        framer = BatchFramer(schema)
        async for columns in self._pages(call, wanted):
            batch = _batch(schema, columns[: len(schema)])
            for pieces in framer.frame(batch):
                yield b"".join(pieces)

    def _schemas(self, call: CallContext, wanted: SchemaFilter) -> list[str]:
        if wanted.catalog not in (None, CATALOG):
            return []
        names = sorted([*self._listing.namespaces(call), SYSTEM_SCHEMA])
        return list(filter(_pattern(wanted.db_schema_filter_pattern), names))

    async def _pages(self, call: CallContext, wanted: TableFilter) -> AsyncIterator[list[list[Any]]]:
        """Yield columns of rows in order; the schema of the system tables stands among the buckets."""
        schemas, types = self._schemas(call, wanted.schemas), _types(wanted.table_types)
        is_named = _pattern(wanted.table_name_filter_pattern)
        before = [name for name in schemas if name < SYSTEM_SCHEMA]
        behind = [name for name in schemas if name > SYSTEM_SCHEMA]
        snapshot = self._listing.snapshot(call)
        for namespaces in (before, behind):
            if namespaces is behind and SYSTEM_SCHEMA in schemas and SYSTEM_TABLE in types:
                columns = await self._system_page(is_named)
                # ADBC's get_table_schema looks no further than the first batch: none may be empty.
                if columns[0]:
                    yield columns
            if namespaces and TABLE in types:
                like_name = DatasetFilter(tuple(namespaces), wanted.table_name_filter_pattern)
                pages = self._listing.pages(snapshot, like_name, lambda dataset: is_named(dataset.name))
                async for page in pages:
                    yield await self._page(page, wanted.include_schema)

    async def _page(self, page: Sequence[Dataset], with_schemas: bool) -> list[list[Any]]:
        spaces = [dataset.namespace for dataset in page]
        names = [dataset.name for dataset in page]
        columns: list[list[Any]] = [[CATALOG] * len(page), spaces, names, [TABLE] * len(page)]
        if with_schemas:
            known = await self._sql_schemas.get(dataset.schema for dataset in page)
            columns.append([table_schema(known[item.schema], item.namespace, item.name) for item in page])
        return columns

    async def _system_page(self, is_named: Callable[[str], bool]) -> list[list[Any]]:
        names = sorted(filter(is_named, self._system))
        known = await self._sql_schemas.get(self._system[name] for name in names)
        count = len(names)
        schemas = [table_schema(known[self._system[name]], SYSTEM_SCHEMA, name) for name in names]
        return [[CATALOG] * count, [SYSTEM_SCHEMA] * count, names, [SYSTEM_TABLE] * count, schemas]


def table_schema(sql_schema: SqlSchema, namespace: str, name: str) -> bytes:
    """Return the schema of a table as CommandGetTables gives it: with where each column belongs.

    The specification has DB_SCHEMA_NAME, and drivers read SCHEMA_NAME: both are written.
    """
    place = {
        "CATALOG_NAME": CATALOG,
        "DB_SCHEMA_NAME": namespace,
        "SCHEMA_NAME": namespace,
        "TABLE_NAME": name,
    }
    # One object for all columns of a type: making it costs more than all else here.
    kinds = set(sql_schema.type_names)
    metadata: dict[str, Any] = {kind: _metadata(place | {"TYPE_NAME": kind}) for kind in kinds}
    return (
        pa.schema(
            field.with_metadata(metadata[kind])
            for field, kind in zip(sql_schema.schema, sql_schema.type_names, strict=True)
        )
        .serialize()
        .to_pybytes()
    )


def _metadata(values: Mapping[str, str]) -> pa.KeyValueMetadata:
    return pa.KeyValueMetadata(
        {f"ARROW:FLIGHT:SQL:{key}".encode(): value.encode() for key, value in values.items()}
    )


def _pattern(written: str | None) -> Callable[[str], bool]:
    return like(written) if written is not None else lambda _: True


def _types(written: Sequence[str]) -> frozenset[str]:
    """Return the types asked for, in our spelling; all of them when none is."""
    if not written:
        return frozenset({TABLE, SYSTEM_TABLE})
    return frozenset(_SYNONYMS.get(kind.upper(), kind.upper()) for kind in written)


def _batch(schema: pa.Schema, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _messages(schema: pa.Schema, columns: Sequence[Sequence[Any]]) -> Iterator[bytes]:
    yield schema_message(schema.serialize().to_pybytes())
    for pieces in BatchFramer(schema).frame(_batch(schema, columns)):
        yield b"".join(pieces)
