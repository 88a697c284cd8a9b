"""Searches inside statements: what they return is known when the statement is bound, their rows when it runs.

Each call of a search function becomes a hidden relation of the statement's cursor: empty while it is bound,
filled for every row of parameters before the statement is submitted.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from flight_server.domain.embedding import embedding
from flight_server.domain.recent import RecentMap
from flight_server.domain.vector import Filter, Metric, SearchOptions
from flight_server.engine.filters import read_filter
from flight_server.engine.parameters import Values
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.search_calls import HYBRID, TEXT, VECTOR, Parameter, SearchCall
from flight_server.engine.statement import Statement
from flight_server.engine.tokens import tokens
from flight_server.engine.vector_source import DatasetRows, VectorSources
from flight_server.errors import FailedPreconditionError, InvalidArgumentError
from flight_server.frames.requests import Relation
from flight_server.vectors import queries
from flight_server.vectors.queries import Search
from flight_server.vectors.search import VectorSearcher

_CACHED_BYTES = 64 * 1024 * 1024

DISTANCE, SCORE, QUERY_INDEX = "_distance", "_score", "query_index"
_ADDED = {VECTOR: DISTANCE, TEXT: SCORE, HYBRID: SCORE}

_WHOLE_ROWS = frozenset(
    {"NATURAL", "PIVOT", "PIVOT_WIDER", "UNPIVOT", "PIVOT_LONGER", "SUMMARIZE", "DESCRIBE"}
)
"""Words of statements that may read all columns without naming them."""

Embed = Callable[[str, Sequence[str]], "np.ndarray[Any, Any]"]
"""Embedder's name, texts → one vector for each; raises FailedPreconditionError when there is none."""


@dataclass(frozen=True, slots=True)
class ReadySearch:
    """A search of a statement: `name` is the hidden relation of its rows.

    `relation` is the dataset's, `queries` that of the dataset of its queries; `used` are the columns (folded)
    that the statement may read, None for all.
    """

    name: str
    call: SearchCall
    relation: str
    queries: str | None
    used: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Dataset:
    """A dataset as searches read it: `schema` is what SQL makes of its columns."""

    relation: Relation
    schema: pa.Schema
    bucket: str


def used_columns(parsed: ParsedStatement) -> frozenset[str] | None:
    """Return all that a statement names, folded; None where it may read columns that it does not name."""
    found = tokens(parsed.sql.decode())
    rows = {name for names in parsed.aliases.values() for name in names}
    if any(search.reference.node.get("column_name_alias") for search in parsed.searches):
        return None
    if parsed.reads_all_columns or parsed.plain_columns & rows or any(t.word in _WHOLE_ROWS for t in found):
        return None
    return frozenset(token.value.lower() for token in found)


