"""Turns the places of rows that were found into rows: from memory where it has their columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from flight_server.vectors.blocks import readable_payload
from flight_server.vectors.entries import Held
from flight_server.vectors.hits import NOWHERE, Hits, joined
from flight_server.vectors.queries import VectorField
from flight_server.vectors.source import Source

DISTANCE, SCORE, QUERY = "_distance", "_score", "query_index"

_FUSION_CONSTANT = 60
"""The k of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)."""


def result(
    source: Source,
    columns: Sequence[str],
    field: VectorField | None,
    found: tuple[list[Hits], Held],
    *,
    is_batch: bool = False,
    score: bool = False,
) -> pa.Table:
    """Return `columns` of the rows found for each query, with their distances or scores behind them."""
    hits, memory = joined(found[0]), found[1]
    values = _columns(source, columns, field, hits, memory)
    fields = [source.schema.field(name) for name in columns]
    last = -hits.distances if score else hits.distances
    arrays = [*values, pa.array(last, pa.float32())]
    fields.append(pa.field(SCORE if score else DISTANCE, pa.float32()))
    if is_batch:
        numbers = np.repeat(np.arange(len(found[0])), [len(part) for part in found[0]])
        arrays.insert(0, pa.array(numbers, pa.int64()))
        fields.insert(0, pa.field(QUERY, pa.int64()))
    return pa.table(arrays, schema=pa.schema([item.remove_metadata() for item in fields]))


def _columns(
    source: Source, names: Sequence[str], field: VectorField | None, hits: Hits, memory: Held
) -> list[Any]:
    held = _from_memory(source, names, field, hits, memory)
    missing = [name for name in names if name not in held]
    if missing:
        fetched = source.fetch(hits.objects, hits.rows, missing)
        held |= {name: fetched[name] for name in missing}
    return [_cast(held[name], source.schema.field(name).type) for name in names]


def _cast(values: Any, kind: pa.DataType) -> Any:
    return values if values.type == kind else values.cast(kind)


def _from_memory(
    source: Source, names: Sequence[str], field: VectorField | None, hits: Hits, memory: Held
) -> dict[str, Any]:
    """Return the columns that memory has of all hits."""
    numbers = np.unique(hits.blocks)
    if not len(hits) or numbers[0] == NOWHERE:
        return {}
    order, parts = [], []
    for number in numbers.tolist():
        at = np.flatnonzero(hits.blocks == number)
        order.append(at)
        parts.append(_part(source, names, field, memory.blocks[number], hits.positions[at]))
    back = np.argsort(np.concatenate(order), kind="stable")
    common = [name for name in names if all(name in part for part in parts)]
    found = {name: pa.chunked_array([part[name] for part in parts]) for name in common}
    if len(parts) == 1:
        return dict(found)
    return {name: values.take(back) for name, values in found.items()}


def _part(
    source: Source, names: Sequence[str], field: VectorField | None, block: Any, at: Any
) -> dict[str, Any]:
    payload = readable_payload(block, source)
    found: dict[str, Any] = {}
    if payload is not None:
        kept = [name for name in names if name in payload.column_names]
        taken = payload.select(kept).take(pa.array(at)).combine_chunks()
        found = {name: _one_chunk(taken[name]) for name in kept}
    if field is not None and field.name in names and field.is_single:
        vectors = block.matrix.vectors[at]
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
        found[field.name] = _cast(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]), field.type)
    return found


def _one_chunk(values: Any) -> Any:
    return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)


def fused(rankings: Sequence[Hits], k: int) -> Hits:
    """Return the k rows that come first in several rankings together, with their scores as distances below 0.

    Each ranking gives a row 1 / (60 + its rank), counted from 1.
    """
    scores: dict[tuple[int, int], float] = {}
    where: dict[tuple[int, int], tuple[int, int]] = {}
    for hits in rankings:
        listed = zip(hits.objects.tolist(), hits.rows.tolist(), strict=True)
        memory = zip(hits.blocks.tolist(), hits.positions.tolist(), strict=True)
        for rank, (place, position) in enumerate(zip(listed, memory, strict=True), 1):
            scores[place] = scores.get(place, 0.0) + 1 / (_FUSION_CONSTANT + rank)
            where[place] = max(position, where.get(place, (NOWHERE, NOWHERE)))
    found = np.array([[*place, *where[place]] for place in scores], np.int64).reshape(-1, 4)
    distances = -np.array(list(scores.values()), np.float32)
    return Hits(found[:, 0], found[:, 1], distances, found[:, 2], found[:, 3]).best(k)
