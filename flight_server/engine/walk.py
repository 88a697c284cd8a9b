"""Walks the tree of a statement: finds what it names, and refuses what must not run."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from flight_server.domain.session import DUCKDB_SETTINGS
from flight_server.engine import shows, time_travel
from flight_server.engine.functions import (
    METADATA_FUNCTIONS,
    REFUSED_FUNCTIONS,
    SCALAR_NEEDS,
    SEARCH_FUNCTIONS,
    SHOWN,
    SYSTEM_SCHEMAS,
    TABLE_FUNCTIONS,
    Need,
    system_view,
)
from flight_server.errors import InvalidArgumentError, UnimplementedError
from flight_server.frames.requests import TableName

Node = dict[str, Any]

_NO_LOCATION = 1 << 63
_ALL_VARIABLES = '"variables"'
_DESCRIBED = frozenset({"DESCRIBE", "SUMMARY"})

_QUERY_NODE_SUFFIX = "_NODE"
_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""What a query may consist of; the others write (`WITH x AS (INSERT …)`, and COPY alike)."""


_WRITE_NODES = frozenset({"INSERT_QUERY_NODE", "UPDATE_QUERY_NODE", "DELETE_QUERY_NODE"})


@dataclass(frozen=True, slots=True)
class TableReference:
    """A dataset named in a statement; `start` and `end` are byte positions, None where unknown.

    `scope` numbers the SELECT whose FROM clause it stands in; `node` is its place in the tree. Of one that
    `is_described` no rows are read.
    """

    name: TableName
    alias: str
    start: int | None
    end: int
    scope: int
    node: Node
    is_described: bool = False


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
class SearchReference:
    """A call of a search function; it starts at byte `start`, `scope` and `node` are as of a table."""

    function: str
    start: int | None
    scope: int
    node: Node


@dataclass(frozen=True, slots=True)
class Write:
    """The node of a statement that writes, where the name of its target begins, and its text ends.

    `alias` is the name that an INSERT gives its target, which is not in every node.
    """

    node: Node
    start: int
    end: int
    returns_rows: bool
    alias: str = ""


