"""The one parse of a statement, DuckDB's own: it is the gate and finds the names.

What does not come through here is never executed. `json_serialize_sql` gives the tree with the
position of every table; a statement is let through when it is a single query, its table
functions are in an allow-list, its functions are harmless, and every table it names is a CTE
or can be resolved as a dataset.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from flight_server.engine import time_travel
from flight_server.engine.functions import REFUSED_FUNCTIONS, SYSTEM_SCHEMAS, TABLE_FUNCTIONS
from flight_server.errors import InvalidArgumentError, UnimplementedError
from flight_server.frames.requests import TableName

Node = dict[str, Any]

_NO_LOCATION = 1 << 63
_SHOWN = frozenset({"DESCRIBE", "SUMMARY"})

_QUERY_NODE_SUFFIX = "_NODE"
_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""What a query may consist of; the others write (`WITH x AS (INSERT …)`, and COPY alike)."""


@dataclass(frozen=True, slots=True)
class TableReference:
    """A dataset named in a statement; `start` and `end` are byte positions, None where unknown.

    `scope` numbers the SELECT whose FROM clause it stands in; `node` is its place in the tree.
    """

    name: TableName
    alias: str
    start: int | None
    end: int
    scope: int
    node: Node


@dataclass(frozen=True, slots=True)
class ColumnReference:
    """A column written with its table, such as `people.name`; of `people.*` the path ends in `*`.

    `start` and `end` are byte positions, `scope` the SELECT it stands in, `node` its place in the tree.
    """

    path: tuple[str, ...]
    start: int
    end: int
    scope: int
    node: Node


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """A statement that the gate let through.

    Every SELECT is a scope with a number: `parents` leads from each to the one around it, and
    `aliases` are the names (folded) in its FROM clause that are not those of datasets.
    """

    sql: bytes
    tree: Node
    tables: tuple[TableReference, ...]
    columns: tuple[ColumnReference, ...]
    parents: Mapping[int, int]
    aliases: Mapping[int, frozenset[str]]

    @property
    def names(self) -> tuple[TableName, ...]:
        """The distinct dataset names, in order of appearance."""
        return tuple(dict.fromkeys(table.name for table in self.tables))


