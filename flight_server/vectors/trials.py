"""Trials: an index is built beside those that searches use, measured, and removed again."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flight_server.domain.trial import WARMUP_QUERIES
from flight_server.domain.vector import IndexRecord, SearchOptions
from flight_server.vectors import index as indexes
from flight_server.vectors.hits import Hits
from flight_server.vectors.index import Built
from flight_server.vectors.index_rows import IndexOrder, Tell
from flight_server.vectors.lance import Lance, library
from flight_server.vectors.opened import OpenIndex, open_index
from flight_server.vectors.source import Check, Floats, Source
from flight_server.vectors.truth import Quality

Judge = Callable[[Sequence[Hits], int], Sequence[Quality]]
"""The answers to all queries, and k → how good each is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An index that was built for a trial."""

    built: Built
    index: OpenIndex
    prewarm_ms: float


@contextmanager
def candidate(
    lance: Lance, source: Source, order: IndexOrder, tell: Tell, check: Check
) -> Iterator[Candidate]:
    """Build an index of its own for the block, and warm it; no search ever sees it."""
    try:
        built = indexes.build(lance, source, order, tell, check)
        record = IndexRecord(
            id=order.table,
            dataset_id="",
            bucket=order.bucket,
            column=built.column,
            kind=built.kind,
            metric=built.metric,
            table=order.table,
            lance_version=built.lance_version,
            dataset_version=0,
            rows=built.rows,
            dim=built.dim,
            bytes=built.bytes,
            params=built.params,
        )
        began = time.perf_counter()
        opened = open_index(lance, record)
        opened.prewarm()
        yield Candidate(built, opened, _milliseconds(began))
    finally:
        indexes.drop(lance, order.bucket, order.table)


def measured(
    found: Candidate, queries: Floats, options: SearchOptions, judge: Judge, check: Check
) -> dict[str, object]:
    """Search for each query alone, one after the other; return the measures by the journal's names."""
    began = time.perf_counter()
    found.index.nearest(queries[:1], options.k, options, None)
    first = _milliseconds(began)
    warmup = min(WARMUP_QUERIES, len(queries))
    for at in range(warmup):
        found.index.nearest(queries[at : at + 1], options.k, options, None)
    answers, latencies = [], []
    for at in range(len(queries)):
        check()
        began = time.perf_counter()
        (hits,) = found.index.nearest(queries[at : at + 1], options.k, options, None)
        latencies.append(_milliseconds(began))
        answers.append(hits.best(options.k))
    qualities = judge(answers, options.k)
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    return {
        **_of_build(found),
        "warmup": warmup,
        "concurrency": 1,
        "first_query_ms": round(first, 3),
        "recall": round(float(np.mean([each.recall for each in qualities])), 6),
        "ndcg": round(float(np.mean([each.ndcg for each in qualities])), 6),
        "latency_p50_ms": round(float(p50), 3),
        "latency_p95_ms": round(float(p95), 3),
        "latency_p99_ms": round(float(p99), 3),
        "qps": round(1000 * len(latencies) / sum(latencies), 3),
        "rss_bytes": _resident_bytes(),
    }


def _of_build(found: Candidate) -> dict[str, object]:
    built = found.built
    return {
        "column": built.column,
        "num_rows": built.rows,
        "dim": built.dim,
        "distance_type": str(built.metric),
        "index_type": str(built.kind),
        "build_params": dict(built.params),
        "build_seconds": built.seconds,
        "index_bytes": built.bytes,
        "prewarm_ms": round(found.prewarm_ms, 3),
        "lancedb_version": library().__version__,
    }


def options_of(setting: Mapping[str, int], k: int) -> SearchOptions:
    """Return how to search with a setting of a trial."""
    return SearchOptions(k, setting.get("ef"), setting.get("nprobes"), setting.get("refine"))


def _milliseconds(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _resident_bytes() -> int | None:
    """Return the memory of this process, None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) * 1024
