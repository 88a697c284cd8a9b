"""One statement as the engine sees it: what is asked, by which session, and how to end it."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from flight_server.domain.execution import CANCELLED
from flight_server.domain.session import DICTIONARIES, Verb
from flight_server.domain.vector import IndexRecord
from flight_server.engine import quote
from flight_server.engine.instance import Instance, measure_progress
from flight_server.engine.sessions import NOTHING, EngineSession
from flight_server.errors import CallCancelledError
from flight_server.frames.changes import Namespace, StatementChange, Target, Use
from flight_server.frames.requests import Relation, TableName

Resolve = Callable[[Sequence[TableName]], Sequence[str]]
"""Dataset names → relation names, in the same order; raises when a name is unknown."""

Qualify = Callable[[Sequence[TableName]], Sequence[Sequence[str]]]
"""Dataset names → their full paths, in the same order; raises when a name is unknown."""

Describe = Callable[[Sequence[str]], Mapping[str, Relation]]
"""Relation names → columns and objects."""

Rows = Callable[[str], pa.Table]
"""System table → all of its rows."""

FindTarget = Callable[[Sequence[str], Use], Target]
"""Dataset name and its use → what is to be changed. Raises NotFoundError, PermissionDeniedError, …"""

Indexes = Callable[[str], Sequence[IndexRecord]]
"""Relation of a dataset → the indexes that there are now."""


FindNamespace = Callable[[str], Namespace]
"""Name of a schema that is to be made or dropped → what there is."""


class Running:
    """What of a statement can be watched and interrupted from another thread.

    `rows` counts what it has returned. Only one that `measures` its progress can tell it.
    """

    def __init__(self, measures: bool = False) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._measures = measures
        self.is_cancelled = False
        self.rows = 0

    def attach(self, cursor: duckdb.DuckDBPyConnection | None) -> None:
        """Name the cursor at work; raises CallCancelledError when the client has gone already."""
        if self._measures and cursor is not None:
            measure_progress(cursor)
        with self._lock:
            self._cursor = cursor
        if cursor is not None:
            self.check()

    def check(self) -> None:
        """Raise CallCancelledError when the client has gone."""
        if self.is_cancelled:
            raise CallCancelledError(CANCELLED)

    @contextmanager
    def aside(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Name another cursor as the one at work in this block."""
        before = self._cursor
        self.attach(cursor)
        try:
            yield
        finally:
            self.attach(None)
            with self._lock:
                self._cursor = before

    def cancel(self) -> None:
        """Interrupt the cursor at work.

        DuckDB forgets an interrupt that comes while nothing runs: repeat it until the statement has ended.
        """
        with self._lock:
            self.is_cancelled = True
            if self._cursor is not None:
                self._cursor.interrupt()

    def progress(self) -> float | None:
        """Return how much of the statement is done, 0 to 1, None when that is not known."""
        with self._lock:
            percent = self._cursor.query_progress() if self._measures and self._cursor is not None else -1
        return min(percent / 100, 1.0) if percent >= 0 else None


@dataclass(frozen=True, slots=True)
class Questions:
    """What the gateway answers about a statement."""

    resolve: Resolve
    qualify: Qualify
    describe: Describe
    rows: Rows
    target: FindTarget
    namespace: FindNamespace
    indexes: Indexes


@dataclass(frozen=True, slots=True)
class Caller:
    """The session that a statement belongs to.

    `settings` are DuckDB's, `transaction` is None outside of one, `profile` where none is selected.
    """

    session_id: str = ""
    state: EngineSession = NOTHING
    settings: tuple[tuple[str, str], ...] = ()
    transaction: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement to plan or run; `messages` are the FlightData messages of its bound parameters.

    `expected` is the digest of the columns that it was prepared with, empty when it was not. `compression`
    is how its rows are compressed for the way: lz4, zstd, or None.
    """

    sql: str
    messages: Sequence[bytes]
    questions: Questions
    caller: Caller = field(default_factory=Caller)
    expected: str = ""
    running: Running = field(default_factory=Running)
    compression: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a statement with effects did, or what the gateway is to do for it.

    `messages` are the rows that it returned, as FlightData messages, the schema first. Objects that its
    `changes` name are written; `discard` removes them when the changes are not kept.
    """

    count: int = 0
    verb: Verb | None = None
    messages: tuple[bytes, ...] = ()
    changes: tuple[StatementChange, ...] = ()
    discard: Callable[[], None] = lambda: None


_MAY_READ = re.compile(r"\b(?:FROM|TABLE|EXECUTE|PIVOT|UNPIVOT)\b", re.IGNORECASE)
"""What every statement has that reads something; texts without it need no memory worth a bound."""


@contextmanager
def open_cursor(instance: Instance, statement: Statement) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a cursor with the settings of the statement's session; it is closed at the end."""
    cursor = instance.cursor()
    try:
        if _MAY_READ.search(statement.sql):
            instance.bound(cursor)
        statement.running.attach(cursor)
        for name, value in statement.caller.settings:
            if name != DICTIONARIES:
                cursor.execute(f"SET {quote.identifier(name)} = {quote.text(value)}")
        yield cursor
    finally:
        statement.running.attach(None)
        cursor.close()
