"""Puts hidden relations in the place of dataset names; all other text stays the client's own.

A dataset's name is replaced at its position in the parse, with the old name as alias, so that
column references go on meaning what they meant. Where DuckDB gives no position (`DESCRIBE t`,
`TABLE t`), the tree is changed and written out again by DuckDB itself.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence

import duckdb

from flight_server.engine import quote
from flight_server.engine.columns import Renamed, aliases, renamed
from flight_server.engine.instance import hidden_path
from flight_server.engine.parse import ParsedStatement, TableReference
from flight_server.engine.time_travel import clause_span
from flight_server.frames.requests import TableName

_SPACE = rb"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
_PART = rb"""(?:"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s"'.,;:()*/+-]+)"""
_QUALIFIED_NAME = re.compile(_PART + rb"(?:" + _SPACE + rb"\." + _SPACE + _PART + rb")*", re.DOTALL)
_NAME_PART = re.compile(_SPACE + rb"\.?" + _SPACE + rb"(" + _PART + rb")", re.DOTALL)

Edit = tuple[int, int, str]


def splice(
    cursor: duckdb.DuckDBPyConnection, parsed: ParsedStatement, relations: Mapping[TableName, str]
) -> str:
    """Return the statement with every dataset name replaced by the relation that stands for it."""
    chosen = aliases(parsed)
    columns = list(renamed(parsed, chosen))
    edits = [_column_edit(parsed.sql, column) for column in columns]
    for table in parsed.tables:
        found = _table_edits(parsed.sql, table, relations[table.name], chosen[id(table)])
        edits += found or [None]
    if None in edits:
        return _rewritten(cursor, parsed, relations, chosen, columns)
    sql, at, out = parsed.sql, 0, []
    for start, end, replacement in sorted(edit for edit in edits if edit is not None):
        out += [sql[at:start], replacement.encode()]
        at = end
    return b"".join([*out, sql[at:]]).decode()


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


def _table_edits(sql: bytes, table: TableReference, relation: str, alias: str) -> list[Edit]:
    """Replace the name and remove the AT clause; nothing when the text does not show where they stand."""
    if table.start is None:
        return []
    name_end = _name_end(sql, table.start, table.end, table.name.path)
    if name_end is None:
        return []
    hidden = quote.path(hidden_path(relation))
    edit = table.start, name_end, hidden if table.alias else f"{hidden} AS {quote.identifier(alias)}"
    if table.node["at_clause"] is None:
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


def _rewritten(
    cursor: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    relations: Mapping[TableName, str],
    chosen: Mapping[int, str],
    columns: Sequence[Renamed],
) -> str:
    tree, nodes, column_nodes = copy.deepcopy(
        (parsed.tree, [table.node for table in parsed.tables], [found.column.node for found in columns])
    )
    for table, node in zip(parsed.tables, nodes, strict=True):
        schema, relation = hidden_path(relations[table.name])
        node.update(
            schema_name=schema,
            table_name=relation,
            alias=chosen[id(table)],
            catalog_name="",
            qualified_name={"path": [schema, relation]},
            at_clause=None,
        )
    for found, node in zip(columns, column_nodes, strict=True):
        if "column_names" in node:
            node["column_names"] = [found.alias, *found.column.path[found.parts :]]
        else:
            node["relation_name"] = found.alias
    rows = cursor.execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(tree)]).fetchall()
    return str(rows[0][0])
