"""Puts other things in the place of dataset names; all other text stays the client's own.

A dataset's name is replaced at its position in the parse, with the old name as alias, so that
column references go on meaning what they meant. Where DuckDB gives no position (`DESCRIBE t`,
`TABLE t`), the tree is changed and written out again by DuckDB itself.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from flight_server.engine import quote
from flight_server.engine.columns import Renamed, aliases, renamed, returned
from flight_server.engine.parse import ParsedStatement, parse, parse_write
from flight_server.engine.search_calls import WrittenSearch
from flight_server.engine.time_travel import clause_span
from flight_server.engine.walk import Node, TableReference
from flight_server.errors import LakehouseError, UnimplementedError
from flight_server.frames.requests import TableName

_SPACE = rb"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
_PART = rb"""(?:"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s"'.,;:()*/+-]+)"""
_QUALIFIED_NAME = re.compile(_PART + rb"(?:" + _SPACE + rb"\." + _SPACE + _PART + rb")*", re.DOTALL)
_NAME_PART = re.compile(_SPACE + rb"\.?" + _SPACE + rb"(" + _PART + rb")", re.DOTALL)

Edit = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Place:
    """What is put in the place of a name: the path of a table, or else the query of a view."""

    path: tuple[str, ...] = ()
    query: str = ""

    @property
    def sql(self) -> str:
        """The text that stands for it in a FROM clause."""
        return quote.path(self.path) if self.path else f"({self.query}\n)"


def splice(
    cursor: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    places: Mapping[TableName, Place],
    target: Place | None = None,
    searches: Sequence[Place] | None = None,
    edits: Sequence[Edit] = (),
) -> str:
    """Return the statement with every dataset name replaced by what stands for it.

    For the table that it writes to that is `target`, where one is given; `searches` stand for its calls of
    search functions, one for each; without them these stay, with the `edits` that are given.
    """
    chosen = aliases(parsed)
    columns = list(renamed(parsed, chosen))
    written = target or (places[parsed.target.name] if parsed.target is not None else None)
    if written is not None:
        own = {id(found.column): found for found in returned(parsed, written.path[-1])}
        columns = [found for found in columns if id(found.column) not in own] + [*own.values()]
    found_edits: list[Edit | None] = [*edits]
    found_edits += [_column_edit(parsed.sql, column) for column in columns]
    found_edits += [_dropped_edit(parsed.sql, start) for start in parsed.dropped]
    for table in parsed.tables:
        place = target if target is not None and table is parsed.target else places[table.name]
        found = _table_edits(parsed.sql, table, place.sql, chosen[id(table)])
        found_edits += found or [None]
    if searches is not None:
        found_edits += map(_search_edit, parsed.searches, searches)
    if None in found_edits:
        if edits:
            raise UnimplementedError("a table is named beside this search in a way that is not served")
        return _rewritten(cursor, parsed, (places, searches or ()), chosen, columns)
    return edited(parsed.sql, [edit for edit in found_edits if edit is not None])


def edited(sql: bytes, edits: Iterable[Edit]) -> str:
    """Return a text with some of its parts replaced."""
    at, out = 0, []
    for start, end, replacement in sorted(edits):
        out += [sql[at:start], replacement.encode()]
        at = end
    return b"".join([*out, sql[at:]]).decode()


def _search_edit(search: WrittenSearch, place: Place) -> Edit | None:
    reference = search.reference
    if reference.start is None or search.end is None:
        return None
    alias = "" if reference.node["alias"] else f" AS {reference.function}"
    return reference.start, search.end, place.sql + alias


def _name_end(sql: bytes, start: int, end: int, path: Sequence[str]) -> int | None:
    """Return where a written name ends; None when the text there is something else."""
    found = _QUALIFIED_NAME.match(sql, start, end)
    if found is None:
        return None
    written = [_unquoted(part.decode()) for part in _NAME_PART.findall(found.group())]
    return found.end() if written == [part.lower() for part in path] else None


def _unquoted(part: str) -> str:
    quote_mark = part[0]
    if quote_mark in "\"'":
        part = part[1:-1].replace(quote_mark * 2, quote_mark)
    return part.lower()


def _table_edits(sql: bytes, table: TableReference, place: str, alias: str) -> list[Edit]:
    """Replace the name and remove the AT clause; nothing when the text does not show where they stand."""
    if table.start is None:
        return []
    name_end = _name_end(sql, table.start, table.end, table.name.path)
    if name_end is None:
        return []
    edit = table.start, name_end, place if table.alias else f"{place} AS {quote.identifier(alias)}"
    if table.node.get("at_clause") is None:
        return [edit]
    clause = clause_span(sql, name_end, table.end)
    return [] if clause is None else [edit, (*clause, "")]


def _column_edit(sql: bytes, found: Renamed) -> Edit | None:
    """Replace the parts of a column that name its table."""
    column = found.column
    end = _name_end(sql, column.start, column.end, [part for part in column.path if part != "*"])
    if end is None:
        return None
    rest = [part for part in column.path[found.parts :] if part != "*"]
    return column.start, end, quote.path((found.alias, *rest))


_FIRST_PART = re.compile(_PART + _SPACE + rb"\." + _SPACE, re.DOTALL)


def _dropped_edit(sql: bytes, start: int | None) -> Edit | None:
    """Remove the first part of a name."""
    found = None if start is None else _FIRST_PART.match(sql, start)
    return None if found is None else (*found.span(), "")


def _rewritten(
    cursor: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    stands: tuple[Mapping[TableName, Place], Sequence[Place]],
    chosen: Mapping[int, str],
    columns: Sequence[Renamed],
) -> str:
    if parsed.target is not None:
        raise UnimplementedError("a table is named here in a way that is not served: give it an alias")
    places, searches = stands
    tree, nodes, column_nodes, calls = copy.deepcopy(
        (
            parsed.tree,
            [table.node for table in parsed.tables],
            [found.column.node for found in columns],
            [(search.reference.node, search.reference.function) for search in parsed.searches],
        )
    )
    for (node, function), place in zip(calls, searches, strict=True):
        query = Place(query=place.query or f"FROM {place.sql}")
        node.update(_node(cursor, query), alias=node["alias"] or function)
    for table, node in zip(parsed.tables, nodes, strict=True):
        node.update(_node(cursor, places[table.name]), alias=chosen[id(table)], at_clause=None)
    for found, node in zip(columns, column_nodes, strict=True):
        if "column_names" in node:
            node["column_names"] = [found.alias, *found.column.path[found.parts :]]
        else:
            node["relation_name"] = found.alias
    rows = cursor.execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(tree)]).fetchall()
    return str(rows[0][0])


