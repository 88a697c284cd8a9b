"""Eval sets and trials: how good and how fast an index is, measured with a profile's own queries.

Eval sets, exact answers and the journal are datasets of the profile's bucket. A trial builds an index of its
own, which no search sees; a promotion builds the same for searches.
"""

import asyncio
import itertools
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pyarrow as pa

from flight_server.dispatch.vectors import Measured, Searched, TrialRequest
from flight_server.domain.bucket import PROFILE_PREFIX, Bucket
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import CATALOG, Dataset
from flight_server.domain.identity import Identity
from flight_server.domain.trial import (
    EVAL_QUERIES,
    EVAL_TRUTH,
    QUERIES_DATASET,
    TRIALS,
    TRIALS_DATASET,
    TRUTH_DATASET,
    TRUTH_K,
)
from flight_server.domain.vector import IndexKind, Metric
from flight_server.errors import FailedPreconditionError, InvalidArgumentError, LakehouseError, NotFoundError
from flight_server.services.aside import AsideEngine
from flight_server.services.indexing import AskedIndex, IndexService
from flight_server.services.journal import Journal, Rows
from flight_server.services.query import QueryService
from flight_server.services.searched import SearchedDatasets, shown
from flight_server.services.writes import Writes

Tell: TypeAlias = Callable[[dict[str, Any]], None]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvalSet:
    """An eval set to store: `queries` are rows with the columns `QUERIES`."""

    profile: str
    name: str
    table: str
    queries: pa.Table


