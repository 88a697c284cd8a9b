"""The exact answers to queries, and how much of them a search has found."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flight_server.domain.trial import TRUTH
from flight_server.domain.vector import Metric
from flight_server.vectors.blocks import places, usable
from flight_server.vectors.exact import matrix, nearest
from flight_server.vectors.hits import Hits, joined
from flight_server.vectors.index_rows import Tell
from flight_server.vectors.queries import VectorField
from flight_server.vectors.source import Check, Floats, Source

_ROWS_AT_ONCE = 65_536
_TOLERANCE = 1e-5
"""How far a distance may be off, absolutely and relative to it, and still be the same."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How good an answer is, 0 to 1: the share of what was to be found, and how far in front it stands."""

    recall: float
    ndcg: float


def exact_answers(
    source: Source, field: VectorField, metric: Metric, queries: Floats, k: int, tell: Tell, check: Check
) -> list[Hits]:
    """Return the k nearest rows to each query; all rows are compared, some at once."""
    found = [Hits.none() for _ in queries]
    total, done = max(1, source.count(source.objects)), 0
    waiting: list[pa.RecordBatch] = []
    for batch in source.scan(source.objects, [field.name]):
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= _ROWS_AT_ONCE:
            done += _compare(waiting, field, metric, queries, k, found, check)
            tell("truth", min(1.0, done / total))
            waiting = []
    if waiting:
        _compare(waiting, field, metric, queries, k, found, check)
    return found


def _compare(
    batches: Sequence[pa.RecordBatch],
    field: VectorField,
    metric: Metric,
    queries: Floats,
    k: int,
    found: list[Hits],
    check: Check,
) -> int:
    """Put what is near of some rows into the answers; return how many rows there were."""
    check()
    (whole,) = pa.Table.from_batches(batches).combine_chunks().to_batches() or [batches[0]]
    rows, vectors = usable(whole, field)
    if len(vectors):
        objects, numbers = places(rows)
        for at, near in enumerate(nearest(matrix(vectors), queries, metric, k)):
            new = Hits.elsewhere(objects[near.positions], numbers[near.positions], near.distances)
            found[at] = joined([found[at], new]).best(k)
    return whole.num_rows


def quality(found: Hits, truth: Hits, k: int) -> Quality:
    """Compare an answer with the exact one.

    What is as near as the k-th exact one counts, so that ties do, as in ann-benchmarks (`knn_metrics.py`).
    """
    wanted = min(k, len(truth))
    if not wanted:
        return Quality(1.0, 1.0)
    limit = float(truth.distances[wanted - 1])
    limit += _TOLERANCE * (1 + abs(limit))
    return _quality([bool(distance <= limit) for distance in found.distances[:k]], wanted)


def known_quality(found: Sequence[str], answers: Collection[str], k: int) -> Quality:
    """Compare the keys of an answer with those that are known to be right."""
    return _quality([key in answers for key in found[:k]], min(k, len(answers)))


def _quality(hits: Sequence[bool], wanted: int) -> Quality:
    """Return recall and normalised discounted cumulative gain (Järvelin and Kekäläinen, 2002)."""
    gains = 1 / np.log2(np.arange(2, 2 + max(len(hits), wanted)))
    gained = float(gains[: len(hits)][np.array(hits, np.bool_)].sum()) if hits else 0.0
    return Quality(min(1.0, sum(hits) / wanted), min(1.0, gained / float(gains[:wanted].sum())))


def truth_table(ids: Sequence[str], truth: Sequence[Hits]) -> pa.Table:
    """Return exact answers as rows."""
    counts = [len(hits) for hits in truth]
    whole = joined(truth) if truth else Hits.none()
    ranks = np.concatenate([np.arange(1, count + 1) for count in counts]) if counts else np.empty(0, np.int64)
    names = [name for name, count in zip(ids, counts, strict=True) for _ in range(count)]
    columns = [names, ranks, whole.objects, whole.rows, whole.distances]
    arrays = [_array(column, kind) for column, kind in zip(columns, TRUTH.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=TRUTH)


def _array(values: Any, kind: Any) -> Any:
    return pa.array(values, kind)


def truth_of(table: pa.Table, ids: Sequence[str]) -> list[Hits] | None:
    """Read exact answers; None when they are not those of these queries."""
    ordered = table.sort_by([("query_id", "ascending"), ("rank", "ascending")])
    names = np.array(ordered["query_id"].to_pylist(), dtype=object)
    objects, rows = (ordered[name].to_numpy() for name in ("object", "row"))
    distances = ordered["distance"].to_numpy()
    if {*names.tolist()} != {*ids}:
        return None
    found = []
    for name in ids:
        chosen = np.flatnonzero(names == name)
        found.append(Hits.elsewhere(objects[chosen], rows[chosen], distances[chosen]))
    return found
