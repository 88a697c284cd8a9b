"""Plans and runs statements: read, resolve, splice, bind, and stream as FlightData."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

import duckdb
import pyarrow as pa

from flight_server.engine import explain, pivot
from flight_server.engine.binding import Binding, sql_types
from flight_server.engine.bindings import Bindings
from flight_server.engine.effects import Effects
from flight_server.engine.facts import describe
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance
from flight_server.engine.introspection import Introspection
from flight_server.engine.kinds import Execute, Explain, Kind, Pivot, Shown
from flight_server.engine.parameters import read_table
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.preparation import Preparation
from flight_server.engine.relations import Relations
from flight_server.engine.searches import Searches
from flight_server.engine.sessions import EngineSessions
from flight_server.engine.several import check, split
from flight_server.engine.statement import Done, Statement, open_cursor
from flight_server.engine.streams import batches
from flight_server.errors import ConflictError, InvalidArgumentError
from flight_server.frames.flight_data import BatchFramer, Pieces, encapsulated_header, pieces
from flight_server.frames.frame import Frame, with_parts
from flight_server.frames.requests import EngineFacts, TableName, encode_names

_MAX_REWRITES = 4


@dataclass(frozen=True, slots=True)
class Planned:
    """A statement that was bound and not run.

    `sql` is the text to run, where that is not the client's; `names` are those that the gateway resolved.
    `digest` stands for the columns that it returns whatever is bound to its parameters. A plan that is not
    `is_shared` holds in this session only.
    """

    sql: str
    names: tuple[TableName, ...]
    binding: Binding
    digest: str
    is_update: bool = False
    is_shared: bool = True
    has_effects: bool = False

    def frame(self) -> Frame:
        """Return the answer to `plan`."""
        schemas = [
            schema.serialize().to_pybytes() for schema in (self.binding.schema, self.binding.parameters)
        ]
        fields = {
            "sql": self.sql,
            "names": encode_names(self.names),
            "digest": self.digest,
            "is_update": self.is_update,
            "is_shared": self.is_shared,
            "has_effects": self.has_effects,
        }
        return with_parts("planned", fields, schemas)


class Statements:
    """Runs the statements of one instance; every call uses a cursor of its own."""

    def __init__(
        self, instance: Instance, relations: Relations, failures: Failures, searches: Searches
    ) -> None:
        self._instance = instance
        self._failures = failures
        self._searches = searches
        self._preparation = Preparation(relations, Introspection(instance), searches)
        self.sessions = EngineSessions(instance)
        self._effects = Effects(instance, self._preparation, self.sessions, relations)
        self._bindings = Bindings()

    def plan(self, statement: Statement, runs: bool) -> Planned | Done | list[str]:
        """Bind a query; run a statement that has effects, if it `runs`, else bind that too.

        Of a text that `runs` and holds several the texts of each are returned, to be run one by one.
        """
        with self._failures.translated(), open_cursor(self._instance, statement) as cursor:
            texts = split(statement.sql)
            if len(texts) > 1:
                return self._several(cursor, statement, texts, runs)
            sql, kind = self._rewritten(cursor, statement)
            if isinstance(kind, ParsedStatement):
                return self._plan(cursor, replace(statement, sql=sql), kind, is_shared=sql == statement.sql)
            if isinstance(kind, Explain):
                return self._plan_explained(cursor, replace(statement, sql=sql), kind)
            if runs:
                return self._effects.run(cursor, replace(statement, sql=sql), kind)
            binding, is_update = self._effects.bind(cursor, replace(statement, sql=sql), kind)
            digest = _digest(binding)
            return Planned(sql, (), binding, digest, is_update, is_shared=False, has_effects=True)

    def _several(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement, texts: list[str], runs: bool
    ) -> Planned | list[str]:
        check(texts, partial(self._preparation.read, cursor))
        if statement.messages and read_table(statement.messages).num_columns:
            raise InvalidArgumentError("several statements together take no parameters: send them one by one")
        if runs:
            return texts
        binding = Binding(pa.schema([]), pa.schema([]))
        digest = _digest(binding)
        return Planned(statement.sql, (), binding, digest, is_update=True, is_shared=False, has_effects=True)

    def types(self, schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
        """Return the columns that SQL makes of a dataset's, and DuckDB's names of their types."""
        with self._failures.translated(), self._instance.cursor() as cursor:
            return sql_types(cursor, schema)

    def facts(self) -> EngineFacts:
        """Return what DuckDB says about itself."""
        with self._failures.translated(), self._instance.cursor() as cursor:
            return describe(cursor)

    def stream(self, statement: Statement) -> Iterator[Pieces]:
        """Run a query; yield its schema and its batches as FlightData messages in pieces."""
        with self._failures.translated(), open_cursor(self._instance, statement) as cursor:
            kind = self._preparation.read(cursor, statement.sql)
            if isinstance(kind, Explain):
                yield from self._explained(cursor, statement, kind)
                return
            ready = self._preparation.query(cursor, statement, statement.sql)
            available = self._preparation.available(cursor, statement, ready, with_rows=True, announces=False)
            with available as fill:
                bound = self._bindings.bound(cursor, ready, statement, fill.announce)
                binding = bound.binding
            yield pieces(encapsulated_header(memoryview(binding.schema.serialize())))
            framer = BatchFramer(binding.schema, statement.compression)
            pinned = partial(self._preparation.pinned, statement, ready)
            for values in bound.rows():
                fill(values)
                submit = partial(cursor._submit, binding.sql, values, "stream")
                for batch in batches(submit, pinned, binding.schema):
                    statement.running.rows += batch.num_rows
                    yield from framer.frame(batch)

    def _plan_explained(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement, kind: Explain
    ) -> Planned:
        explain.options(kind)
        inner, parsed = self._explained_query(cursor, statement, kind)
        planned = self._plan(cursor, inner, parsed, is_shared=inner.sql == kind.query)
        return replace(planned, sql=statement.sql, binding=replace(planned.binding, schema=explain.SCHEMA))

    def _explained(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement, kind: Explain
    ) -> Iterator[Pieces]:
        """Explain a query; yield the schema and the plan as FlightData messages."""
        inner, parsed = self._explained_query(cursor, statement, kind)
        ready = self._preparation.prepare(cursor, inner, parsed)
        wanted = explain.options(kind)
        available = self._preparation.available(cursor, inner, ready, with_rows=True, announces=False)
        with available as fill:
            bound = self._bindings.bound(cursor, ready, inner, fill.announce)
            values = next(bound.rows())
            if wanted.analyzes:
                fill(values)
            else:
                fill.announce()
            table = explain.explain(
                cursor,
                wanted,
                bound.binding.text,
                values,
                lambda text: self._failures.scrubbed(ready.shown(text)),
                self._searches.plans(inner, ready.searches),
            )
        yield pieces(encapsulated_header(memoryview(explain.SCHEMA.serialize())))
        framer = BatchFramer(explain.SCHEMA, statement.compression)
        for batch in table.to_batches():
            yield from framer.frame(batch)

    def _explained_query(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement, kind: Explain
    ) -> tuple[Statement, ParsedStatement]:
        sql, parsed = self._rewritten(cursor, replace(statement, sql=kind.query))
        if not isinstance(parsed, ParsedStatement):
            raise InvalidArgumentError("EXPLAIN takes a query")
        return replace(statement, sql=sql), parsed

    def _rewritten(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement
    ) -> tuple[str, ParsedStatement | Kind]:
        """Return what a statement is, and its text: that of another where it stands for one."""
        sql = statement.sql
        for _ in range(_MAX_REWRITES):
            kind = self._preparation.read(cursor, sql)
            if isinstance(kind, Execute):
                sql = self._effects.executed(cursor, statement, kind)
            elif isinstance(kind, Shown):
                sql = kind.query
            elif isinstance(kind, Pivot):
                sql = pivot.with_values(cursor, kind.sql, statement, self._preparation)
            else:
                return sql, kind
        raise InvalidArgumentError("a prepared statement cannot execute prepared statements")

    def _plan(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        parsed: ParsedStatement,
        is_shared: bool,
    ) -> Planned:
        ready = self._preparation.prepare(cursor, statement, parsed)
        with self._preparation.available(cursor, statement, ready, announces=False) as fill:
            digest = _digest(self._bindings.open(cursor, ready, statement, fill.announce))
            if statement.expected not in ("", digest):
                raise ConflictError(
                    "what this statement returns has changed since it was prepared: prepare it again"
                )
            binding = self._bindings.bound(cursor, ready, statement, fill.announce).binding
        return Planned(statement.sql, ready.asked, binding, digest, is_shared=is_shared and ready.is_shared)


def _digest(binding: Binding) -> str:
    return sha256(binding.schema.serialize()).hexdigest()[:32]
