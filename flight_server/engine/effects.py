"""Statements that have effects, on datasets or on a session: temporary tables and views, variables.

What the gateway keeps of a session (transactions, settings, the current bucket) is named to it as a verb.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain.session import DUCKDB_SETTINGS, Verb
from flight_server.engine import arguments, quote, scratch, writes
from flight_server.engine.alterations import RenameTable
from flight_server.engine.binding import Binding, bind
from flight_server.engine.dataset_definitions import DatasetDefinitions
from flight_server.engine.dataset_writes import DatasetWrites
from flight_server.engine.instance import Instance, hidden_path
from flight_server.engine.kinds import (
    Alter,
    Comment,
    CreateSchema,
    CreateTable,
    CreateView,
    Deallocate,
    Drop,
    Execute,
    Kind,
    Prepare,
    SetVariable,
    Write,
)
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.preparation import Preparation
from flight_server.engine.ready import Ready
from flight_server.engine.relations import Relations
from flight_server.engine.sessions import (
    EngineSession,
    EngineSessions,
    TempTable,
    TempView,
    is_temporary,
    without,
)
from flight_server.engine.statement import Done, Statement
from flight_server.engine.temp_alterations import alteration
from flight_server.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
)

Cursor = duckdb.DuckDBPyConnection

_NOTHING = Binding(pa.schema([]), pa.schema([]))


class Effects:
    """Runs statements that have effects; what changes a session holds its lock."""

    def __init__(
        self, instance: Instance, preparation: Preparation, sessions: EngineSessions, relations: Relations
    ) -> None:
        self._preparation = preparation
        self._writes = DatasetWrites(preparation, relations, sessions)
        self._datasets = DatasetDefinitions(preparation, relations, sessions)
        self._sessions = sessions
        self._definitions = scratch.Definitions()
        self._instance = instance

    def run(self, cursor: Cursor, statement: Statement, kind: Kind) -> Done:
        """Run a statement."""
        if isinstance(kind, Verb):
            return self._verb(kind)
        if self._is_of_datasets(cursor, statement, kind):
            if isinstance(kind, Write):
                return self._writes.run(cursor, statement, self._preparation.read_write(cursor, kind.sql))
            return self._datasets.run(cursor, statement, kind)
        with self._sessions.changing(statement.caller.session_id, statement.running.check) as state:
            if isinstance(kind, _ADDS):
                state.check_room(statement.sql)
            caller = replace(statement.caller, state=state)
            return _EFFECTS[type(kind)](self, cursor, replace(statement, caller=caller), kind)

    def _is_of_datasets(self, cursor: Cursor, statement: Statement, kind: Kind) -> bool:
        """Tell whether a statement is about what is in the catalog, and not about the session's own."""
        state = statement.caller.state
        if isinstance(kind, CreateTable | CreateView):
            return not (kind.is_temporary or kind.path[0].lower() == "temp")
        if isinstance(kind, Write):
            target = self._preparation.read_write(cursor, kind.sql).target
            if target is not None and state.view(target.name.path):
                name = target.name.path[-1]
                raise InvalidArgumentError(f"{name} is a temporary view: write to the tables that it reads")
            return target is not None and state.table(target.name.path) is None
        if isinstance(kind, Drop | Alter):
            return kind.what == "SCHEMA" or not (state.table(kind.path) or state.view(kind.path))
        return isinstance(kind, Comment | CreateSchema)

    def bind(self, cursor: Cursor, statement: Statement, kind: Kind) -> tuple[Binding, bool]:
        """Return what a statement returns and takes without running it, and whether it is an update."""
        if not isinstance(kind, Write):
            return self._bind_query(cursor, statement, _query_in(kind)), True
        parsed = self._preparation.read_write(cursor, kind.sql)
        if self._is_of_datasets(cursor, statement, kind):
            binding = self._writes.bind(cursor, statement, parsed)
        else:
            ready = self._preparation.prepare(cursor, statement, parsed)
            with self._preparation.available(cursor, statement, ready):
                binding = bind(cursor, ready.sql)
        schema = writes.named(binding.schema) if parsed.returns_rows else pa.schema([])
        return replace(binding, schema=schema), not parsed.returns_rows

    def _bind_query(self, cursor: Cursor, statement: Statement, query: str | None) -> Binding:
        """Return the parameters of a statement that stores what a query returns."""
        parsed = self._preparation.read(cursor, query) if query is not None else None
        if not isinstance(parsed, ParsedStatement) or not parsed.parameters:
            return _NOTHING
        ready = self._preparation.prepare(cursor, statement, parsed)
        with self._preparation.available(cursor, statement, ready):
            return replace(bind(cursor, ready.sql), schema=pa.schema([]))

    def executed(self, cursor: Cursor, statement: Statement, kind: Execute) -> str:
        """Return the text of a prepared statement with the arguments of EXECUTE in it."""
        sql = statement.caller.state.prepared.get(kind.name.lower())
        if sql is None:
            raise NotFoundError(f"no prepared statement {kind.name!r} in this session: PREPARE it first")
        found = self._preparation.read(cursor, sql)
        if isinstance(found, Write):
            found = self._preparation.read_write(cursor, sql)
        if not isinstance(found, ParsedStatement):
            return sql
        text = arguments.put_in(found, kind.arguments)
        return text if found.target is None else found.written(text)

    def _verb(self, kind: Verb) -> Done:
        """Return what the gateway is to do, with a setting of DuckDB's tried and named as DuckDB names it."""
        name = DUCKDB_SETTINGS.get(kind.name, kind.name)
        if kind.name in DUCKDB_SETTINGS and kind.value is not None:
            try:
                with self._instance.cursor() as apart:
                    apart.execute(f"SET {quote.identifier(name)} = {quote.text(kind.value)}")
            except duckdb.Error as error:
                reason = str(error).partition(" Error: ")[2].split("\n", 1)[0]
                raise InvalidArgumentError(f"{name} cannot be set so: {reason}") from error
        return Done(verb=replace(kind, name=name))

    def _set_variable(self, cursor: Cursor, statement: Statement, kind: SetVariable) -> Done:
        state = statement.caller.state
        if kind.expression is None:
            self._sessions.set_variable(state, kind.name, None)
            return Done()
        ready = self._preparation.query(cursor, statement, _selected(kind.expression))
        relation = self._stored(cursor, statement, ready, kind.name)
        self._sessions.set_variable(state, kind.name, relation)
        return Done()

    def _stored(
        self, cursor: Cursor, statement: Statement, ready: Ready, name: str, *, with_data: bool = True
    ) -> str:
        """Store what a query returns in a hidden table, or its columns alone, and return its relation."""
        relation = self._sessions.new_relation(name)
        with self._preparation.available(cursor, statement, ready, with_rows=True) as fill:
            sql, values = writes.one_row(cursor, ready.sql, statement)
            fill(values)
            suffix = "" if with_data else "\nWITH NO DATA"
            cursor.execute(f"CREATE TABLE {quote.path(hidden_path(relation))} AS {sql}{suffix}", values)
        return relation

    def _create_table(self, cursor: Cursor, statement: Statement, kind: CreateTable) -> Done:
        state = statement.caller.state
        if self._is_there(state, kind):
            return Done()
        if kind.query is None:
            relation = self._defined(cursor, statement, kind.columns or "", kind.path[-1])
        else:
            query = arguments.named(kind.query, kind.columns)
            ready = self._preparation.query(cursor, statement, query)
            relation = self._stored(cursor, statement, ready, kind.path[-1], with_data=kind.with_data)
        rows = cursor.execute(f"SELECT count(*) FROM {quote.path(hidden_path(relation))}").fetchall()[0][0]  # noqa: S608 - quoted
        self._sessions.save(state, statement.caller.transaction)
        self._put(state, kind.path[-1], TempTable(kind.path[-1], relation))
        return Done(rows)

    def _defined(self, cursor: Cursor, statement: Statement, columns: str, name: str) -> str:
        """Create a hidden table of definitions of columns."""
        definition = self._definitions.check(columns, wanted=statement.running.check)
        for expression in definition.expressions:
            self._preparation.check_expression(cursor, expression)
        relation = self._sessions.new_relation(name)
        cursor.execute(f"CREATE TABLE {quote.path(hidden_path(relation))}({definition.text})")
        return relation

    def _create_view(self, cursor: Cursor, statement: Statement, kind: CreateView) -> Done:
        state = statement.caller.state
        if self._is_there(state, kind):
            return Done()
        query = self._preparation.qualified(cursor, statement, arguments.named(kind.query, kind.columns))
        view = TempView(kind.path[-1], query)
        # Bound as it will be read, so that one that reads itself is refused here.
        views = state.views | {view.name.lower(): view}
        as_read = replace(state, tables=without(state.tables, view.name), views=views)
        caller = replace(statement.caller, state=as_read)
        ready = self._preparation.query(cursor, replace(statement, caller=caller), query)
        with self._preparation.available(cursor, statement, ready):
            bind(cursor, ready.sql)
        self._sessions.save(state, statement.caller.transaction)
        self._put(state, kind.path[-1], view)
        return Done()

    def _is_there(self, state: EngineSession, kind: CreateTable | CreateView) -> bool:
        """Tell whether there is nothing to do. Raises AlreadyExistsError, InvalidArgumentError."""
        if not is_temporary(kind.path):
            raise InvalidArgumentError(
                f"temporary tables have no schema: write {quote.identifier(kind.path[-1])} alone"
            )
        name = kind.path[-1].lower()
        exists = name in state.tables or name in state.views
        if exists and not (kind.replaces or kind.if_not_exists):
            raise AlreadyExistsError(
                f"temporary table {kind.path[-1]!r} exists: drop it, or CREATE OR REPLACE"
            )
        return exists and kind.if_not_exists

    def _put(self, state: EngineSession, name: str, found: TempTable | TempView | None) -> None:
        """Let a name mean a table or a view, or nothing; a table that it meant before is dropped."""
        before = state.tables.get(name.lower())
        tables, views = without(state.tables, name), without(state.views, name)
        if isinstance(found, TempTable):
            tables[name.lower()] = found
        elif found is not None:
            views[name.lower()] = found
        state.tables, state.views = tables, views
        if before is not None:
            self._sessions.discard(state, before)

    def _drop(self, _cursor: Cursor, statement: Statement, kind: Drop) -> Done:
        state = statement.caller.state
        what = "TABLE" if state.table(kind.path) else "VIEW"
        if kind.what != what:
            raise InvalidArgumentError(f"{kind.path[-1]} is a temporary {what.lower()}: use DROP {what}")
        self._sessions.save(state, statement.caller.transaction)
        self._put(state, kind.path[-1], None)
        return Done()

    def _alter(self, cursor: Cursor, statement: Statement, kind: Alter) -> Done:
        """Alter a temporary table: DuckDB does, on a copy in a transaction."""
        state = statement.caller.state
        if state.table(kind.path) is None or kind.what != "TABLE":
            raise InvalidArgumentError("temporary views cannot be altered: CREATE OR REPLACE TEMP VIEW")
        if isinstance(kind.action, RenameTable):
            return self._rename(statement, kind, kind.action.new_name)
        check = partial(self._preparation.check_expression, cursor)
        words = alteration(kind.action, self._definitions, check)
        table = self._sessions.writable(state, statement.caller.transaction, kind.path)
        cursor.execute(f"ALTER TABLE {quote.path(hidden_path(table.relation))} {words}")
        return Done()

    def _rename(self, statement: Statement, kind: Alter, new_name: str) -> Done:
        state = statement.caller.state
        if new_name.lower() in state.tables or new_name.lower() in state.views:
            raise AlreadyExistsError(f"temporary table {new_name!r} exists: choose another name")
        self._sessions.save(state, statement.caller.transaction)
        table = state.tables[kind.path[-1].lower()]
        state.tables = without(state.tables, kind.path[-1]) | {
            new_name.lower(): replace(table, name=new_name)
        }
        return Done()

    def _write(self, cursor: Cursor, statement: Statement, kind: Write) -> Done:
        parsed = self._preparation.read_write(cursor, kind.sql)
        assert parsed.target is not None  # noqa: S101 - a statement that writes has one
        state, caller = statement.caller.state, statement.caller
        self._sessions.writable(state, caller.transaction, parsed.target.name.path)
        ready = self._preparation.prepare(cursor, statement, parsed)
        available = self._preparation.available(cursor, statement, ready, with_rows=True)
        with available as fill, writes.atomic(cursor):
            if parsed.returns_rows:
                count, messages = writes.returned(cursor, ready, statement, fill)
                return Done(count, messages=messages)
            return Done(writes.changed(cursor, ready, parsed, statement, fill))

    def _prepare(self, cursor: Cursor, statement: Statement, kind: Prepare) -> Done:
        if isinstance(self._preparation.read(cursor, kind.sql), Prepare | Execute):
            raise InvalidArgumentError("a prepared statement cannot prepare or execute another")
        state = statement.caller.state
        state.prepared = state.prepared | {kind.name.lower(): kind.sql}
        return Done()

    def _deallocate(self, _cursor: Cursor, statement: Statement, kind: Deallocate) -> Done:
        state = statement.caller.state
        if kind.name is not None and kind.name.lower() not in state.prepared:
            raise NotFoundError(f"no prepared statement {kind.name!r} in this session")
        state.prepared = {} if kind.name is None else without(state.prepared, kind.name)
        return Done()


def _selected(expression: str) -> str:
    return f"SELECT ({expression}\n) AS value"


def _query_in(kind: Kind) -> str | None:
    """Return the query that a statement stores the rows of."""
    if isinstance(kind, SetVariable) and kind.expression is not None:
        return _selected(kind.expression)
    return kind.query if isinstance(kind, CreateTable) else None


_ADDS = (SetVariable, CreateTable, CreateView, Prepare)

_EFFECTS: dict[type, Callable[[Effects, Cursor, Statement, Any], Done]] = {
    SetVariable: Effects._set_variable,
    CreateTable: Effects._create_table,
    CreateView: Effects._create_view,
    Drop: Effects._drop,
    Alter: Effects._alter,
    Write: Effects._write,
    Prepare: Effects._prepare,
    Deallocate: Effects._deallocate,
}
