"""Answers what the gateway asks about trials: exact answers, measures of an index, a row of the journal."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flight_server.domain import declarations
from flight_server.domain.embedding import embedding
from flight_server.domain.trial import QUERIES, TRIALS, TRUTH, TRUTH_K
from flight_server.domain.vector import IndexKind, Metric
from flight_server.engine.statement import Running
from flight_server.engine.vector_source import DatasetRows, VectorSources
from flight_server.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from flight_server.frames.frame import Frame
from flight_server.frames.requests import decode_relations
from flight_server.vectors import queries as vector_queries
from flight_server.vectors.embedding import Embedders
from flight_server.vectors.hits import Hits
from flight_server.vectors.index_rows import IndexOrder
from flight_server.vectors.lance import Lance
from flight_server.vectors.queries import VectorField
from flight_server.vectors.source import Floats
from flight_server.vectors.trials import candidate, measured, options_of
from flight_server.vectors.truth import (
    Quality,
    exact_answers,
    known_quality,
    quality,
    truth_of,
    truth_table,
)

Send = Callable[[Frame], None]


@dataclass(frozen=True, slots=True)
class _EvalSet:
    """The queries of an eval set: their ids, vectors, and the keys of rows known to be right."""

    version: int
    ids: list[str]
    vectors: Floats
    answers: list[frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Truth:
    """Exact answers; `new` are those that had to be computed, `stale` says of what older ones are."""

    hits: list[Hits]
    new: bytes = b""
    stale: str | None = None


class TrialRequests:
    """The service functions of one engine process; used by many threads at once."""

    def __init__(self, sources: VectorSources, lance: Lance, embedders: Embedders) -> None:
        self._sources = sources
        self._lance = lance
        self._embedders = embedders

    def truth(self, request: Frame, running: Running, send: Send) -> None:
        """Compute the exact answers to queries that the request brings."""
        with ExitStack() as stack:
            rows = self._opened(stack, request, "relation", running)
            field = _only_field(rows.schema)
            metric = Metric(request.fields["metric"])
            table = pa.ipc.open_stream(request.parts()[-1]).read_all()
            found = self._eval_set(rows, field, metric, table, 0)
            k = request.fields["k"]
            tell = telling(send)
            _check_answers(rows, found)
            hits = exact_answers(rows, field, metric, found.vectors, k, tell, running.check)
        stream = _stream(truth_table(found.ids, hits))
        send(Frame("measured", {"column": field.name, "stale": None}, stream))

    def trial(self, request: Frame, running: Running, send: Send) -> None:
        """Build an index, measure it with each setting of a search, and remove it."""
        fields, tell = request.fields, telling(send)
        with ExitStack() as stack:
            rows = self._opened(stack, request, "relation", running)
            field = _only_field(rows.schema)
            metric = Metric(fields["metric"])
            found = self._stored(stack, request, rows, field, running)
            truth = self._truth(stack, request, (rows, field, found), running, tell)
            order = IndexOrder(
                fields["bucket"],
                fields["table"],
                field.name,
                IndexKind(fields["kind"]),
                metric,
                fields["params"],
            )
            judge = _judge(rows, found, truth.hits)
            with candidate(self._lance, rows, order, tell, running.check) as built:
                measures = []
                for setting in fields["search"]:
                    options = options_of(setting, fields["k"])
                    measures.append(measured(built, found.vectors, options, judge, running.check))
                    tell("search", len(measures) / len(fields["search"]))
        said = {"rows": measures, "eval_set_version": found.version, "queries": len(found.ids)}
        send(Frame("measured", {**said, "column": field.name, "stale": truth.stale}, truth.new))

    def journal_row(self, request: Frame, running: Running, send: Send) -> None:
        """Tell what a row of a journal says of how an index was built and searched."""
        wanted = request.fields["trial_id"]
        columns = ["trial_id", "table_name", "column", "index_type", "distance_type", "build_params"]
        columns += ["search_params", "status", "promoted_at"]
        with ExitStack() as stack:
            rows = self._opened(stack, request, "relation", running)
            if not {*TRIALS.names} <= {*rows.schema.names}:
                raise FailedPreconditionError("the table trials of this profile is no journal of trials")
            table = _read(rows, columns)
        found = table.filter(pc.equal(table["trial_id"], wanted)).select(columns).to_pylist()
        if not found:
            raise NotFoundError(f"the journal has no trial {wanted[:80]!r}: FROM sys.trials lists them")
        row = found[-1]
        for name in ("build_params", "search_params"):
            row[name] = _json_object(row[name])
        row["promoted_at"] = row["promoted_at"] and row["promoted_at"].isoformat()
        send(Frame("measured", {"rows": [row]}))

    def _opened(self, stack: ExitStack, request: Frame, which: str, running: Running) -> DatasetRows:
        name = request.fields[which]
        relation = decode_relations(request)[name]
        return stack.enter_context(self._sources.source(name, relation, request.fields["bucket"], running))

    def _stored(
        self, stack: ExitStack, request: Frame, rows: DatasetRows, field: VectorField, running: Running
    ) -> _EvalSet:
        """Return the newest version of the eval set that a trial names. Raises NotFoundError."""
        name = request.fields["eval_set"]
        columns = ["eval_set", "eval_set_version", "table_name", *QUERIES.names]
        source = self._opened(stack, request, "queries", running)
        table = _read(source, columns)
        table = table.filter(pc.equal(table["eval_set"], name))
        if not table.num_rows:
            raise NotFoundError(f"no eval set {name[:80]!r}: store one with the action put_eval_set")
        version = pc.max(table["eval_set_version"]).as_py()
        table = table.filter(pc.equal(table["eval_set_version"], version))
        of = table["table_name"][0].as_py()
        if of.lower() != request.fields["table_name"].lower():
            raise InvalidArgumentError(f"eval set {name!r:.80} is one for table {of}")
        return self._eval_set(rows, field, Metric(request.fields["metric"]), table, version)

    def _eval_set(
        self, rows: DatasetRows, field: VectorField, metric: Metric, table: pa.Table, version: int
    ) -> _EvalSet:
        """Return queries with their vectors. Raises InvalidArgumentError, FailedPreconditionError."""
        ids: Any = table["query_id"].to_pylist()
        texts: Any = table["text"].to_pylist()
        given = table["vector"].to_pylist()
        answers = [frozenset(each or ()) for each in table["answers"].to_pylist()]
        to_embed = [text for text, vector in zip(texts, given, strict=True) if vector is None]
        embedded = iter(self._embedded(rows.schema, field, to_embed))
        vectors = []
        for name, vector in zip(ids, given, strict=True):
            try:
                value = next(embedded) if vector is None else vector
                vectors.append(vector_queries.parse_vector(value, field, metric))
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"query {name!r:.80}: {error.message}") from error
        return _EvalSet(version, ids, np.stack(vectors), answers)

    def _embedded(self, schema: pa.Schema, field: VectorField, texts: Sequence[str]) -> Sequence[Any]:
        if not texts:
            return ()
        described = embedding(schema.field(field.name))
        if described is None:
            raise FailedPreconditionError(
                f"column {field.name} has no embedder that could make vectors of texts: give the queries "
                "vectors, or have the column made by the action embed_column"
            )
        return list(self._embedders.query(described.embedder, texts))

    def _truth(
        self,
        stack: ExitStack,
        request: Frame,
        what: tuple[DatasetRows, VectorField, _EvalSet],
        running: Running,
        tell: Callable[[str, float], None],
    ) -> _Truth:
        """Return the exact answers for a trial: those that are stored if they are of this dataset version."""
        rows, field, found = what
        fields, stale = request.fields, None
        if fields["truth"] is not None:
            source = self._opened(stack, request, "truth", running)
            stored = _truth_rows(source, fields, field.name, found.version)
            own = stored.filter(pc.equal(stored["dataset_id"], fields["dataset_id"]))
            current = own.filter(pc.equal(own["dataset_version"], fields["dataset_version"]))
            known = truth_of(current, found.ids) if current.num_rows else None
            if known is not None:
                return _Truth(known)
            stale = _age(stored, own)
        k = max(TRUTH_K, fields["k"])
        metric = Metric(fields["metric"])
        hits = exact_answers(rows, field, metric, found.vectors, k, tell, running.check)
        return _Truth(hits, _stream(truth_table(found.ids, hits)), stale)


def _truth_rows(source: DatasetRows, fields: Mapping[str, Any], column: str, version: int) -> pa.Table:
    """Return the exact answers that are stored of an eval set, of any version of its dataset."""
    of = ["eval_set", "eval_set_version", "column", "dataset_id", "dataset_version", "distance_type", "k"]
    table = _read(source, [*of, *TRUTH.names])
    wanted = (fields["eval_set"], version, column, fields["metric"])
    for name, value in zip(("eval_set", "eval_set_version", "column", "distance_type"), wanted, strict=True):
        table = table.filter(pc.equal(table[name], value))
    return table.filter(pc.greater_equal(table["k"], fields["k"]))


def _only_field(schema: pa.Schema) -> VectorField:
    """Return the column of vectors of a dataset that has one. Raises InvalidArgumentError."""
    names = vector_queries.vector_columns(schema)
    if len(names) > 1:
        raise InvalidArgumentError(
            f"eval sets and trials are for tables with one column of vectors, and this one has {len(names)}: "
            f"{', '.join(names)}"
        )
    return vector_queries.vector_field(schema, None)


def _check_answers(rows: DatasetRows, found: _EvalSet) -> None:
    """Refuse answers that are known to be right and are no rows. Raises InvalidArgumentError."""
    missing = set().union(*found.answers)
    if not missing:
        return
    column = _key_column(rows)
    for batch in rows.scan(rows.objects, [column]):
        missing.difference_update(map(str, batch[column].to_pylist()))
    for name, answers in zip(found.ids, found.answers, strict=True):
        if lost := sorted(answers & missing):
            raise InvalidArgumentError(
                f"query {name!r:.80}: no row has the key {lost[0]!r:.80} in column {column}, which 'answers' "
                "names: they are values of the primary key, or else of the first column"
            )


def _age(stored: pa.Table, own: pa.Table) -> str | None:
    """Say of what the stored exact answers are, `own` those of this very dataset; None without any."""
    if own.num_rows:
        return f"version {pc.max(own['dataset_version']).as_py()} of the dataset"
    return "an earlier dataset of that name" if stored.num_rows else None


def _judge(
    rows: DatasetRows, found: _EvalSet, truth: Sequence[Hits]
) -> Callable[[Sequence[Hits], int], Sequence[Quality]]:
    """Return what judges answers: by known ones where a query has them, else by the exact ones."""

    def judge(answers: Sequence[Hits], k: int) -> Sequence[Quality]:
        keys = iter(_keys(rows, [hits for hits, known in zip(answers, found.answers, strict=True) if known]))
        return [
            known_quality(next(keys), known, k) if known else quality(hits, exact, k)
            for hits, known, exact in zip(answers, found.answers, truth, strict=True)
        ]

    return judge


def _keys(rows: DatasetRows, answers: Sequence[Hits]) -> Iterator[list[str]]:
    """Yield for each answer the keys of its rows: the primary key's only column, else the first."""
    if not answers:
        return
    column = _key_column(rows)
    objects = np.concatenate([hits.objects for hits in answers])
    numbers = np.concatenate([hits.rows for hits in answers])
    values = rows.fetch(objects, numbers, [column])[column].to_pylist()
    at = 0
    for hits in answers:
        yield [str(value) for value in values[at : at + len(hits)]]
        at += len(hits)


def _key_column(rows: DatasetRows) -> str:
    primary = [item for item in declarations.keys(rows.schema) if item.kind == declarations.PRIMARY_KEY]
    return primary[0].columns[0] if primary and len(primary[0].columns) == 1 else rows.schema.names[0]


def _read(source: DatasetRows, columns: Sequence[str]) -> pa.Table:
    missing = [name for name in columns if name not in source.schema.names]
    if missing:
        raise FailedPreconditionError(
            f"a table of this profile has the name of one for trials, but no column {missing[0]}: rename it"
        )
    batches = [*source.scan(source.objects, columns)]
    return pa.Table.from_batches(batches or [source.empty(columns)])


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise FailedPreconditionError("the journal's row holds parameters that are no JSON object")
    return value


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def telling(send: Send) -> Callable[[str, float], None]:
    """Return what sends progress: a phase, and how much of it is done."""

    def tell(phase: str, done: float) -> None:
        send(Frame("progress", {"phase": phase, "done": round(done, 4)}))

    return tell
