"""Puts hidden relations in the place of dataset names; all other text stays the client's own.

A dataset's name is replaced at its position in the parse, with the old name as alias, so that
column references go on meaning what they meant. Where DuckDB gives no position (`DESCRIBE t`,
`TABLE t`), the tree is changed and written out again by DuckDB itself.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import Mapping

import duckdb

from flight_server.engine import quote
from flight_server.engine.instance import HIDDEN_SCHEMA
from flight_server.engine.parse import ParsedStatement, QualifiedName, TableReference

_PART = rb"""(?:"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s"'.,;()*/+-]+)"""
_QUALIFIED_NAME = re.compile(_PART + rb"(?:\s*\.\s*" + _PART + rb")*")

Edit = tuple[int, int, str]


def splice(
    cursor: duckdb.DuckDBPyConnection, parsed: ParsedStatement, relations: Mapping[QualifiedName, str]
) -> str:
    """Return the statement with every dataset name replaced by the relation that stands for it."""
    aliases = _aliases(parsed)
    edits = [
        _table_edit(parsed.sql, table, relations[table.path], aliases[id(table)]) for table in parsed.tables
    ]
    if any(edit is None for edit in edits):
        return _rewritten(cursor, parsed, relations, aliases)
    edits += _column_edits(parsed, aliases)
    sql, at, out = parsed.sql, 0, []
    for start, end, replacement in sorted(edit for edit in edits if edit is not None):
        out += [sql[at:start], replacement.encode()]
        at = end
    return b"".join([*out, sql[at:]]).decode()


def _aliases(parsed: ParsedStatement) -> dict[int, str]:
    """Return the alias of each table: its own, else its name, else (two of one name) all of its path."""
    plain = {table.path: table.path[-1] for table in parsed.tables}
    named = {(t.scope, t.path) for t in parsed.tables if not t.alias}
    uses = Counter((scope, path[-1].lower()) for scope, path in named)
    return {
        id(table): table.alias
        or (plain[table.path] if uses[table.scope, table.path[-1].lower()] == 1 else ".".join(table.path))
        for table in parsed.tables
    }


def _table_edit(sql: bytes, table: TableReference, relation: str, alias: str) -> Edit | None:
    if table.start is None:
        return None
    name = _QUALIFIED_NAME.match(sql, table.start, table.end)
    if name is None:
        return None
    hidden = quote.path((HIDDEN_SCHEMA, relation))
    return table.start, name.end(), hidden if table.alias else f"{hidden} AS {quote.identifier(alias)}"


def _column_edits(parsed: ParsedStatement, aliases: Mapping[int, str]) -> list[Edit]:
    """Shorten `schema.table.column` to `alias.column`, since the schema is gone from the FROM clause."""
    by_path = {
        tuple(part.lower() for part in table.path): aliases[id(table)]
        for table in parsed.tables
        if not table.alias and len(table.path) > 1
    }
    edits = []
    for column in parsed.columns:
        for length in range(len(column.path) - 1, 1, -1):
            alias = by_path.get(tuple(part.lower() for part in column.path[:length]))
            if alias is not None:
                edits.append((column.start, column.end, quote.path((alias, *column.path[length:]))))
                break
    return edits


def _rewritten(
    cursor: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    relations: Mapping[QualifiedName, str],
    aliases: Mapping[int, str],
) -> str:
    tree, nodes = copy.deepcopy((parsed.tree, [table.node for table in parsed.tables]))
    for table, node in zip(parsed.tables, nodes, strict=True):
        relation = relations[table.path]
        node.update(
            schema_name=HIDDEN_SCHEMA,
            table_name=relation,
            alias=aliases[id(table)],
            catalog_name="",
            qualified_name={"path": [HIDDEN_SCHEMA, relation]},
        )
    rows = cursor.execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(tree)]).fetchall()
    return str(rows[0][0])
