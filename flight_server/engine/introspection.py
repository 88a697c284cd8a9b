"""Tells a statement what there is: fills the tables behind the macros that describe the catalog.

The gateway says what the caller may see at the statement's snapshot, the session's own tables and views
are known here. The tables are registered on the statement's cursor and go with it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.dataset import CATALOG
from flight_server.domain.recent import RecentMap
from flight_server.engine import constraints, quote
from flight_server.engine.functions import Need
from flight_server.engine.instance import Instance, hidden_path
from flight_server.engine.macros import (
    COLUMNS,
    CONSTRAINTS,
    NAMESPACES,
    RELATIONS,
    SCHEMAS,
    SESSION,
    TYPES,
)
from flight_server.engine.sessions import EngineSession
from flight_server.errors import LakehouseError
from flight_server.frames.requests import LISTED_NAMES, LISTED_SESSION, LISTED_TABLES

_REMEMBERED_BYTES = 32 * 1024 * 1024
_REMEMBERED_TYPES = 10_000
_PROBE = "_probe"
_TEMP = ("temp", "main")

_TYPE_FACTS = "data_type, data_type_id, numeric_precision, numeric_precision_radix, numeric_scale"

TypeFacts = tuple[str, int, int | None, int | None, int | None]
"""What DuckDB says of a type, in the order of `_TYPE_FACTS`."""

DescribeView = Callable[[str], pa.Schema]
"""Query of a temporary view → the columns that it returns."""


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """A list of columns, as tuples of one length, and as a CREATE TABLE has them."""

    names: tuple[str, ...]
    types: tuple[TypeFacts, ...]
    defaults: tuple[str | None, ...]
    are_nullable: tuple[bool, ...]
    text: str
    comments: tuple[str | None, ...]
    are_keys: tuple[bool, ...]
    comment: str | None = None
    promises: tuple[constraints.Row, ...] = ()
    check_count: int = 0


def _columns(names: Sequence[str], types: Sequence[TypeFacts]) -> _Columns:
    """Return columns without defaults, which may be NULL."""
    count = len(names)
    text = ", ".join(f"{quote.identifier(name)} {kind[0]}" for name, kind in zip(names, types, strict=True))
    nothing, no, yes = (None,) * count, (False,) * count, (True,) * count
    return _Columns(tuple(names), tuple(types), nothing, yes, text, nothing, no)


def _declared(schema: pa.Schema, types: Sequence[TypeFacts]) -> _Columns:
    """Return the columns of a dataset with all that its schema declares."""
    keys = constraints.primary_key(schema)
    defaults = tuple(declarations.text(field, declarations.DEFAULT) for field in schema)
    parts = [
        f"{quote.identifier(field.name)} {kind[0]}"
        + (f" DEFAULT({default})" if default is not None else "")
        + ("" if field.nullable else " NOT NULL")
        for field, kind, default in zip(schema, types, defaults, strict=True)
    ]
    parts += [constraints.text(item) for item in declarations.constraints(schema)]
    return _Columns(
        tuple(schema.names),
        tuple(types),
        defaults,
        tuple(field.nullable for field in schema),
        ", ".join(parts),
        tuple(declarations.comment(field) for field in schema),
        tuple(name.lower() in keys for name in schema.names),
        declarations.comment(schema),
        tuple(constraints.rows(schema)),
        sum(item.kind == declarations.CHECK for item in declarations.constraints(schema)),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """One relation that the caller may see; `columns` is None where they are not asked for or not known."""

    database: str
    schema: str
    name: str
    id: str
    is_view: bool
    comment: str | None = None
    rows: int | None = None
    columns: _Columns | None = None
    query: str | None = None


class Introspection:
    """Describes what a caller may see; remembers what SQL makes of columns, which is the same for all."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._columns: RecentMap[bytes, _Columns] = RecentMap(_REMEMBERED_BYTES)
        self._types: RecentMap[Any, TypeFacts] = RecentMap(_REMEMBERED_TYPES)

    def announce(self, cursor: duckdb.DuckDBPyConnection, need: Need) -> None:
        """Register the tables without rows, so that a statement can be bound."""
        for name in _TABLES[need]:
            cursor.register(name, SCHEMAS[name].empty_table())

    def tell(
        self,
        cursor: duckdb.DuckDBPyConnection,
        need: Need,
        listed: Callable[[str], pa.Table],
        state: EngineSession,
        describe_view: DescribeView,
    ) -> None:
        """Register the tables with their rows; `listed` asks the gateway."""
        if need is Need.NOTHING:
            return
        (session,) = listed(LISTED_SESSION).to_pylist()
        namespaces = [(CATALOG, name) for name in session.pop("namespaces")]
        namespaces += [_TEMP] if state.tables or state.views else []
        cursor.register(SESSION, pa.Table.from_pylist([session], SCHEMAS[SESSION]))
        cursor.register(NAMESPACES, _table(NAMESPACES, namespaces))
        if need is Need.SESSION:
            return
        with_columns = need is Need.COLUMNS
        found = self._listed(listed(LISTED_TABLES if with_columns else LISTED_NAMES))
        found += self._own(state, describe_view if with_columns else None)
        shapes = _Shapes()
        visible = _visible(found, session["search_path"])
        cursor.register(RELATIONS, _table(RELATIONS, [_row(item, shapes, visible) for item in found]))
        if with_columns:
            for name, rows in shapes.tables().items():
                cursor.register(name, rows)

    def _listed(self, table: pa.Table) -> list[_Found]:
        rows = table.to_pylist()
        known = self._described({row["schema"] for row in rows if row.get("schema") is not None})
        return [
            _Found(
                CATALOG,
                row["namespace"],
                row["name"],
                row["id"],
                row["is_view"],
                columns.comment if columns else None,
                row.get("rows"),
                columns,
                row["definition"],
            )
            for row in rows
            for columns in (known.get(row.get("schema")),)
        ]

    def _own(self, state: EngineSession, describe_view: DescribeView | None) -> list[_Found]:
        """Return the session's temporary tables and views; without `describe_view` no columns."""
        found = []
        for table in state.tables.values():
            columns = self._hidden_columns(table.relation) if describe_view else None
            found.append(_Found(*_TEMP, table.name, table.relation, False, columns=columns))
        for view in state.views.values():
            own = None
            if describe_view is not None:
                with suppress(LakehouseError, duckdb.Error):  # what it reads may be gone
                    schema = describe_view(view.query)
                    own = self._described({schema.serialize().to_pybytes()}).popitem()[1]
            found.append(_Found(*_TEMP, view.name, f"view {view.name}", True, columns=own, query=view.query))
        return found

    def _hidden_columns(self, relation: str) -> _Columns:
        schema, name = hidden_path(relation)
        with self._instance.cursor() as cursor:
            rows = cursor.execute(
                f"SELECT column_name, column_default, is_nullable, {_TYPE_FACTS} "  # noqa: S608 - constants
                "FROM system.main.duckdb_columns() WHERE schema_name = $1 AND table_name = $2 "
                "ORDER BY column_index",
                [schema, name],
            ).fetchall()
        columns = _columns([row[0] for row in rows], [row[3:] for row in rows])
        return replace(
            columns, defaults=tuple(row[1] for row in rows), are_nullable=tuple(row[2] for row in rows)
        )

    def _described(self, messages: Iterable[bytes]) -> dict[bytes | None, _Columns]:
        """Return what SQL says of the columns of stored schemas, which are encapsulated IPC messages."""
        found: dict[bytes | None, _Columns] = {}
        unseen: dict[bytes, pa.Schema] = {}
        for message in messages:
            known = self._columns.get(message)
            if known is None:
                unseen[message] = pa.ipc.read_schema(pa.py_buffer(message))
            else:
                found[message] = known
        types = self._type_facts({kind for schema in unseen.values() for kind in schema.types})
        for message, schema in unseen.items():
            found[message] = _declared(schema, [types[kind] for kind in schema.types])
            self._columns.put(message, found[message], 2 * len(message))
        return found

    def _type_facts(self, kinds: Iterable[Any]) -> dict[Any, TypeFacts]:
        """Return what DuckDB says of a column of each type, by making one."""
        known = {kind: self._types.get(kind) for kind in kinds}
        unseen = [kind for kind, facts in known.items() if facts is None]
        found = {kind: facts for kind, facts in known.items() if facts is not None}
        if not unseen:
            return found
        probe = pa.schema([pa.field(str(at), kind) for at, kind in enumerate(unseen)])
        with self._instance.cursor() as cursor:
            cursor.register(f"{_PROBE}_rows", probe.empty_table())
            cursor.execute(f"CREATE TEMP TABLE {_PROBE} AS FROM {_PROBE}_rows")
            rows = cursor.execute(
                f"SELECT {_TYPE_FACTS} FROM system.main.duckdb_columns() "  # noqa: S608 - constants
                f"WHERE database_name = 'temp' AND table_name = '{_PROBE}' ORDER BY column_index"
            ).fetchall()
        for kind, facts in zip(unseen, rows, strict=True):
            found[kind] = facts
            self._types.put(kind, facts)
        return found