def _node(cursor: duckdb.DuckDBPyConnection, place: Place) -> Node:
    """Return what of a table's node in the tree says which table it is."""
    if place.query:
        return {"type": "SUBQUERY", "subquery": parse(cursor, place.query).tree["statements"][0]}
    catalog, schema, table = ("", "", *place.path)[-3:]
    return {
        "catalog_name": catalog,
        "schema_name": schema,
        "table_name": table,
        "qualified_name": {"path": list(place.path)},
    }


def spliced(
    cursor: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    stands: tuple[Mapping[TableName, Place], Sequence[Place]],
    target: Place | None,
) -> str:
    """Splice, then read the result with the same parse: it may name hidden relations and nothing else."""
    places, searches = stands
    sql = splice(cursor, parsed, places, target, searches)
    is_write = parsed.target is not None
    if is_write:
        sql = parsed.written(sql)
    wanted: Counter[TableName] = Counter()
    for table in parsed.tables:
        place = target if target is not None and table is parsed.target else places[table.name]
        wanted.update([TableName(place.path)] if place.path else _tables(cursor, place.query))
    for place in searches:
        wanted.update([TableName(place.path)] if place.path else _tables(cursor, place.query))
    try:
        named = Counter(_tables(cursor, sql, is_write))
    except LakehouseError:  # its text would show the rewritten statement
        named = Counter()
    if named != wanted:
        raise UnimplementedError("a table is named here in a way that is not served: give it an alias")
    return sql


def _tables(cursor: duckdb.DuckDBPyConnection, sql: str, is_write: bool = False) -> list[TableName]:
    parsed = parse_write(cursor, sql) if is_write else parse(cursor, sql)
    return [table.name for table in parsed.tables]
