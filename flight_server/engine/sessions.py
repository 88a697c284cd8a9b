"""What sessions keep in an engine process: temporary tables and views, variables, prepared statements.

Temporary tables are ordinary tables of a hidden schema whose names are put into the client's text like
those of datasets. So a session has no cursor of its own, every statement runs on one of its own, and a
stream that nobody reads blocks nothing.

    in a transaction    first change ──▶ the names are remembered, and a table that is written is copied
    commit              the copies stay, what they replaced is dropped
    rollback            the names of before come back, the copies are dropped
"""

import itertools
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import duckdb

from flight_server.domain.session import TEMPORARY_TABLE, TEMPORARY_VIEW, Holding
from flight_server.engine import quote
from flight_server.engine.instance import Instance, hidden_path
from flight_server.engine.scratch import columns_of
from flight_server.engine.waiting import Check, held
from flight_server.errors import NotFoundError, ResourceExhaustedError, StateLostError
from flight_server.frames.requests import SESSION_MARK

_MAX_NAMES = 1_000
_MAX_CHARACTERS = 32 * 1024 * 1024

_Named = TypeVar("_Named")
_TEMP_PATHS = {(), ("temp",), ("temp", "main")}


@dataclass(frozen=True, slots=True)
class TempTable:
    """A temporary table: its name as written, and the hidden relation that holds its rows."""

    name: str
    relation: str


@dataclass(frozen=True, slots=True)
class TempView:
    """A temporary view: its name as written, and its query with full names."""

    name: str
    query: str


@dataclass(slots=True)
class _Saved:
    transaction: str
    tables: dict[str, TempTable]
    views: dict[str, TempView]


@dataclass(slots=True, eq=False)
class EngineSession:
    """State of one session; `lock` is held while a statement changes it.

    Keys are folded names. `prepared` are texts, `variables` name the hidden tables with their values.
    A map is replaced, never changed: whoever has taken it goes on reading what it was.
    """

    tables: dict[str, TempTable] = field(default_factory=dict)
    views: dict[str, TempView] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    prepared: dict[str, str] = field(default_factory=dict)
    saved: _Saved | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def holdings(self) -> list[Holding]:
        """Return what would be gone with this state; what a rollback would bring back is held too."""
        saved = self.saved or _Saved("", {}, {})
        dropped = [
            *(table.name for key, table in saved.tables.items() if key not in self.tables),
            *(view.name for key, view in saved.views.items() if key not in self.views),
        ]
        return [
            *(Holding(TEMPORARY_TABLE, table.name) for table in self.tables.values()),
            *(Holding(TEMPORARY_VIEW, view.name) for view in self.views.values()),
            *(Holding("dropped", name) for name in dropped),
            *(Holding("variable", name) for name in self.variables),
            *(Holding("prepared statement", name) for name in self.prepared),
        ]

    def check_room(self, sql: str) -> None:
        """Check that one more statement's result or text can be kept. Raises ResourceExhaustedError."""
        count = len(self.tables) + len(self.views) + len(self.variables) + len(self.prepared)
        texts = [*(view.query for view in self.views.values()), *self.prepared.values(), sql]
        if count >= _MAX_NAMES or sum(map(len, texts)) > _MAX_CHARACTERS:
            raise ResourceExhaustedError(
                f"a session keeps at most {_MAX_NAMES} temporary tables, views, variables and prepared "
                f"statements, and {_MAX_CHARACTERS} characters of their texts: drop some"
            )

    def table(self, path: tuple[str, ...]) -> TempTable | None:
        """Return the temporary table that a path means."""
        return self.tables.get(path[-1].lower()) if is_temporary(path) else None

    def view(self, path: tuple[str, ...]) -> TempView | None:
        """Return the temporary view that a path means."""
        return self.views.get(path[-1].lower()) if is_temporary(path) else None


NOTHING = EngineSession()
"""The state of sessions that have none; never changed."""


_HIDDEN_NAME = re.compile(rf'"{SESSION_MARK}\d+{SESSION_MARK}((?:[^"]|"")*)"')


def shown(text: str) -> str:
    """Return a text with the names that clients know in the place of those of hidden tables."""
    return _HIDDEN_NAME.sub(r"\1", text)


def is_temporary(path: tuple[str, ...]) -> bool:
    """Tell whether a path may mean a temporary table: a bare name, or one in `temp`."""
    return tuple(part.lower() for part in path[:-1]) in _TEMP_PATHS