@dataclass(frozen=True, slots=True)
class AskedTrial:
    """What is to be tried: an index, and settings of searches in it; no metric means that of the column."""

    profile: str
    table: str
    eval_set: str
    kind: IndexKind
    metric: Metric | None
    params: Mapping[str, object]
    search: Sequence[Mapping[str, int]]
    k: int


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of trials: what all its rows have in common."""

    asked: AskedTrial
    dataset: Dataset
    id: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class TrialService:
    """Stores eval sets, runs trials, promotes them."""

    datasets: SearchedDatasets
    journal: Journal
    engine: AsideEngine
    indexes: IndexService
    query: QueryService
    writes: Writes

    async def put_eval_set(self, identity: Identity, asked: EvalSet, tell: Tell) -> Row:
        """Store queries with their exact answers; a set of the same name gets a new version.

        Raises NotFoundError, PermissionDeniedError, InvalidArgumentError for queries that cannot be searched.
        """
        bucket = self.datasets.writable_profile(identity, asked.profile)
        dataset = self.datasets.table(identity, bucket, asked.table)
        metric = self._metric(dataset)
        searched = self.datasets.searched(identity, dataset)
        async with self.engine.working() as dispatcher:
            column, truth = await dispatcher.over(*searched.buckets).vectors.truth(
                searched, metric, TRUTH_K, _stream(asked.queries), tell
            )
        of = _EvalRows(asked.name, self._next_version(bucket), dataset)
        queries = of.rows(asked.queries, EVAL_QUERIES)
        answers = of.truth(_table(truth), column, metric, TRUTH_K)
        summary = f"eval set {asked.name} of {shown(dataset)}: {asked.queries.num_rows} queries"
        await self.journal.append(
            identity, bucket.name, [(QUERIES_DATASET, queries), (TRUTH_DATASET, answers)], summary
        )
        return {
            "profile": bucket.name.removeprefix(PROFILE_PREFIX),
            "name": asked.name,
            "version": of.version,
            "table": dataset.name,
            "column": column,
            "queries": asked.queries.num_rows,
            "dataset_version": dataset.version,
            "done": True,
        }

    async def run(self, identity: Identity, asked: AskedTrial, tell: Tell) -> Sequence[Row]:
        """Build an index, measure it with each setting, remove it; return the rows of the journal.

        What fails or is cancelled has rows too. Raises NotFoundError, PermissionDeniedError,
        InvalidArgumentError.
        """
        bucket = self.datasets.writable_profile(identity, asked.profile)
        dataset = self.datasets.table(identity, bucket, asked.table)
        run = _Run(
            replace(asked, metric=asked.metric or self._metric(dataset)),
            dataset,
            uuid.uuid4().hex,
            datetime.now(UTC),
        )
        request = self._request(identity, bucket, run)
        try:
            with self.indexes.progress.making(request.table):
                async with self.engine.working() as dispatcher:
                    measured = await dispatcher.over(*request.buckets).vectors.trial(request, tell)
        except LakehouseError as error:
            await self._note_end(identity, bucket, run, "failed", error.message)
            raise
        except asyncio.CancelledError:
            await self._note_end(identity, bucket, run, "cancelled", None)
            raise
        rows = [
            _row(run, setting, measured, found)
            for setting, found in zip(asked.search, measured.rows, strict=True)
        ]
        parts: list[Rows] = [(TRIALS_DATASET, pa.RecordBatch.from_pylist(rows, TRIALS))]
        if measured.truth:
            of = _EvalRows(asked.eval_set, measured.eval_set_version, dataset)
            k, metric = max(TRUTH_K, asked.k), Metric(request.metric)
            parts.append((TRUTH_DATASET, of.truth(_table(measured.truth), measured.column, metric, k)))
        summary = f"trial of {shown(dataset)}: {asked.kind}, {len(rows)} settings"
        await self.journal.append(identity, bucket.name, parts, summary)
        return [_shown_row(row) for row in rows]

    async def promote(self, call: CallContext, profile: str, trial_id: str, tell: Tell) -> Row:
        """Build a trial's index for searches, which go on meanwhile; its settings become their defaults.

        Raises NotFoundError, PermissionDeniedError, FailedPreconditionError for a trial that has failed.
        """
        identity = call.identity
        bucket = self.datasets.writable_profile(identity, profile)
        journal = self.datasets.searched(identity, self.datasets.table(identity, bucket, TRIALS_DATASET))
        async with self.engine.working() as dispatcher:
            row = await dispatcher.over(*journal.buckets).vectors.journal_row(journal, trial_id)
        report = await self.indexes.create(identity, _promoted(profile, trial_id, row), tell)
        now = datetime.now(UTC)
        sql = (
            f"UPDATE {CATALOG}.{_quoted(bucket.name)}.{TRIALS_DATASET} "  # noqa: S608 - quoted
            f"SET promoted_at = TIMESTAMPTZ '{now.isoformat()}' WHERE trial_id = {_text(trial_id)}"
        )
        await self._update(call, sql)
        return {
            **report,
            "trial_id": trial_id,
            "search": row["search_params"],
            "promoted_at": now.isoformat(),
        }

    async def _update(self, call: CallContext, sql: str) -> None:
        """Run a statement of ours, which is not part of a transaction that the caller has open."""
        for attempt in itertools.count(1):
            snapshot = self.writes.transactions.snapshot(None)
            with closing(self.writes.targets(call, None, snapshot)) as targets:
                try:
                    await self.query.update_at(call, sql, None, snapshot, targets)
                except LakehouseError:
                    if not await self.writes.may_run_again(targets, None, attempt):
                        raise
                else:
                    return

    def _metric(self, dataset: Dataset) -> Metric:
        own = [each.metric for each in self.datasets.names.indexes(dataset) if each.kind is not IndexKind.FTS]
        return own[0] if own else Metric.COSINE

    def _next_version(self, bucket: Bucket) -> int:
        """Return a number above those of all eval sets of a profile."""
        found = self.datasets.names.find((bucket.name,), QUERIES_DATASET, self.datasets.snapshot())
        return 1 if found is None else found.version + 1

    def _request(self, identity: Identity, bucket: Bucket, run: _Run) -> TrialRequest:
        asked = run.asked
        queries = self._dataset(identity, bucket, QUERIES_DATASET)
        if queries is None:
            raise NotFoundError(
                f"no eval set {asked.eval_set[:80]!r}: store one with the action put_eval_set"
            )
        return TrialRequest(
            dataset=self.datasets.searched(identity, run.dataset),
            dataset_version=run.dataset.version,
            table_name=run.dataset.name,
            kind=asked.kind,
            metric=asked.metric or Metric.COSINE,
            params=asked.params,
            search=asked.search,
            k=asked.k,
            eval_set=asked.eval_set,
            queries=queries,
            truth=self._dataset(identity, bucket, TRUTH_DATASET),
            table=f"trial-{run.id}",
        )

    def _dataset(self, identity: Identity, bucket: Bucket, name: str) -> Searched | None:
        found = self.datasets.names.find((bucket.name,), name, self.datasets.snapshot())
        return None if found is None else self.datasets.searched(identity, found)

    async def _note_end(
        self, identity: Identity, bucket: Bucket, run: _Run, status: str, error: str | None
    ) -> None:
        """Keep in the journal that a run did not come to its end."""
        rows = [{**_common(run, setting), "status": status, "error": error} for setting in run.asked.search]
        batch = pa.RecordBatch.from_pylist(rows, TRIALS)
        summary = f"trial of {shown(run.dataset)}: {status}"
        await self.journal.append(identity, bucket.name, [(TRIALS_DATASET, batch)], summary)


@dataclass(frozen=True, slots=True)
class _EvalRows:
    """What all rows of a version of an eval set have in common."""

    name: str
    version: int
    dataset: Dataset

    def rows(self, table: pa.Table, schema: pa.Schema, **further: object) -> pa.RecordBatch:
        """Return rows with these columns before their own."""
        common = {
            "eval_set": self.name,
            "eval_set_version": self.version,
            "table_name": self.dataset.name,
            "created_at": datetime.now(UTC),
            **further,
        }
        columns = [
            pa.array([common[field.name]] * table.num_rows, field.type)
            if field.name in common
            else table[field.name].combine_chunks()
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def truth(self, table: pa.Table, column: str, metric: Metric, k: int) -> pa.RecordBatch:
        """Return exact answers for the dataset's version."""
        return self.rows(
            table,
            EVAL_TRUTH,
            column=column,
            dataset_id=self.dataset.id,
            dataset_version=self.dataset.version,
            distance_type=str(metric),
            k=k,
        )


