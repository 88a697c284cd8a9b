"""Makes a statement's text ready to run: parsed, its names resolved, hidden relations in their place."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import duckdb
import pyarrow as pa

from flight_server.domain.recent import RecentMap
from flight_server.engine import quote
from flight_server.engine.binding import bind
from flight_server.engine.functions import Need
from flight_server.engine.instance import hidden_path
from flight_server.engine.introspection import Introspection
from flight_server.engine.kinds import Kind
from flight_server.engine.parse import ParsedStatement, parse_write, read
from flight_server.engine.ready import Ready, Written, weight
from flight_server.engine.relations import Relations, described_relation
from flight_server.engine.search_calls import full_names
from flight_server.engine.searches import Fill, ReadySearch, Searches, used_columns
from flight_server.engine.sessions import is_temporary
from flight_server.engine.splice import Place, splice, spliced
from flight_server.engine.statement import Statement
from flight_server.errors import InvalidArgumentError, NotFoundError
from flight_server.frames.requests import TableName, is_version, is_view

_CACHED_BYTES = 64 * 1024 * 1024
_MAX_VIEW_DEPTH = 16
_MAX_VIEW_TABLES = 1_000
_EXPRESSION = "SELECT ({}\n)"


class Preparation:
    """Prepares statements; remembers what a text parses to, and what it is over certain relations."""

    def __init__(self, relations: Relations, introspection: Introspection, searches: Searches) -> None:
        self._relations = relations
        self._searches = searches
        self._introspection = introspection
        self._read: RecentMap[str, ParsedStatement | Kind] = RecentMap(_CACHED_BYTES)
        self._writes: RecentMap[str, ParsedStatement] = RecentMap(_CACHED_BYTES)
        self._spliced: RecentMap[object, str] = RecentMap(_CACHED_BYTES)
        self._used: RecentMap[bytes, tuple[frozenset[str] | None]] = RecentMap(_CACHED_BYTES)

    def read(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement | Kind:
        """Parse a statement of any kind."""
        found = self._read.get(sql)
        if found is None:
            found = read(cursor, sql)
            self._read.put(sql, found, weight(sql))
        return found

    def read_write(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement:
        """Parse a statement that writes."""
        found = self._writes.get(sql)
        if found is None:
            found = parse_write(cursor, sql)
            self._writes.put(sql, found, weight(sql))
        return found

    def check_expression(self, cursor: duckdb.DuckDBPyConnection, expression: str) -> None:
        """Refuse what is no expression of columns and constants. Raises InvalidArgumentError."""
        parsed = self._read_query(cursor, _EXPRESSION.format(expression))
        is_plain = not parsed.tables and parsed.variables == frozenset() and len(parsed.parents) == 1
        if not is_plain or parsed.parameters:
            raise InvalidArgumentError(
                "an expression here cannot read tables or variables, or take parameters"
            )

    def unqualified(self, cursor: duckdb.DuckDBPyConnection, expression: str, table: str) -> str:
        """Return an expression without the table's name before its columns."""
        parsed = self._read_query(cursor, _EXPRESSION.format(expression))
        sql, at, out = parsed.sql, 0, []
        for column in sorted(parsed.columns, key=lambda found: found.start):
            if column.path[0].lower() == table.lower():
                out += [sql[at : column.start], quote.path(column.path[1:]).encode()]
                at = column.end
        text = b"".join([*out, sql[at:]]).decode()
        before, after = _EXPRESSION.split("{}")
        return text.removeprefix(before).removesuffix(after)

    def names(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> tuple[TableName, ...]:
        """Return what a query names. Raises InvalidArgumentError when it is none."""
        return self._read_query(cursor, sql).names

    def query(self, cursor: duckdb.DuckDBPyConnection, statement: Statement, sql: str) -> Ready:
        """Prepare a query that a statement holds. Raises InvalidArgumentError when it is none."""
        return self.prepare(cursor, statement, self._read_query(cursor, sql))

    def prepare(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        parsed: ParsedStatement,
        depth: int = 0,
        written: Written | None = None,
        is_described: bool = False,
    ) -> Ready:
        """Resolve what a statement names, and put it in the place of the names.

        What is only described, as all of a view may be, is a table without rows that declares what it does.
        """
        names = _read_names(parsed, written)
        described = frozenset(names) if is_described else parsed.described
        own, inner = self._own(cursor, statement, names, depth, described)
        profile = statement.caller.profile
        searched = [name for search in parsed.searches for name in search.call.names(profile)]
        asked = tuple(dict.fromkeys([*(name for name in names if name not in own), *searched]))
        _check_temporary(asked)
        found = dict(zip(asked, statement.questions.resolve(asked), strict=True)) if asked else {}
        searches = _ready_searches(parsed, profile, found, self._used_columns(parsed)) if searched else []
        found = {name: relation for name, relation in found.items() if name in names}
        inner |= self._views(cursor, statement, found, depth, described)
        found |= _described(found, described)
        places = own | {name: _place(relation, written) for name, relation in found.items()}
        places |= {name: Place(query=view.sql) for name, view in inner.items()}
        reads = sum(1 + (inner[table.name].reads if table.name in inner else 0) for table in parsed.tables)
        if inner:
            _check_reads(reads)
        sql = self._text(cursor, parsed, (places, [_search_place(search) for search in searches]), written)
        views = inner.values()
        variables = _all_of([parsed.variables, *(view.variables for view in views)])
        all_pins = tuple(dict.fromkeys([*(pin for view in views for pin in view.pins), *found.values()]))
        need = max([parsed.need, *(view.need for view in views)])
        is_shared = not inner and not own and variables == frozenset() and written is None
        all_searches = [*searches, *(search for view in views for search in view.searches)]
        distinct = tuple({search.name: search for search in all_searches}.values())
        return Ready(sql, places, asked, all_pins, reads, variables, is_shared, need, distinct)

    def _used_columns(self, parsed: ParsedStatement) -> frozenset[str] | None:
        found = self._used.get(parsed.sql)
        if found is None:
            found = (used_columns(parsed),)
            self._used.put(parsed.sql, found, weight(parsed.sql.decode()))
        return found[0]

    def _views(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        found: Mapping[TableName, str],
        depth: int,
        described: frozenset[TableName],
    ) -> dict[TableName, Ready]:
        """Prepare the queries of the views among what names mean."""
        views = {name: relation for name, relation in found.items() if is_view(relation)}
        known = statement.questions.describe([*views.values()]) if views else {}
        return {
            name: self._view(cursor, statement, known[relation].definition or "", depth, name in described)
            for name, relation in views.items()
        }

    def _text(
        self,
        cursor: duckdb.DuckDBPyConnection,
        parsed: ParsedStatement,
        stands: tuple[Mapping[TableName, Place], Sequence[Place]],
        written: Written | None,
    ) -> str:
        if written is not None:
            return spliced(cursor, parsed, stands, written.table)
        key = (parsed.sql, tuple(stands[0].items()), tuple(stands[1]))
        sql = self._spliced.get(key)
        if sql is None:
            sql = spliced(cursor, parsed, stands, None)
            self._spliced.put(key, sql, weight(sql))
        return sql

    def qualified(self, cursor: duckdb.DuckDBPyConnection, statement: Statement, sql: str) -> str:
        """Return a query with the full names of all that it names, as a view keeps it."""
        parsed = self._read_query(cursor, sql)
        if parsed.parameters:
            raise InvalidArgumentError("a view takes no parameters: write the values into its query")
        state = statement.caller.state
        asked = [name for name in parsed.names if not (state.table(name.path) or state.view(name.path))]
        places = {name: Place(("temp", "main", name.path[-1])) for name in parsed.names}
        searched = [search.call.names(statement.caller.profile) for search in parsed.searches]
        wanted = list(dict.fromkeys([*asked, *(name for names in searched for name in names)]))
        paths = dict(zip(wanted, statement.questions.qualify(wanted), strict=True)) if wanted else {}
        places |= {name: Place(tuple(paths[name])) for name in asked}
        edits = [
            edit
            for search, names in zip(parsed.searches, searched, strict=True)
            for edit in full_names(search.call, [paths[name] for name in names])
        ]
        return splice(cursor, parsed, places, edits=edits)

    def _read_query(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> ParsedStatement:
        parsed = self.read(cursor, sql)
        if not isinstance(parsed, ParsedStatement):
            raise InvalidArgumentError("only a query can stand here")
        return parsed

    def _own(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        names: Sequence[TableName],
        depth: int,
        described: frozenset[TableName],
    ) -> tuple[dict[TableName, Place], dict[TableName, Ready]]:
        """Return the session's own tables and views among the names, and the queries of the views."""
        state = statement.caller.state
        places: dict[TableName, Place] = {}
        inner: dict[TableName, Ready] = {}
        for name in names if state.tables or state.views else ():
            table, view = state.table(name.path), state.view(name.path)
            if table is None and view is None:
                continue
            if name.version is not None or name.at is not None:
                raise InvalidArgumentError(f"{name.path[-1]} is temporary and has no versions: leave out AT")
            if table is not None:
                places[name] = Place(hidden_path(table.relation))
            elif view is not None:
                ready = self._view(cursor, statement, view.query, depth, name in described)
                places[name] = Place(query=ready.sql)
                inner[name] = ready
        return places, inner

    def _view(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        sql: str,
        depth: int,
        is_described: bool,
    ) -> Ready:
        if depth >= _MAX_VIEW_DEPTH:
            raise InvalidArgumentError(
                f"a view reads itself, or views are nested more than {_MAX_VIEW_DEPTH} deep"
            )
        parsed = self._read_query(cursor, sql)
        return self.prepare(cursor, statement, parsed, depth + 1, is_described=is_described)

    @contextmanager
    def available(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        ready: Ready,
        with_rows: bool = False,
        announces: bool = True,
    ) -> Iterator[Fill]:
        """Hold what a text reads while it is bound or started; system tables have rows only where asked.

        Searches have none until they are filled, which is what this yields, before each run; they are there
        once they are announced, which a text that was bound before does not need.
        """
        if with_rows:
            self._tell(cursor, statement, ready.need)
        else:
            self._introspection.announce(cursor, ready.need)
        for name in ready.system_tables:
            # Before anything streams: a cursor with an open stream takes no new tables.
            cursor.register(name, self._system_table(statement, name, with_rows))
        _set_variables(cursor, statement.caller.state.variables, ready.variables)
        with self.pinned(statement, ready):
            fill = self._searches.of(cursor, statement, ready.searches)
            if announces:
                fill.announce()
            yield fill

    def pinned(self, statement: Statement, ready: Ready) -> AbstractContextManager[None]:
        """Hold the dataset versions that a text reads, where all else is there already."""
        return self._relations.pinned(ready.versions, statement.questions.describe)

    def _tell(self, cursor: duckdb.DuckDBPyConnection, statement: Statement, need: Need) -> None:
        def describe_view(query: str) -> pa.Schema:
            with cursor.cursor() as apart:
                ready = self.query(apart, statement, query)
                with self.available(apart, statement, ready):
                    return bind(apart, ready.sql).schema

        state = statement.caller.state
        self._introspection.tell(cursor, need, statement.questions.rows, state, describe_view)

    def _system_table(self, statement: Statement, name: str, with_rows: bool) -> pa.Table:
        if with_rows:
            return statement.questions.rows(name)
        described = statement.questions.describe([name])[name]
        return pa.ipc.read_schema(pa.py_buffer(described.schema)).empty_table()


def _check_temporary(asked: Sequence[TableName]) -> None:
    for name in asked:
        if len(name.path) > 1 and is_temporary(name.path):
            raise NotFoundError(f"no temporary table {name.path[-1]!r} in this session")


def _check_reads(reads: int) -> None:
    if reads > _MAX_VIEW_TABLES:
        raise InvalidArgumentError(
            f"the views of this statement name tables in more than {_MAX_VIEW_TABLES} places: "
            "store one of them in a table"
        )


def _described(found: Mapping[TableName, str], described: frozenset[TableName]) -> dict[TableName, str]:
    """Return what is read of the dataset versions among the names that are only described."""
    versions = {name: relation for name, relation in found.items() if is_version(relation)}
    return {name: described_relation(relation) for name, relation in versions.items() if name in described}


def _all_of(names: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    """Return all names; None stands for any."""
    return None if None in names else frozenset().union(*(found for found in names if found is not None))


def _set_variables(
    cursor: duckdb.DuckDBPyConnection, variables: Mapping[str, str], wanted: frozenset[str] | None
) -> None:
    for name in variables.keys() if wanted is None else variables.keys() & wanted:
        relation = variables[name]
        value = f"(FROM {quote.path(hidden_path(relation))})"
        cursor.execute(f"SET VARIABLE {quote.identifier(name)} = {value}")


def _read_names(parsed: ParsedStatement, written: Written | None) -> tuple[TableName, ...]:
    """Return the names that a statement reads."""
    if written is None:
        return parsed.names
    return tuple(dict.fromkeys(table.name for table in parsed.tables if table is not parsed.target))


def _place(relation: str, written: Written | None) -> Place:
    if written is not None and written.instead is not None and relation == written.relation:
        return written.instead
    return Place(hidden_path(relation))


def _ready_searches(
    parsed: ParsedStatement,
    profile: str | None,
    found: Mapping[TableName, str],
    used: frozenset[str] | None,
) -> list[ReadySearch]:
    """Return the searches of a statement, over the relations of their datasets."""
    searches = []
    for search in parsed.searches:
        relations = [found[name] for name in search.call.names(profile)]
        for name, relation in zip(search.call.names(profile), relations, strict=True):
            if not is_version(relation):
                raise InvalidArgumentError(
                    f"{'.'.join(name.path)} is a view or a system table: a search reads datasets only"
                )
        queries = relations[1] if len(relations) > 1 else None
        hidden = search.call.relation([*relations, *sorted(used or "*")])
        searches.append(ReadySearch(hidden, search.call, relations[0], queries, used))
    return searches


def _search_place(search: ReadySearch) -> Place:
    path = hidden_path(search.name)
    return Place(query=search.call.query(path)) if search.call.markers else Place(path)
