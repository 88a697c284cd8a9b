"""Rows of the Flight SQL commands that describe catalogs, schemas and tables.

Schemas and order are those of the reference implementations (arrow-go `schema_ref`). Only what the
caller may read is there. A filter that is None does not filter; an empty one matches empty names,
which nothing here has.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import CATALOG, Dataset, DatasetFilter, Kind
from flight_server.domain.pattern import like
from flight_server.domain.sql_types import encoded
from flight_server.frames.flight_data import BatchFramer, schema_message
from flight_server.services import rows
from flight_server.services.listing import DatasetListing
from flight_server.services.resolution import Names
from flight_server.services.sql_schemas import SqlSchema, SqlSchemas
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES
from flight_server.services.temporary import (
    LOCAL_TEMPORARY,
    TEMPORARY_CATALOG,
    TEMPORARY_SCHEMA,
    VIEW,
    TemporaryTable,
    TemporaryTables,
)

TABLE = "TABLE"
SYSTEM_TABLE = "SYSTEM TABLE"

_SYNONYMS = {"BASE TABLE": TABLE}
"""Names of table types that clients ask with → ours (Grafana, information_schema)."""


_TYPES = frozenset({TABLE, SYSTEM_TABLE, LOCAL_TEMPORARY, VIEW})
"""The types that tables have here."""

_TEXT = pa.utf8()

CATALOGS = rows.schema(("catalog_name", _TEXT, rows.REQUIRED))
DB_SCHEMAS = rows.schema(
    ("catalog_name", _TEXT, rows.OPTIONAL),
    ("db_schema_name", _TEXT, rows.REQUIRED),
)
TABLES = rows.schema(
    ("catalog_name", _TEXT, rows.OPTIONAL),
    ("db_schema_name", _TEXT, rows.OPTIONAL),
    ("table_name", _TEXT, rows.REQUIRED),
    ("table_type", _TEXT, rows.REQUIRED),
)
TABLES_WITH_SCHEMA = TABLES.append(pa.field("table_schema", pa.binary(), nullable=False))
TABLE_TYPES = rows.schema(("table_type", _TEXT, rows.REQUIRED))


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

    def __init__(
        self, names: Names, listing: DatasetListing, sql_schemas: SqlSchemas, temporary: TemporaryTables
    ) -> None:
        self._temporary = temporary
        self._names = names
        self._listing = listing
        self._sql_schemas = sql_schemas
        self._system = {
            full.partition(".")[2]: table.schema.serialize().to_pybytes()
            for full, table in SYSTEM_TABLES.items()
        }

    async def catalogs(self, call: CallContext) -> AsyncIterator[bytes]:
        """Yield the catalog, and that of temporary tables if there are some, as FlightData messages."""
        own = [TEMPORARY_CATALOG] if self._temporary.list(call) else []
        for message in rows.messages(rows.batch(CATALOGS, [[CATALOG, *own]])):
            yield message

    async def table_types(self) -> AsyncIterator[bytes]:
        """Yield the types that tables have here, as FlightData messages."""
        for message in rows.messages(rows.batch(TABLE_TYPES, [sorted(_TYPES)])):
            yield message

    async def db_schemas(self, call: CallContext, wanted: SchemaFilter) -> AsyncIterator[bytes]:
        """Yield the schemas: of buckets, those made, the system tables' own; as FlightData messages."""
        found = self._schemas(call, wanted)
        own = [TEMPORARY_SCHEMA] if self._temporary_tables(call, wanted) else []
        catalogs = [CATALOG] * len(found) + [TEMPORARY_CATALOG] * len(own)
        for message in rows.messages(rows.batch(DB_SCHEMAS, [catalogs, found + own])):
            yield message

    async def tables(self, call: CallContext, wanted: TableFilter) -> AsyncIterator[bytes]:
        """Yield the tables, page by page, as FlightData messages."""
        schema = TABLES_WITH_SCHEMA if wanted.include_schema else TABLES
        yield schema_message(schema.serialize().to_pybytes())
        framer = BatchFramer(schema)
        async for columns in self._pages(call, wanted):
            for pieces in framer.frame(rows.batch(schema, columns[: len(schema)])):
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
                columns = await self._system_page(call, is_named)
                # ADBC's get_table_schema looks no further than the first batch: none may be empty.
                if columns[0]:
                    yield columns
            if namespaces and types & {TABLE, VIEW}:
                like_name = DatasetFilter(tuple(namespaces), wanted.table_name_filter_pattern)
                pages = self._listing.pages(
                    snapshot, like_name, lambda item: is_named(item.name) and _type(item) in types
                )
                async for page in pages:
                    yield await self._page(call, page, wanted.include_schema)
        own = [
            table
            for table in self._temporary_tables(call, wanted.schemas)
            if is_named(table.name) and table.type in types
        ]
        if own:
            yield await self._temporary_page(call, own, wanted.include_schema)

    def _temporary_tables(self, call: CallContext, wanted: SchemaFilter) -> Sequence[TemporaryTable]:
        is_wanted = wanted.catalog in (None, TEMPORARY_CATALOG)
        if not (is_wanted and _pattern(wanted.db_schema_filter_pattern)(TEMPORARY_SCHEMA)):
            return ()
        return self._temporary.list(call)

    async def _temporary_page(
        self, call: CallContext, page: Sequence[TemporaryTable], with_schemas: bool
    ) -> list[list[Any]]:
        names, types = [table.name for table in page], [table.type for table in page]
        count = len(page)
        columns: list[list[Any]] = [[TEMPORARY_CATALOG] * count, [TEMPORARY_SCHEMA] * count, names, types]
        if with_schemas:
            columns.append([await self._temporary.schema(call, name) for name in names])
        return columns

    async def _page(self, call: CallContext, page: Sequence[Dataset], with_schemas: bool) -> list[list[Any]]:
        spaces = [dataset.namespace for dataset in page]
        names = [dataset.name for dataset in page]
        types = [_type(dataset) for dataset in page]
        columns: list[list[Any]] = [[CATALOG] * len(page), spaces, names, types]
        if with_schemas:
            known = await self._sql_schemas.get(call.identity, (dataset.schema for dataset in page))
            fixed = {space: self._is_fixed(call, space) for space in set(spaces)}
            places = [
                Place(item.namespace, item.name, fixed[item.namespace] or item.kind == Kind.VIEW)
                for item in page
            ]
            pairs = zip(page, places, strict=True)
            columns.append(
                [declared(table_schema(known[item.schema], place), item.schema) for item, place in pairs]
            )
        return columns

    def _is_fixed(self, call: CallContext, space: str) -> bool:
        """Tell whether the caller may change nothing in a schema, which may have been dropped by now."""
        found = self._names.find_namespace(call.identity, space, self._listing.snapshot(call))
        return found is None or not self._names.may_change(call.identity, found)

    async def _system_page(self, call: CallContext, is_named: Callable[[str], bool]) -> list[list[Any]]:
        names = sorted(filter(is_named, self._system))
        known = await self._sql_schemas.get(call.identity, (self._system[name] for name in names))
        count = len(names)
        places = [Place(SYSTEM_SCHEMA, name, is_read_only=True) for name in names]
        schemas = [declared(table_schema(known[self._system[place.name]], place), None) for place in places]
        return [[CATALOG] * count, [SYSTEM_SCHEMA] * count, names, [SYSTEM_TABLE] * count, schemas]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table is, and whether its rows can be changed by the one who asks."""

    namespace: str
    name: str
    is_read_only: bool


def table_schema(sql_schema: SqlSchema, place: Place) -> pa.Schema:
    """Return the schema of a table as CommandGetTables gives it: with where each column belongs.

    The specification has DB_SCHEMA_NAME, and drivers read SCHEMA_NAME: both are written.
    """
    fixed = encoded(
        {
            "CATALOG_NAME": CATALOG,
            "DB_SCHEMA_NAME": place.namespace,
            "SCHEMA_NAME": place.namespace,
            "TABLE_NAME": place.name,
            "IS_READ_ONLY": str(int(place.is_read_only)),
        }
    )
    # One object for all columns of a type: making it costs more than all else here.
    kinds = {column.name: column.metadata for column in sql_schema.columns}
    metadata: dict[str, Any] = {
        name: pa.KeyValueMetadata({**fixed, **known}) for name, known in kinds.items()
    }
    pairs = zip(sql_schema.schema, sql_schema.columns, strict=True)
    return pa.schema(field.with_metadata(metadata[column.name]) for field, column in pairs)


def declared(schema: pa.Schema, stored: bytes | None) -> bytes:
    """Return the schema of a table with the comments of its columns, and with those that take no NULL."""
    own = declarations.read(stored) if stored else pa.schema([])
    for at, field in enumerate(own):
        comment = declarations.comment(field)
        if comment is None and field.nullable:
            continue
        remarks = {} if comment is None else encoded({"REMARKS": comment})
        shown = schema.field(at)
        metadata: dict[Any, Any] = {**(shown.metadata or {}), **remarks}
        schema = schema.set(at, shown.with_nullable(field.nullable).with_metadata(metadata))
    return schema.serialize().to_pybytes()


def _type(dataset: Dataset) -> str:
    return VIEW if dataset.kind == Kind.VIEW else TABLE


def _pattern(written: str | None) -> Callable[[str], bool]:
    return like(written) if written is not None else lambda _: True


def _types(written: Sequence[str]) -> frozenset[str]:
    """Return the types asked for, in our spelling; all of them when none is."""
    if not written:
        return _TYPES
    return frozenset(_SYNONYMS.get(kind.upper(), kind.upper()) for kind in written)