class Searches:
    """Binds and runs searches; remembers relations, whose meaning never changes."""

    def __init__(self, sources: VectorSources, searcher: VectorSearcher, embed: Embed) -> None:
        self._sources = sources
        self._searcher = searcher
        self._embed = embed
        self._datasets: RecentMap[str, _Dataset] = RecentMap(_CACHED_BYTES)

    def of(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement, searches: Sequence[ReadySearch]
    ) -> "Fill":
        """Return the searches of a statement; nothing is looked at or registered yet."""
        return Fill(self, cursor, statement, searches)

    def announce(self, cursor: duckdb.DuckDBPyConnection, statement: Statement, search: ReadySearch) -> None:
        """Check the constants of a search, and register an empty relation for it."""
        dataset = self._dataset(statement, search.relation)
        self._check(cursor, statement, search, dataset)
        cursor.register(search.name, _announced(search, dataset).empty_table())

    def plans(self, statement: Statement, searches: Sequence[ReadySearch]) -> list[str]:
        """Say how searches would run now, one line for each."""
        return [self._plan(statement, search) for search in searches]

    def _plan(self, statement: Statement, search: ReadySearch) -> str:
        given = Arguments(search.call, {})
        records = statement.questions.indexes(search.relation)
        with self._opened(statement, search.relation) as rows:
            column, options = given.text("column"), given.options()
            plan = self._searcher.describe(
                Search(rows, records, column, options), is_text=search.call.function == TEXT
            )
        k = "?" if isinstance(search.call.values.get("k"), Parameter) else options.k
        said: dict[str, object] = {
            "column": plan.column,
            "k": k,
            "metric": plan.metric,
            "tier": plan.tier,
            "index": plan.index,
        }
        said["filter"] = search.call.values.get("filter")
        facts = ", ".join(f"{name} {value}" for name, value in said.items() if value)
        return f"{search.call.function} of {'.'.join(search.call.dataset.path)}: {facts}"

    def _dataset(self, statement: Statement, name: str) -> _Dataset:
        found = self._datasets.get(name)
        if found is None:
            relation = statement.questions.describe([name])[name]
            schema = self._sources.columns(pa.ipc.read_schema(pa.py_buffer(relation.schema)))
            bucket = next((place[0] for group in relation.groups for place in group.objects), "")
            found = _Dataset(relation, schema, bucket)
            weight = sum(200 * len(group.objects) + len(group.schema) for group in relation.groups)
            self._datasets.put(name, found, weight + len(relation.schema))
        return found

    def _check(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        search: ReadySearch,
        dataset: _Dataset,
    ) -> None:
        """Check what is known of a search before it runs. Raises InvalidArgumentError."""
        schema = pa.ipc.read_schema(pa.py_buffer(dataset.relation.schema))
        taken = {_ADDED[search.call.function], QUERY_INDEX} & set(schema.names)
        if taken and (taken != {QUERY_INDEX} or search.queries is not None):
            raise InvalidArgumentError(
                f"the dataset has a column {min(taken)!r}, which the search adds: rename it"
            )
        given = Arguments(search.call, {})
        options = given.options()
        given.where(cursor, schema)
        query, column = given.constant("query"), given.text("column")
        if search.call.function == TEXT:
            queries.text_field(schema, statement.questions.indexes(search.relation), column)
            return
        field = queries.vector_field(schema, column)
        if search.call.function == HYBRID or (isinstance(query, str) and _is_text(query)):
            _embedder(schema, field.name)
        elif query is not None:
            queries.parse_vector(query, field, options.metric or Metric.COSINE)
        if search.call.function == HYBRID:
            queries.text_field(
                schema, statement.questions.indexes(search.relation), given.text("text_column")
            )

    def find(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: Statement,
        search: ReadySearch,
        values: Mapping[str, Any],
    ) -> pa.Table:
        """Run a search; return its rows in the schema that was announced."""
        dataset = self._dataset(statement, search.relation)
        given = Arguments(search.call, values)
        announced = _announced(search, dataset)
        own = [name for name in dataset.schema.names if search.used is None or name.lower() in search.used]
        records = statement.questions.indexes(search.relation)
        with cursor.cursor() as apart:
            where = given.where(apart, pa.ipc.read_schema(pa.py_buffer(dataset.relation.schema)))
        with self._opened(statement, search.relation) as rows:
            wanted = Search(
                rows,
                records,
                given.text("column"),
                given.options(),
                where,
                own,
                statement.running.check,
                given.text("text_column"),
            )
            found = _RUNS[search.call.function](self, statement, search, wanted, given)
        return conformed(found, announced)

    def _opened(self, statement: Statement, name: str) -> AbstractContextManager[DatasetRows]:
        dataset = self._dataset(statement, name)
        return self._sources.source(name, dataset.relation, dataset.bucket, statement.running)

    def _vector(
        self, statement: Statement, search: ReadySearch, wanted: Search, given: "Arguments"
    ) -> pa.Table:
        field = queries.vector_field(wanted.source.schema, wanted.column)
        metric = queries.metric_of(wanted.records, field.name, wanted.options.metric)
        if search.queries is not None:
            vectors = self._batch(statement, search.queries, field, metric)
            return self._searcher.vector(wanted, vectors, is_batch=True)
        query = given.value("query")
        if isinstance(query, str) and _is_text(query):
            query = self._embedded(wanted.source.schema, field.name, query)
        return self._searcher.vector(wanted, queries.parse_vector(query, field, metric)[np.newaxis, :])

    def _text(
        self, _statement: Statement, _search: ReadySearch, wanted: Search, given: "Arguments"
    ) -> pa.Table:
        return self._searcher.text(wanted, given.words())

    def _hybrid(
        self, _statement: Statement, _search: ReadySearch, wanted: Search, given: "Arguments"
    ) -> pa.Table:
        field = queries.vector_field(wanted.source.schema, wanted.column)
        metric = queries.metric_of(wanted.records, field.name, wanted.options.metric)
        vector = self._embedded(wanted.source.schema, field.name, given.words())
        return self._searcher.hybrid(wanted, queries.parse_vector(vector, field, metric), given.words())

    def _embedded(self, schema: pa.Schema, column: str, text: str) -> "np.ndarray[Any, Any]":
        found: np.ndarray[Any, Any] = self._embed(_embedder(schema, column), [text])[0]
        return found

    def _batch(
        self, statement: Statement, name: str, field: queries.VectorField, metric: Metric
    ) -> "np.ndarray[Any, Any]":
        """Return the vectors of the dataset of queries, in the order of its rows."""
        with self._opened(statement, name) as rows:
            column = queries.query_column(rows.schema, field.name)
            found = pa.Table.from_batches([*rows.scan(rows.objects, [column])] or [rows.empty([column])])
            found = found.sort_by([("_object", "ascending"), ("_row", "ascending")])
        return queries.parse_batch(found[column], field, metric)