def parse(cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement:
    """Parse one statement. Raises InvalidArgumentError or UnimplementedError."""
    tree = serialize(cursor, sql)
    walker = _Walker(cursor)
    try:
        walker.walk(tree["statements"][0])
    except RecursionError as error:
        raise InvalidArgumentError("the statement is nested too deeply") from error
    return ParsedStatement(
        sql.encode(),
        tree,
        tuple(walker.tables),
        tuple(walker.columns),
        walker.parents,
        {scope: frozenset(names) for scope, names in walker.aliases.items()},
    )


def serialize(cursor: duckdb.DuckDBPyConnection, sql: str) -> Node:
    """Return the tree of a text that holds exactly one query."""
    # All rows are fetched: one that is left unread would hold the cursor.
    rows = cursor.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    try:
        tree: Node = json.loads(rows[0][0])
    except RecursionError as error:
        raise InvalidArgumentError("the statement is nested too deeply") from error
    if tree["error"]:
        raise _refusal(cursor, sql, tree)
    found = len(tree["statements"])
    if found != 1:
        raise InvalidArgumentError(
            f"one statement at a time: this text holds {found}" if found else "the statement is empty"
        )
    return tree


def _refusal(cursor: duckdb.DuckDBPyConnection, sql: str, tree: Node) -> Exception:
    if tree["error_type"] == "parser":
        message = str(tree["error_message"])
        if message.startswith(_TOO_DEEP):
            return InvalidArgumentError("the statement is nested too deeply")
        return InvalidArgumentError(_at_position(sql, message, tree.get("position")))
    try:
        kinds = [statement.type.name for statement in cursor.extract_statements(sql)]
    except duckdb.Error as error:
        return InvalidArgumentError(str(error).split("\n", 1)[0])
    if not kinds:
        return InvalidArgumentError("the statement is empty")
    return UnimplementedError(_ADVICE.get(kinds[0], f"{kinds[0]} statements are not served: send a query"))


_TOO_DEEP = "Max expression depth limit"

_USE_INGEST = (
    "statements that write are not served yet: write with a bulk ingest (adbc_ingest, or DoPut with a path); "
    "the mode create, append or replace decides what happens to a table that exists"
)
_USE_TRANSACTION = (
    "transactions are begun and ended by the driver (autocommit off, commit, rollback), not by SQL"
)

_ADVICE = {
    **dict.fromkeys(
        ("INSERT", "UPDATE", "DELETE", "MERGE_INTO", "CREATE", "DROP", "ALTER", "COPY"), _USE_INGEST
    ),
    "TRANSACTION": _USE_TRANSACTION,
}


def _at_position(sql: str, message: str, position: str | None) -> str:
    if position is None:
        return message
    before = sql.encode()[: int(position)].decode(errors="replace")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    excerpt = sql.splitlines()[line - 1] if sql.splitlines() else ""
    start = max(0, column - 40)
    return (
        f"{message} (line {line}, column {column})\n"
        f"{excerpt[start : start + 80]}\n{' ' * (column - 1 - start)}^"
    )


class _Walker:
    """Walks a tree with a stack of its own; the names of CTEs are known where they can be seen."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self.tables: list[TableReference] = []
        self.columns: list[ColumnReference] = []
        self.parents: dict[int, int] = {}
        self.aliases: dict[int, set[str]] = defaultdict(set)

    def walk(self, statement: Node) -> None:
        stack: list[tuple[Any, frozenset[str], int]] = [(statement, frozenset(), 0)]
        while stack:
            node, known, scope = stack.pop()
            if isinstance(node, list):
                stack.extend((item, known, scope) for item in reversed(node))
            elif isinstance(node, dict):
                known, scope = self._enter(node, known, scope, stack)
                children = (value for key, value in node.items() if key != "cte_map")
                stack.extend((child, known, scope) for child in reversed(list(children)))

    def _enter(
        self, node: Node, known: frozenset[str], scope: int, stack: list[tuple[Any, frozenset[str], int]]
    ) -> tuple[frozenset[str], int]:
        if "cte_map" in node:
            self.parents[len(self.parents) + 1] = scope
            scope = len(self.parents)
            for name, definition in _ctes(node):
                stack.append((definition, _visible_inside(name, definition, known), scope))
                known |= {name.lower()}
        kind = node.get("type")
        if isinstance(kind, str):
            if kind.endswith(_QUERY_NODE_SUFFIX) and kind not in _QUERY_NODES:
                raise UnimplementedError(_USE_INGEST)
            if kind in _VISITS:
                _VISITS[kind](self, node, known, scope)
        if isinstance(node.get("function_name"), str):
            _check_function(node)
        if node.get("alias") and "class" not in node:
            # Expressions have a class, what stands in FROM has none.
            self.aliases[scope].add(str(node["alias"]).lower())
        return known, scope

    def table(self, node: Node, known: frozenset[str], scope: int) -> None:
        path = tuple(node["qualified_name"]["path"])
        if len(path) == 1 and path[0].lower() in known:
            self.aliases[scope].add(path[0].lower())
            return
        version, at = time_travel.moment(self._cursor, node["at_clause"])
        start = node["query_location"]
        located = start < _NO_LOCATION
        end = start + node["query_location_length"] if located else 0
        name = TableName(path, version, at)
        self.tables.append(TableReference(name, node["alias"], start if located else None, end, scope, node))

    def column(self, node: Node, known: frozenset[str], scope: int) -> None:
        if len(node["column_names"]) > 1:
            self._column(tuple(node["column_names"]), node, scope)

    def star(self, node: Node, known: frozenset[str], scope: int) -> None:
        if node["relation_name"]:
            self._column((node["relation_name"], "*"), node, scope)

    def _column(self, path: tuple[str, ...], node: Node, scope: int) -> None:
        start = node["query_location"]
        end = start + node["query_location_length"]
        self.columns.append(ColumnReference(path, start, end, scope, node))

    def table_function(self, node: Node, known: frozenset[str], scope: int) -> None:
        name = node["function"]["function_name"]
        if name.lower() not in TABLE_FUNCTIONS:
            raise InvalidArgumentError(
                f"table function {name}() is not served; those that are: {', '.join(sorted(TABLE_FUNCTIONS))}"
            )

    def show(self, node: Node, known: frozenset[str], scope: int) -> None:
        if node["show_type"] not in _SHOWN:
            raise UnimplementedError("SHOW is not served yet: DESCRIBE and SUMMARIZE of a table or query are")


_VISITS = {
    "BASE_TABLE": _Walker.table,
    "COLUMN_REF": _Walker.column,
    "STAR": _Walker.star,
    "TABLE_FUNCTION": _Walker.table_function,
    "SHOW_REF": _Walker.show,
}


def _ctes(node: Node) -> Iterator[tuple[str, Node]]:
    for entry in node["cte_map"]["map"]:
        yield entry["key"], entry["value"]


def _visible_inside(name: str, definition: Node, known: frozenset[str]) -> frozenset[str]:
    """A recursive CTE sees itself; any other sees only what stands before it."""
    query: Node = definition.get("query_node") or {}
    is_recursive = query.get("type") == "RECURSIVE_CTE_NODE"
    return known | {name.lower()} if is_recursive else known


def _check_function(node: Node) -> None:
    name = node["function_name"].lower()
    # Another word before the name is a column: `name.upper()` calls upper on it.
    if {str(node.get(part, "")).lower() for part in ("catalog", "schema")} & SYSTEM_SCHEMAS:
        raise InvalidArgumentError(f"call {node['function_name']}() without a schema before its name")
    if name in REFUSED_FUNCTIONS:
        raise InvalidArgumentError(f"function {name}() is not served: it shows or changes the engine itself")
