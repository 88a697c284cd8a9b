"""The one parse of a statement, DuckDB's own: it is the gate and finds the names.

What does not come through here is never executed. `json_serialize_sql` gives the tree with the
position of every table; a statement is let through when it is a single query, its table
functions are in an allow-list, its functions are harmless, and every table it names is a CTE
or can be resolved as a dataset. A statement that writes is read as the body of a CTE, which DuckDB
can serialize too, a MERGE as a SELECT of its pieces.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import duckdb

from flight_server.engine import shows
from flight_server.engine.functions import Need
from flight_server.engine.kinds import Kind, Shown, kind_of
from flight_server.engine.markers import Marker, markers
from flight_server.engine.merge import Merge, is_merge, read_merge
from flight_server.engine.search_calls import WrittenSearch, read_calls, with_quoted_names
from flight_server.engine.tokens import Reader
from flight_server.engine.walk import (
    ColumnReference,
    Node,
    TableReference,
    Walker,
    Write,
)
from flight_server.errors import InvalidArgumentError, UnimplementedError
from flight_server.frames.requests import TableName


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """A statement that the gate let through.

    Every SELECT is a scope with a number: `parents` leads from each to the one around it, and
    `aliases` are the names (folded) in its FROM clause that are not those of datasets. `functions`
    are the names (folded) of all that it calls, `variables` those that it reads, None where any may be.
    Of a statement that writes `sql` is the query around it, `target` the table that it writes to, `merge` its
    pieces where it is a MERGE, `returning` where the RETURNING of an INSERT begins that knows no conflicts.
    `need` is what it must be told of the catalog; of the names that begin at the byte positions `dropped` the
    first part goes, None where one is not known. `plain_columns` are the names
    (folded) that stand alone and may be columns; with `reads_all_columns` there is a star.
    """

    sql: bytes
    tree: Node
    tables: tuple[TableReference, ...]
    columns: tuple[ColumnReference, ...]
    parents: Mapping[int, int]
    aliases: Mapping[int, frozenset[str]]
    functions: frozenset[str] = frozenset()
    variables: frozenset[str] | None = frozenset()
    target: TableReference | None = None
    returns_rows: bool = True
    need: Need = Need.NOTHING
    dropped: tuple[int | None, ...] = ()
    merge: Merge | None = None
    returning: int | None = None
    searches: tuple[WrittenSearch, ...] = ()
    plain_columns: frozenset[str] = frozenset()
    reads_all_columns: bool = False

    def written(self, query: str) -> str:
        """Return the statement that writes, from the query around it."""
        if self.merge is not None:
            return self.merge.written(query)
        end = len(query) - len(_WRITE_SUFFIX)
        text = query[len(_WRITE_PREFIX) : end]
        return text if self.returns_rows else text.removesuffix(_RETURNING)

    @property
    def write_node(self) -> Node | None:
        """The node of an INSERT, UPDATE, DELETE or TRUNCATE, None of anything else."""
        if self.target is None or self.merge is not None:
            return None
        return _write_node(self.tree)

    @property
    def parameters(self) -> tuple[Marker, ...]:
        """The places of its parameters, in the order of `sql`."""
        return tuple(markers(self.sql.decode()))

    @property
    def described(self) -> frozenset[TableName]:
        """The dataset names that are described wherever they stand, and nowhere read."""
        read = {table.name for table in self.tables if not table.is_described}
        return frozenset(table.name for table in self.tables) - read

    @property
    def names(self) -> tuple[TableName, ...]:
        """The distinct dataset names, in order of appearance."""
        return tuple(dict.fromkeys(table.name for table in self.tables))


def read(cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement | Kind:
    """Parse one statement of any kind. Raises InvalidArgumentError or UnimplementedError."""
    sql = with_quoted_names(sql)
    tree = _tree(cursor, sql)
    query = shows.stands_for(tree)
    if query is not None:
        return Shown(query)
    return kind_of(cursor, sql) if _is_other(tree) else _query(cursor, sql, tree)


def parse(cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement:
    """Parse one query. Raises InvalidArgumentError or UnimplementedError."""
    sql = with_quoted_names(sql)
    return _query(cursor, sql, _tree(cursor, sql))


def parse_write(cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement:
    """Parse one INSERT, UPDATE, DELETE, TRUNCATE or MERGE.

    Raises InvalidArgumentError or UnimplementedError.
    """
    sql = with_quoted_names(sql)
    reader = Reader(sql)
    if is_merge(reader):
        return _parse_merge(cursor, read_merge(sql))
    returns_rows = any(token.depth == 0 and token.word == "RETURNING" for token in reader.tokens)
    start = _target_start(reader)
    is_truncate = reader.tokens[0].word == "TRUNCATE"
    text = reader.text(0, reader.tokens[-1].end)
    wrapped = _WRITE_PREFIX + text + ("" if returns_rows or is_truncate else _RETURNING) + _WRITE_SUFFIX
    tree = _tree(cursor, wrapped)
    _check(wrapped, tree)
    size = len(_WRITE_PREFIX)
    end = size + len(text.encode())
    write = Write(_write_node(tree), start + size, end, returns_rows, _inserted_as(reader))
    found = _walked(cursor, wrapped, tree, write)
    starts = [token.start for token in reader.tokens if token.depth == 0 and token.word == "RETURNING"]
    is_plain = write.node["type"] == "INSERT_QUERY_NODE" and not write.node.get("on_conflict_info")
    if not starts or not is_plain:
        return found
    return replace(found, returning=starts[-1] + size)


_WRITE_PREFIX, _RETURNING, _WRITE_SUFFIX = "WITH _written AS (", " RETURNING *", ") FROM _written"


def _write_node(tree: Node) -> Node:
    node: Node = tree["statements"][0]["node"]["cte_map"]["map"][0]["value"]["query_node"]
    return node


def _parse_merge(cursor: duckdb.DuckDBPyConnection, merge: Merge) -> ParsedStatement:
    query = _query(cursor, merge.select, _tree(cursor, merge.select))
    target = next((table for table in query.tables if table.start == merge.target_start), None)
    if target is None or target.name != TableName(target.name.path):
        raise InvalidArgumentError("MERGE INTO takes the name of a table")
    return replace(query, target=target, merge=merge, returns_rows=merge.returns_rows)


_WRITE_HEADS = {"INSERT": ("INTO",), "UPDATE": (), "DELETE": ("FROM",), "TRUNCATE": ()}


def _target_start(reader: Reader) -> int:
    """Return where the name of the table that is written begins."""
    while reader.token and not (reader.token.depth == 0 and reader.word in _WRITE_HEADS):
        reader.at += 1
    head = _WRITE_HEADS.get(reader.word)
    if head is None:
        raise reader.unexpected("INSERT, UPDATE, DELETE or TRUNCATE")
    reader.at += 1
    if reader.take("OR"):
        reader.at += 1
    if head:
        reader.take(*head)
    reader.take("TABLE")
    if reader.token is None:
        raise reader.unexpected("a table")
    return reader.token.start


def _inserted_as(reader: Reader) -> str:
    """Return the alias of an INSERT's target, whose name comes next."""
    reader.name()
    return reader.name()[0] if reader.take("AS") else ""