def _common(run: _Run, setting: Mapping[str, int]) -> Row:
    asked = run.asked
    return {
        "trial_id": uuid.uuid4().hex,
        "run_id": run.id,
        "started_at": run.started_at,
        "profile": run.dataset.namespace.removeprefix(PROFILE_PREFIX),
        "table_name": run.dataset.name,
        "dataset_version": run.dataset.version,
        "distance_type": str(asked.metric),
        "index_type": str(asked.kind),
        "build_params": json.dumps(dict(asked.params)),
        "search_params": json.dumps(dict(setting)),
        "k": asked.k,
        "eval_set": asked.eval_set,
    }


def _row(run: _Run, setting: Mapping[str, int], measured: Measured, found: Mapping[str, Any]) -> Row:
    row = {**_common(run, setting), **found, "status": "ok"}
    row["build_params"] = json.dumps(found["build_params"])
    row |= {"eval_set_version": measured.eval_set_version, "num_queries": measured.queries}
    if measured.stale is not None:
        row["note"] = f"exact answers were there for {measured.stale}: they were computed anew"
    return row


def _shown_row(row: Row) -> Row:
    parsed = {name: json.loads(row[name]) for name in ("build_params", "search_params")}
    full: Row = dict.fromkeys(TRIALS.names) | row | parsed
    return {**full, "started_at": row["started_at"].isoformat()}


def _promoted(profile: str, trial_id: str, row: Mapping[str, Any]) -> AskedIndex:
    if row["status"] != "ok":
        raise FailedPreconditionError(
            f"trial {trial_id[:80]} is {row['status']}: only one that came to its end can be promoted"
        )
    try:
        kind, metric = IndexKind(row["index_type"]), Metric(row["distance_type"])
    except ValueError as error:
        raise InvalidArgumentError("the journal's row names an index or metric that there is not") from error
    return AskedIndex(
        profile, row["table_name"], row["column"], kind, metric, row["build_params"], row["search_params"]
    )


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(stream: bytes) -> pa.Table:
    return pa.ipc.open_stream(stream).read_all()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