@dataclass(frozen=True, slots=True)
class Fill:
    """The searches of one statement on its cursor; calling it runs them."""

    searches: Searches
    cursor: duckdb.DuckDBPyConnection
    statement: Statement
    ready: Sequence[ReadySearch]

    def announce(self) -> None:
        """Let the statement be bound: its searches return nothing yet. Raises InvalidArgumentError."""
        for search in self.ready:
            self.searches.announce(self.cursor, self.statement, search)

    def __call__(self, values: Values | None) -> None:
        """Run the searches for values of the statement's parameters, and register what they find."""
        for search in self.ready:
            found = self.searches.find(self.cursor, self.statement, search, _by_name(values))
            self.cursor.register(search.name, found)


_Run = Callable[[Searches, Statement, ReadySearch, Search, "Arguments"], pa.Table]
_RUNS: Mapping[str, _Run] = {VECTOR: Searches._vector, TEXT: Searches._text, HYBRID: Searches._hybrid}


def _embedder(schema: pa.Schema, column: str) -> str:
    described = embedding(schema.field(column))
    if described is None:
        raise FailedPreconditionError(
            f"column {column} has no embedder that could make a vector of a text: "
            "search with a vector, or have the column made by the action embed_column"
        )
    return described.embedder


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call with the values of its parameters (folded names)."""

    call: SearchCall
    values: Mapping[str, Any]

    def value(self, name: str) -> Any:
        """Return the value of an argument, None when it is not given."""
        found = self.call.values.get(name)
        return self.values.get(found.name.lower()) if isinstance(found, Parameter) else found

    def constant(self, name: str) -> Any:
        """Return the value of an argument that is a constant, None when it is another."""
        found = self.call.values.get(name)
        return None if isinstance(found, Parameter) else found

    def text(self, name: str) -> str | None:
        """Return an argument that is a text. Raises InvalidArgumentError when it is something else."""
        found = self.value(name)
        if found is not None and not isinstance(found, str):
            raise InvalidArgumentError(f"{name} takes a text, not {found!r:.80}")
        return found

    def words(self) -> str:
        """Return the text that is searched for. Raises InvalidArgumentError when there is none."""
        found = self.text("query")
        if not found or not found.strip():
            raise InvalidArgumentError(f"{self.call.function}() takes a text to search for, and it is empty")
        return found

    def number(self, name: str) -> int | None:
        """Return an argument that sets how to search an index. Raises InvalidArgumentError."""
        found = self.value(name)
        return None if found is None else queries.check_setting(name, found)

    def where(self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema) -> Filter | None:
        """Return the filter. Raises InvalidArgumentError."""
        text = self.text("filter")
        return None if text is None else read_filter(cursor, text, schema)

    def options(self) -> SearchOptions:
        """Return how to search. Raises InvalidArgumentError."""
        k, metric, exact = self.value("k"), self.text("metric"), self.value("exact")
        if metric is not None and metric.lower() not in {*Metric}:
            raise InvalidArgumentError(f"there is no metric {metric!r:.80}; there are {', '.join(Metric)}")
        if exact is not None and not isinstance(exact, bool):
            raise InvalidArgumentError(f"exact takes true or false, not {exact!r:.80}")
        return SearchOptions(
            SearchOptions().k if k is None else queries.check_k(k),
            self.number("ef"),
            self.number("nprobes"),
            self.number("refine"),
            None if metric is None else Metric(metric.lower()),
            bool(exact),
        )


def _is_text(query: str) -> bool:
    """Tell whether a query is a text to be embedded, and not a vector written as JSON."""
    return not query.lstrip().startswith("[")


def _by_name(values: Values | None) -> Mapping[str, Any]:
    """Return values of parameters by folded names; lists of numbers come as texts that show them."""
    named = values if isinstance(values, dict) else {str(at + 1): it for at, it in enumerate(values or ())}
    return {
        name.lower(): value.object if isinstance(value, duckdb.Value) else value
        for name, value in named.items()
    }


def _announced(search: ReadySearch, dataset: _Dataset) -> pa.Schema:
    """Return what a search returns: the dataset's columns, and how near a row is."""
    added = pa.field(_ADDED[search.call.function], pa.float32())
    index = [pa.field(QUERY_INDEX, pa.int64())] if search.queries is not None else []
    return pa.schema([*index, *dataset.schema, added])


def conformed(found: pa.Table, announced: pa.Schema) -> pa.Table:
    """Return rows with all columns: those that nobody reads are NULL."""
    columns = [
        found[field.name].cast(field.type)
        if field.name in found.schema.names
        else pa.nulls(found.num_rows, field.type)
        for field in announced
    ]
    return pa.Table.from_arrays(columns, schema=announced)