_TABLES: Mapping[Need, Sequence[str]] = {
    Need.NOTHING: (),
    Need.SESSION: (SESSION, NAMESPACES),
    Need.NAMES: (SESSION, NAMESPACES, RELATIONS),
    Need.COLUMNS: (SESSION, NAMESPACES, RELATIONS, COLUMNS, CONSTRAINTS, TYPES),
}


class _Shapes:
    """Numbers distinct lists of columns."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._columns: list[_Columns] = []

    def number(self, columns: _Columns) -> int:
        """Return the number of a list, by its identity: equal ones of one schema are one list."""
        found = self._numbers.setdefault(id(columns), len(self._columns))
        if found == len(self._columns):
            self._columns.append(columns)
        return found

    def tables(self) -> dict[str, pa.Table]:
        """Return all columns with the numbers of their lists, and their types."""
        types: dict[TypeFacts, int] = {}
        columns = self._columns
        values: list[Iterable[Any]] = [
            (shape for shape, item in enumerate(columns) for _ in item.names),
            (at for item in columns for at in range(1, len(item.names) + 1)),
            chain.from_iterable(item.names for item in columns),
            (types.setdefault(kind, len(types)) for item in columns for kind in item.types),
            chain.from_iterable(item.defaults for item in columns),
            chain.from_iterable(item.are_nullable for item in columns),
            chain.from_iterable(item.comments for item in columns),
            chain.from_iterable(item.are_keys for item in columns),
        ]
        schema = SCHEMAS[COLUMNS]
        arrays = [pa.array(list(column), kind) for column, kind in zip(values, schema.types, strict=True)]
        rows = [(number, *kind) for kind, number in types.items()]
        held = [(shape, *row) for shape, item in enumerate(columns) for row in item.promises]
        return {
            COLUMNS: pa.Table.from_arrays(arrays, schema=schema),
            CONSTRAINTS: _table(CONSTRAINTS, held),
            TYPES: _table(TYPES, rows),
        }


def _table(name: str, rows: Sequence[Sequence[Any]]) -> pa.Table:
    schema = SCHEMAS[name]
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _visible(found: Sequence[_Found], search_path: Sequence[str]) -> Mapping[str, str]:
    """Return the id of the relation that each bare name (folded) means: the session's own come first."""
    ranks = {name: rank for rank, name in enumerate(search_path)}
    best: dict[str, tuple[int, str]] = {}
    for item in found:
        rank = -1 if item.database != CATALOG else ranks.get(item.schema)
        if rank is not None:
            name = item.name.lower()
            best[name] = min(best.get(name, (rank, item.id)), (rank, item.id))
    return {name: relation for name, (_, relation) in best.items()}


def _row(item: _Found, shapes: _Shapes, visible: Mapping[str, str]) -> tuple[Any, ...]:
    columns = item.columns
    return (
        item.database,
        item.schema,
        item.name,
        item.id,
        item.is_view,
        visible.get(item.name.lower()) == item.id,
        item.comment,
        item.rows,
        None if columns is None else shapes.number(columns),
        None if columns is None else len(columns.names),
        _definition(item),
        columns is not None and any(columns.are_keys),
        0 if columns is None else columns.check_count,
    )


def _definition(item: _Found) -> str | None:
    """Return the statement that would make a relation; system tables have none."""
    is_temporary = item.database != CATALOG
    path = (item.name,) if is_temporary else (item.schema, item.name)
    head = f"CREATE {'TEMP ' if is_temporary else ''}{'VIEW' if item.is_view else 'TABLE'} {quote.path(path)}"
    if item.is_view:
        return f"{head} AS {item.query};" if item.query else None
    if item.columns is None:
        return None
    return f"{head}({item.columns.text});"
