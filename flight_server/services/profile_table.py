"""The rows of `sys.profiles`: what the catalog records, what this server has in memory and works on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.catalog.store import Catalog
from flight_server.domain import declarations
from flight_server.domain.bucket import PROFILE_PREFIX, BucketRegistry
from flight_server.domain.dataset import Dataset, DatasetFilter
from flight_server.domain.identity import Identity
from flight_server.domain.vector import IndexRecord
from flight_server.services.index_progress import IndexProgress, IndexWork

_ANSWER_SECONDS = 10.0

_COLUMNS: dict[str, pa.DataType] = {
    "profile": pa.utf8(),
    "bucket": pa.utf8(),
    "table": pa.utf8(),
    "column": pa.utf8(),
    "index_type": pa.utf8(),
    "metric": pa.utf8(),
    "state": pa.utf8(),
    "tier": pa.utf8(),
    "rows": pa.int64(),
    "dim": pa.int64(),
    "bytes": pa.int64(),
    "phase": pa.utf8(),
    "progress": pa.float64(),
    "error": pa.utf8(),
    "lag_versions": pa.int64(),
    "lag_rows": pa.int64(),
    "searches": pa.int64(),
    "idle_s": pa.float64(),
}

PROFILES = pa.schema(list(_COLUMNS.items()))

_Active = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """Reads `sys.profiles`; from any thread but that of the event loop, which `activations` is asked on."""

    catalog: Catalog
    registry: BucketRegistry
    progress: IndexProgress
    activations: Callable[[], Awaitable[list[dict[str, Any]]]]
    loop: asyncio.AbstractEventLoop

    def rows(self, identity: Identity) -> Iterator[Sequence[object]]:
        """Yield a row for each index, each column in memory without one, and each profile without either."""
        profiles = [each.name for each in self.registry.visible(identity) if each.is_profile]
        active = self._active()
        records = self.catalog.vectors.all_indexes()
        busy = {record.bucket for record, _ in records} | {row["bucket"] for row in active.values()}
        datasets = self._datasets(sorted(busy.intersection(profiles)))
        indexed: dict[str, list[tuple[IndexRecord, int]]] = {}
        for record, newest in records:
            indexed.setdefault(record.bucket, []).append((record, newest))
        for bucket in sorted(profiles):
            found = [*self._of_indexes(indexed.get(bucket, ()), datasets, active)]
            found += self._without_index(bucket, datasets, active)
            yield from found or [_row(bucket, {})]

    def _active(self) -> _Active:
        async def ask() -> list[dict[str, Any]]:
            return await self.activations()

        rows = asyncio.run_coroutine_threadsafe(ask(), self.loop).result(_ANSWER_SECONDS)
        return {(row["dataset_id"], row["column"]): row for row in rows}

    def _datasets(self, buckets: Sequence[str]) -> dict[str, Dataset]:
        if not buckets:
            return {}
        found = self.catalog.list_datasets(self.catalog.newest_commit(), DatasetFilter(tuple(buckets)))
        return {dataset.id: dataset for dataset in found}

    def _of_indexes(
        self, records: Sequence[tuple[IndexRecord, int]], datasets: dict[str, Dataset], active: _Active
    ) -> Iterator[Sequence[object]]:
        ids = [record.dataset_id for record, _ in records if record.dataset_id in datasets]
        totals = self.catalog.totals(self.catalog.newest_commit(), ids) if ids else {}
        for record, newest in records:
            dataset = datasets.get(record.dataset_id)
            if dataset is None:  # dropped; its index goes with the next sweep
                continue
            held = totals.get(dataset.id)
            lag = newest - record.dataset_version
            column = _column(dataset, record)
            yield _row(
                record.bucket,
                {
                    "bytes": 0,
                    **active.pop((dataset.id, column), {}),
                    "rows": record.rows,
                    "table": dataset.name,
                    "column": column,
                    "index_type": record.kind,
                    **record.measure,
                    "lag_versions": lag,
                    "lag_rows": max(0, (held.rows or 0) - record.rows) if held is not None and lag else 0,
                    **_work(self.progress.get(dataset.id)),
                },
            )

    def _without_index(
        self, bucket: str, datasets: dict[str, Dataset], active: _Active
    ) -> Iterator[Sequence[object]]:
        for (dataset_id, _), row in sorted(active.items()):
            dataset = datasets.get(dataset_id)
            if row["bucket"] == bucket and dataset is not None:
                work = _work(self.progress.get(dataset_id))
                yield _row(bucket, {**row, "table": dataset.name, "index_type": "none", **work})


def _column(dataset: Dataset, record: IndexRecord) -> str:
    fields = declarations.read(dataset.schema or b"")
    names = {declarations.column_id(field): field.name for field in fields}
    return names.get(record.column, record.column)


def _work(work: IndexWork | None) -> dict[str, object]:
    return {} if work is None else {"phase": work.phase, "progress": work.done, "error": work.error}


def _row(bucket: str, values: dict[str, Any]) -> Sequence[object]:
    known = {
        **values,
        "profile": bucket.removeprefix(PROFILE_PREFIX),
        "bucket": bucket,
        "searches": values.get("hits"),
        "state": values.get("state", "cold"),
    }
    return [known.get(name) for name in _COLUMNS]
