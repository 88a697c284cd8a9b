"""Plans and runs statements: parse, resolve, splice, bind, and stream as FlightData."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from flight_server.domain.recent import RecentMap
from flight_server.engine import parameters, quote
from flight_server.engine.binding import Binding, bind, sql_types
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance, hidden_path
from flight_server.engine.parse import ParsedStatement, parse
from flight_server.engine.relations import Describe, Relations
from flight_server.engine.splice import splice
from flight_server.errors import (
    CallCancelledError,
    InvalidArgumentError,
    LakehouseError,
    UnimplementedError,
)
from flight_server.frames.flight_data import BatchFramer, Pieces, encapsulated_header, pieces
from flight_server.frames.requests import TableName, is_system

BATCH_ROWS = 32_768
_CACHED_BYTES = 64 * 1024 * 1024

Resolve = Callable[[Sequence[TableName]], Sequence[str]]
"""Dataset names → relation names, in the same order; raises when a name is unknown."""

Rows = Callable[[str], pa.Table]
"""System table → all of its rows."""

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def _written(path: Sequence[str]) -> str:
    """Write a name as DuckDB does in the names of expressions: quoted only where it must be."""
    return ".".join(part if _PLAIN_NAME.fullmatch(part) else quote.identifier(part) for part in path)


class Running:
    """What of a statement can be interrupted from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self.is_cancelled = False

    def attach(self, cursor: duckdb.DuckDBPyConnection | None) -> None:
        """Name the cursor at work; raises CallCancelledError when the client has gone already."""
        with self._lock:
            self._cursor = cursor
            if self.is_cancelled and cursor is not None:
                raise CallCancelledError("the statement was cancelled")

    def cancel(self) -> None:
        """Interrupt the cursor at work, now and later."""
        with self._lock:
            self.is_cancelled = True
            if self._cursor is not None:
                self._cursor.interrupt()


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement to plan or run, with the gateway's answers to its questions.

    `messages` are the FlightData messages of its bound parameters.
    """

    sql: str
    messages: Sequence[bytes]
    resolve: Resolve
    describe: Describe
    rows: Rows
    running: Running = field(default_factory=Running)


@dataclass(frozen=True, slots=True)
class _Spliced:
    """A statement over one set of relations: its text, and what its column names must not show."""

    sql: str
    names: tuple[TableName, ...]
    relations: tuple[str, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """The relations that are dataset versions."""
        return tuple(relation for relation in self.relations if not is_system(relation))

    @property
    def system_tables(self) -> tuple[str, ...]:
        """The relations that are system tables."""
        return tuple(relation for relation in self.relations if is_system(relation))

    def shown(self, name: str) -> str:
        """Return a column's name with the client's dataset names in the place of hidden ones."""
        for table, relation in zip(self.names, self.relations, strict=True):
            schema, _ = hidden_path(relation)
            hidden = rf'"?{schema}"?\.{re.escape(quote.identifier(relation))}'
            alias = re.escape(_written(table.path[-1:]))
            written = _written(table.path).replace("\\", r"\\")
            name = re.sub(rf'{hidden}(?: AS {alias}(?![\w"]))?', written, name)
        return name


class Statements:
    """Runs the statements of one instance; every call uses a cursor of its own."""

    def __init__(self, instance: Instance, relations: Relations, failures: Failures) -> None:
        self._instance = instance
        self._relations = relations
        self._failures = failures
        self._parsed: RecentMap[str, ParsedStatement] = RecentMap(_CACHED_BYTES)
        self._spliced: RecentMap[object, _Spliced] = RecentMap(_CACHED_BYTES)
        self._bound: RecentMap[str, Binding] = RecentMap(_CACHED_BYTES)
        self._bound_values: RecentMap[object, Binding] = RecentMap(_CACHED_BYTES)

    def plan(self, statement: Statement) -> tuple[tuple[TableName, ...], Binding]:
        """Bind a statement without running it; return what it names, and what it returns and takes."""
        with self._failures.translated(), _open(self._instance, statement.running) as cursor:
            spliced = self._prepare(cursor, statement)
            for name in spliced.system_tables:
                schema = pa.ipc.read_schema(pa.py_buffer(statement.describe([name])[name].schema))
                cursor.register(name, schema.empty_table())
            with self._relations.pinned(spliced.versions, statement.describe):
                return spliced.names, self._bind(cursor, spliced, statement)

    def types(self, schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
        """Return the columns that SQL makes of a dataset's, and DuckDB's names of their types."""
        with self._failures.translated(), _open(self._instance, Running()) as cursor:
            return sql_types(cursor, schema)

    def stream(self, statement: Statement) -> Iterator[Pieces]:
        """Run a statement; yield its schema and its batches as FlightData messages in pieces."""
        with self._failures.translated(), _open(self._instance, statement.running) as cursor:
            spliced = self._prepare(cursor, statement)
            for name in spliced.system_tables:
                # Before anything streams: a cursor with an open stream takes no new tables.
                cursor.register(name, statement.rows(name))
            with self._relations.pinned(spliced.versions, statement.describe):
                binding = self._bind(cursor, spliced, statement)
            yield pieces(encapsulated_header(memoryview(binding.schema.serialize())))
            framer = BatchFramer(binding.schema)
            for values in self._rows(statement, binding):
                with self._relations.pinned(spliced.versions, statement.describe):
                    reader = cursor._submit(spliced.sql, values, "stream", BATCH_ROWS).arrow_reader()
                with reader:
                    for batch in reader:
                        yield from framer.frame(_conform(batch, binding.schema))

    def _rows(self, statement: Statement, binding: Binding) -> Iterator[parameters.Values | None]:
        if statement.messages:
            return parameters.rows(statement.messages, binding.parameters)
        if len(binding.parameters):
            raise InvalidArgumentError(
                f"the statement takes {len(binding.parameters)} parameters, none are bound"
            )
        return iter([None])

    def _prepare(self, cursor: duckdb.DuckDBPyConnection, statement: Statement) -> _Spliced:
        parsed = self._parsed.get(statement.sql)
        if parsed is None:
            parsed = parse(cursor, statement.sql)
            self._parsed.put(statement.sql, parsed, _weight(statement.sql))
        names = parsed.names
        relations = tuple(statement.resolve(names)) if names else ()
        key = (statement.sql, relations)
        spliced = self._spliced.get(key)
        if spliced is None:
            spliced = _splice(cursor, parsed, dict(zip(names, relations, strict=True)))
            self._spliced.put(key, spliced, _weight(statement.sql))
        return spliced

    def _bind(self, cursor: duckdb.DuckDBPyConnection, spliced: _Spliced, statement: Statement) -> Binding:
        binding = self._bound.get(spliced.sql)
        if binding is None:
            binding = _shown(bind(cursor, spliced.sql), spliced)
            self._bound.put(spliced.sql, binding, _weight(spliced.sql))
        first = (
            next(parameters.rows(statement.messages, binding.parameters), None)
            if statement.messages
            else None
        )
        if first is None:
            return binding
        shape = parameters.shape(first)
        bound = self._bound_values.get((spliced.sql, shape)) if shape else None
        if bound is None:
            bound = _shown(bind(cursor, spliced.sql, first), spliced)
            self._bound_values.put((spliced.sql, shape), bound, _weight(spliced.sql))
        return bound


def _weight(sql: str) -> int:
    """Return about how many bytes a text takes with what is known of it."""
    return 1_000 + 100 * len(sql)


@contextmanager
def _open(instance: Instance, running: Running) -> Iterator[duckdb.DuckDBPyConnection]:
    cursor = instance.cursor()
    try:
        running.attach(cursor)
        yield cursor
    finally:
        running.attach(None)
        cursor.close()


def _splice(
    cursor: duckdb.DuckDBPyConnection, parsed: ParsedStatement, relations: Mapping[TableName, str]
) -> _Spliced:
    """Splice, then read the result with the same parse: it may name hidden relations and nothing else."""
    sql = splice(cursor, parsed, relations)
    try:
        named = Counter(table.name for table in parse(cursor, sql).tables)
    except LakehouseError:  # its text would show the rewritten statement
        named = Counter()
    if named != Counter(TableName(hidden_path(relations[table.name])) for table in parsed.tables):
        raise UnimplementedError("a table is named here in a way that is not served: give it an alias")
    return _Spliced(sql, tuple(relations), tuple(relations.values()))


def _shown(binding: Binding, spliced: _Spliced) -> Binding:
    """Give columns that DuckDB names after their expression the client's names for datasets."""
    if not any(relation in name for name in binding.schema.names for relation in spliced.relations):
        return binding
    names = [spliced.shown(name) for name in binding.schema.names]
    fields = [field.with_name(name) for field, name in zip(binding.schema, names, strict=True)]
    return Binding(pa.schema(fields), binding.parameters)


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give a batch the announced schema: names differ for duplicate columns, types for bare NULLs."""
    if batch.schema.equals(schema):
        return batch
    columns = [
        column if column.type.equals(field.type) else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