class EngineSessions:
    """The sessions that have state here; `_lock` guards the map."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._lock = threading.Lock()
        self._sessions: dict[str, EngineSession] = {}
        self._numbers = itertools.count()

    def get(self, session_id: str, has_state: bool) -> EngineSession:
        """Return a session's state as it is now. Raises StateLostError when it should have some."""
        found = self._sessions.get(session_id)
        if found is None and has_state:
            raise StateLostError("the session's temporary state is gone: its engine process has ended")
        return replace(found) if found else NOTHING

    @contextmanager
    def changing(self, session_id: str, wanted: Check) -> Iterator[EngineSession]:
        """Hold a session's state to change it, made when there is none yet; `wanted` ends a wait."""
        while True:
            with self._lock:
                session = self._sessions.setdefault(session_id, EngineSession())
            with held(session.lock, wanted):
                if self._sessions.get(session_id) is session:  # not forgotten while this waited
                    yield session
                    return

    def new_relation(self, name: str) -> str:
        """Return the name of a hidden table that no other has; `Failures` shows `name` in its place."""
        return f"{SESSION_MARK}{next(self._numbers)}{SESSION_MARK}{name}"

    def forget(self, session_id: str) -> None:
        """Drop all that a session keeps."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
        if session is None:
            return
        with session.lock:
            saved = session.saved.tables.values() if session.saved else ()
            relations = {table.relation for table in (*session.tables.values(), *saved)}
            self._drop({*relations, *session.variables.values()})

    def save(self, session: EngineSession, transaction: str | None) -> None:
        """Remember the names of before the first change in a transaction."""
        if transaction is not None and session.saved is None:
            session.saved = _Saved(transaction, dict(session.tables), dict(session.views))

    def settle(self, session_id: str, commit: bool) -> None:
        """End the transaction that a session has changed something in."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        with session.lock:
            saved, session.saved = session.saved, None
            if saved is None:
                return
            before = {table.relation for table in saved.tables.values()}
            now = {table.relation for table in session.tables.values()}
            if commit:
                self._drop(before - now)
                return
            self._drop(now - before)
            session.tables, session.views = dict(saved.tables), dict(saved.views)

    def writable(self, session: EngineSession, transaction: str | None, path: tuple[str, ...]) -> TempTable:
        """Return the temporary table that a statement may write to, in a transaction a copy of it.

        Raises NotFoundError when the path means none.
        """
        table = session.table(path)
        if table is None:
            raise NotFoundError(f"no temporary table {path[-1]!r} in this session")
        self.save(session, transaction)
        if session.saved is None or table.relation not in {t.relation for t in session.saved.tables.values()}:
            return table
        copy = TempTable(table.name, self.new_relation(table.name))
        with self._instance.cursor() as cursor:
            _copy(cursor, table.relation, copy.relation)
        session.tables = session.tables | {copy.name.lower(): copy}
        return copy

    def discard(self, session: EngineSession, table: TempTable) -> None:
        """Drop a table that no name means any longer, unless a transaction may bring it back."""
        if session.saved is None or table not in session.saved.tables.values():
            self._drop({table.relation})

    def set_variable(self, session: EngineSession, name: str, relation: str | None) -> None:
        """Let a variable have the value that a hidden table holds; None takes it away."""
        before = session.variables.get(name.lower())
        session.variables = without(session.variables, name)
        if relation is not None:
            session.variables[name.lower()] = relation
        self._drop({before} if before else set())

    def _drop(self, relations: set[str]) -> None:
        if relations:
            with self._instance.cursor() as cursor:
                for relation in relations:
                    cursor.execute(f"DROP TABLE IF EXISTS {quote.path(hidden_path(relation))}")


def _copy(cursor: duckdb.DuckDBPyConnection, source: str, target: str) -> None:
    """Copy a table with its defaults and constraints, as DuckDB writes them."""
    schema, name = hidden_path(source)
    (definition,) = cursor.execute(
        "SELECT sql FROM system.main.duckdb_tables() WHERE schema_name = $1 AND table_name = $2",
        [schema, name],
    ).fetchall()[0]
    cursor.execute(f"CREATE TABLE {quote.path(hidden_path(target))}({columns_of(str(definition))})")
    stored = cursor.execute(
        "SELECT column_name FROM system.main.duckdb_columns() "
        "WHERE schema_name = $1 AND table_name = $2 AND NOT is_generated ORDER BY column_index",
        [schema, name],
    ).fetchall()
    columns = ", ".join(quote.identifier(column) for (column,) in stored)
    read = f"SELECT {columns} FROM {quote.path(hidden_path(source))}"  # noqa: S608 - quoted
    cursor.execute(f"INSERT INTO {quote.path(hidden_path(target))} ({columns}) {read}")


def without(named: Mapping[str, _Named], name: str) -> dict[str, _Named]:
    """Return a map without one of its names."""
    return {key: value for key, value in named.items() if key != name.lower()}