class Walker:
    """Walks a tree with a stack of its own; the names of CTEs are known where they can be seen.

    `write` is the node of a statement that writes; any other such node is refused.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, write: Write | None) -> None:
        self._cursor = cursor
        self._write = write
        self._described: set[int] = set()
        self.tables: list[TableReference] = []
        self.columns: list[ColumnReference] = []
        self.parents: dict[int, int] = {}
        self.aliases: dict[int, set[str]] = defaultdict(set)
        self.functions: set[str] = set()
        self.need = Need.NOTHING
        self.dropped: list[int | None] = []
        self.variables: set[str | None] = set()
        self.target: TableReference | None = None
        self.searches: list[SearchReference] = []
        self.plain_columns: set[str] = set()
        self.reads_all_columns = False

    def walk(self, statement: Node) -> None:
        """Walk over a statement. Raises InvalidArgumentError or UnimplementedError."""
        stack: list[tuple[Any, frozenset[str], int]] = [(statement, frozenset(), 0)]
        while stack:
            node, known, scope = stack.pop()
            if isinstance(node, list):
                stack.extend((item, known, scope) for item in reversed(node))
            elif isinstance(node, dict):
                known, scope = self._enter(node, known, scope, stack)
                if node.get("type") == "VALUE_CONSTANT":
                    continue  # it holds no names, and a list of VALUES has many
                skipped = _SKIPPED_OF_WRITE if self._is_write(node) else _SKIPPED
                children = (value for key, value in node.items() if key not in skipped)
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
            self._visit(kind, node, known, scope)
        if isinstance(node.get("function_name"), str):
            self._function(node)
        if node.get("alias") and "class" not in node:
            # Expressions have a class, what stands in FROM has none.
            self.aliases[scope].add(str(node["alias"]).lower())
        return known, scope

    def _table(self, node: Node, known: frozenset[str], scope: int) -> None:
        path = tuple(node["qualified_name"]["path"])
        if len(path) == 1 and path[0].lower() in known:
            self.aliases[scope].add(path[0].lower())
            return
        need = system_view(path)
        if need is not None:
            self._system_view(node, path, scope, need)
            return
        version, at = time_travel.moment(self._cursor, node["at_clause"])
        start = node["query_location"]
        located = start < _NO_LOCATION
        end = start + node["query_location_length"] if located else 0
        name = TableName(path, version, at)
        place = start if located else None
        is_described = id(node) in self._described
        self.tables.append(TableReference(name, node["alias"], place, end, scope, node, is_described))

    def _visit(self, kind: str, node: Node, known: frozenset[str], scope: int) -> None:
        if self._is_write(node):
            self._written(node, scope)
        elif kind.endswith(_QUERY_NODE_SUFFIX) and kind not in _QUERY_NODES:
            raise UnimplementedError("a statement that writes cannot stand inside a query: send it alone")
        if kind in _VISITS:
            _VISITS[kind](self, node, known, scope)

    def _is_write(self, node: Node) -> bool:
        return self._write is not None and self._write.node is node and node["type"] in _WRITE_NODES

    def _written(self, node: Node, scope: int) -> None:
        """Note the table that a statement writes to; DuckDB gives it no position."""
        assert self._write is not None  # noqa: S101 - _is_write has said so
        table: Node = node["table"] if isinstance(node["table"], dict) else (node.get("table_ref") or {})
        path = tuple((table or node)["qualified_name"]["path"])
        name, start, end = TableName(path), self._write.start, self._write.end
        alias = table.get("alias") or self._write.alias
        self.target = TableReference(name, alias, start, end, scope, table)
        self.tables.append(self.target)

    def _column(self, node: Node, known: frozenset[str], scope: int) -> None:
        if len(node["column_names"]) > 1:
            self._add_column(tuple(node["column_names"]), node, scope)
        else:
            self.plain_columns.add(node["column_names"][0].lower())
            # Perhaps no column: some functions are called without brackets.
            self._needs(SCALAR_NEEDS.get(node["column_names"][0].lower(), Need.NOTHING))

    def _star(self, node: Node, known: frozenset[str], scope: int) -> None:
        self.reads_all_columns = True
        if node["relation_name"]:
            self._add_column((node["relation_name"], "*"), node, scope)

    def _add_column(self, path: tuple[str, ...], node: Node, scope: int) -> None:
        start = node["query_location"]
        end = start + node["query_location_length"]
        self.columns.append(ColumnReference(path, start, end, scope, node))

    def _table_function(self, node: Node, known: frozenset[str], scope: int) -> None:
        name = node["function"]["function_name"]
        if name.lower() in SEARCH_FUNCTIONS:
            self._search(name.lower(), node, scope)
            return
        if name.lower() not in TABLE_FUNCTIONS:
            served = ", ".join(sorted({*TABLE_FUNCTIONS, *SEARCH_FUNCTIONS}))
            raise InvalidArgumentError(f"table function {name}() is not served; those that are: {served}")
        self._needs(METADATA_FUNCTIONS.get(name.lower(), Need.NOTHING))
        if name.lower() == "duckdb_variables":
            self.variables.add(None)

    def _search(self, name: str, node: Node, scope: int) -> None:
        start = node["query_location"]
        self.searches.append(SearchReference(name, start if start < _NO_LOCATION else None, scope, node))
        if not node["alias"]:
            self.aliases[scope].add(name)

    def _show(self, node: Node, known: frozenset[str], scope: int) -> None:
        name = str(node["table_name"]).lower()
        kind = "DESCRIBE" if shows.is_described(node) else node["show_type"]
        if kind == "DESCRIBE":
            self._described |= {id(each) for each in _nodes(node)}
        if kind == "SHOW_SPECIAL" and name in SHOWN:
            self._needs(SHOWN[name])
            if name == _ALL_VARIABLES:
                self.variables.add(None)
        elif kind not in _DESCRIBED and not (kind == "SHOW" and name in DUCKDB_SETTINGS):
            raise UnimplementedError(
                "this SHOW cannot stand inside a query: send it alone, or use DESCRIBE or information_schema"
            )

    def _function(self, node: Node) -> None:
        """Check a call; what stands in `pg_catalog` is called without it, so that ours come first."""
        schema, start = str(node.get("schema", "")).lower(), node["query_location"]
        if schema == "pg_catalog" and not node.get("catalog") and start < _NO_LOCATION:
            self.dropped.append(start)
            node["schema"] = ""
            node["qualified_name"] = {"path": node["qualified_name"]["path"][-1:]}
        if node["function_name"].lower() in SEARCH_FUNCTIONS and start < _NO_LOCATION:
            raise InvalidArgumentError(f"{node['function_name']}() is a table function: write it after FROM")
        _check_function(node)
        self.functions.add(node["function_name"].lower())
        self._needs(SCALAR_NEEDS.get(node["function_name"].lower(), Need.NOTHING))
        if node["function_name"].lower() == "getvariable":
            self.variables.add(_literal(node).lower() or None)

    def _system_view(self, node: Node, path: tuple[str, ...], scope: int, need: Need) -> None:
        """Note a view of DuckDB's own, which lies in no database of ours."""
        if node["at_clause"] is not None:
            raise InvalidArgumentError(f"{path[-1]} shows the present and has no versions: leave out AT")
        if len(path) == 3 and path[0].lower() != "system":
            start = node["query_location"]
            self.dropped.append(start if start < _NO_LOCATION else None)
            node.update(catalog_name="", qualified_name={"path": list(path[1:])})
        if not node["alias"]:
            self.aliases[scope].add(path[-1].lower())
        self._needs(need)

    def _needs(self, need: Need) -> None:
        self.need = max(self.need, need)


_SKIPPED = frozenset({"cte_map"})
_SKIPPED_OF_WRITE = _SKIPPED | {"table", "table_ref"}

_VISITS = {
    "BASE_TABLE": Walker._table,
    "COLUMN_REF": Walker._column,
    "STAR": Walker._star,
    "TABLE_FUNCTION": Walker._table_function,
    "SHOW_REF": Walker._show,
}


def _nodes(root: Any) -> Iterator[Node]:
    """Yield all nodes of a tree."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


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
    if name == "current_setting" and _literal(node).lower() not in DUCKDB_SETTINGS:
        raise InvalidArgumentError(
            f"current_setting() takes the name of one of {', '.join(DUCKDB_SETTINGS.values())}"
        )


def _literal(node: Node) -> str:
    """Return the text of a function's one argument, empty when it is no literal."""
    arguments = [argument["expression"] for argument in node["arguments"]]
    return (
        str(arguments[0]["literal"].get("text", "")) if [*map(_kind, arguments)] == ["VALUE_CONSTANT"] else ""
    )


def _kind(node: Node) -> str:
    return str(node["type"])