def _query(cursor: duckdb.DuckDBPyConnection, sql: str, tree: Node) -> ParsedStatement:
    _check(sql, tree)
    return _walked(cursor, sql, tree, None)


def _walked(cursor: duckdb.DuckDBPyConnection, sql: str, tree: Node, write: Write | None) -> ParsedStatement:
    walker = Walker(cursor, write)
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
        frozenset(walker.functions),
        None
        if None in walker.variables
        else frozenset(name for name in walker.variables if name is not None),
        walker.target,
        write is None or write.returns_rows,
        walker.need,
        tuple(walker.dropped),
        searches=read_calls(sql.encode(), walker.searches),
        plain_columns=frozenset(walker.plain_columns),
        reads_all_columns=walker.reads_all_columns,
    )


def _tree(cursor: duckdb.DuckDBPyConnection, sql: str) -> Node:
    """Return what DuckDB makes of a text: statements, or why not."""
    # All rows are fetched: one that is left unread would hold the cursor.
    rows = cursor.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    try:
        tree: Node = json.loads(rows[0][0])
    except RecursionError as error:
        raise InvalidArgumentError("the statement is nested too deeply") from error
    return tree


def _is_other(tree: Node) -> bool:
    return bool(tree["error"]) and tree["error_type"] != "parser"


def _check(sql: str, tree: Node) -> None:
    """Check that a tree is that of one query. Raises InvalidArgumentError, UnimplementedError."""
    if tree["error"]:
        message = str(tree["error_message"])
        if tree["error_type"] != "parser":
            raise UnimplementedError("only a query can stand here")
        if message.startswith(_TOO_DEEP):
            raise InvalidArgumentError("the statement is nested too deeply")
        raise InvalidArgumentError(_at_position(sql, message, tree.get("position")))
    found = len(tree["statements"])
    if found != 1:
        raise InvalidArgumentError(
            f"one statement at a time: this text holds {found}" if found else "the statement is empty"
        )


_TOO_DEEP = "Max expression depth limit"


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
