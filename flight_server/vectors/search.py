"""Searches: what an index knows of the live objects, and an exact search over those that it does not.

So time travel, transactions and indexes that lag behind need no rules of their own: a statement's snapshot
says which objects are live, and every row of theirs is looked at in one way or the other.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from flight_server.domain.vector import IndexKind, IndexRecord, Metric, SearchOptions, Tier
from flight_server.vectors import texts
from flight_server.vectors.activation import Activations, Times, Wanted, patient
from flight_server.vectors.blocks import EXACT_ROWS, Block, live_count, live_rows, passing, places, usable
from flight_server.vectors.entries import Entry, Held
from flight_server.vectors.exact import matrix, nearest
from flight_server.vectors.hits import Hits, joined
from flight_server.vectors.opened import OpenIndex, UnreadableIndexError
from flight_server.vectors.prefilter import found_in_index, remembered_passing
from flight_server.vectors.queries import (
    Search,
    VectorField,
    check_queries,
    is_vector_index,
    metric_of,
    text_field,
    text_key,
    vector_columns,
    vector_field,
)
from flight_server.vectors.results import fused, result
from flight_server.vectors.source import Check, Floats, Mask, Source

_KEPT_BATCHES = 8
_FUSED_FACTOR = 4
_FUSED_LEAST = 60
_FUSED_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search will be answered; `index` names the kind of index, empty without one.

    Texts have no metric.
    """

    tier: Tier
    metric: Metric | None
    column: str
    index: str


@dataclass(frozen=True, slots=True)
class Activated:
    """What an activation has brought into memory for a column; `record` is None without an index."""

    column: str
    record: IndexRecord | None
    tier: Tier
    rows: int
    dim: int
    bytes: int
    times: Times


@dataclass(frozen=True, slots=True)
class _Found:
    """Hits for each query, and the memory that some of them lie in."""

    hits: list[Hits]
    memory: Held = field(default_factory=Held)


@dataclass(frozen=True, slots=True)
class _Part:
    """Objects of a dataset version: all of it, or those that came `after` an index."""

    objects: AbstractSet[int]
    after: OpenIndex | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """A search with all that has been found out about it."""

    search: Search
    field: VectorField
    metric: Metric
    entry: Entry
    record: IndexRecord | None

    @property
    def live(self) -> AbstractSet[int]:
        """The objects that the search may find rows of."""
        return self.search.source.objects.keys()

    def wanted(self, part: _Part, record: IndexRecord | None, max_rows: int | None) -> Wanted:
        """Return what of some objects is to be in memory."""
        source, check = self.search.source, self.search.check
        return Wanted(source, self.field, part.objects, part.after, record, max_rows, check)


class VectorSearcher:
    """Searches vectors and texts; used by many threads at once."""

    def __init__(self, activations: Activations) -> None:
        self._activations = activations
        self._texts = texts.FreshTexts()
        self._passing = remembered_passing()

    def vector(self, search: Search, queries: Floats, *, is_batch: bool = False) -> pa.Table:
        """Return the columns wanted of the nearest rows and `_distance`, best first.

        A batch has `query_index` before them. Raises InvalidArgumentError.
        """
        task = self._task(search)
        queries = np.ascontiguousarray(queries, np.float32)
        check_queries(queries, task.field.name, task.field.dim, task.metric)
        found = self._find(task, queries)
        return result(
            search.source, search.columns, task.field, (found.hits, found.memory), is_batch=is_batch
        )

    def text(self, search: Search, text: str) -> pa.Table:
        """Return the columns wanted of the rows that match a text best and `_score`, best first.

        Raises FailedPreconditionError when there is no text index.
        """
        hits = self._match(search, search.column, text)
        return result(search.source, search.columns, None, ([hits], Held()), score=True)

    def hybrid(self, search: Search, query: Floats, text: str) -> pa.Table:
        """Return the columns wanted of the rows that come first by vector and text together, and `_score`.

        `_score` is reciprocal rank fusion: the sum of 1 / (60 + rank) over both. Raises as the two do.
        """
        k = min(max(search.options.k * _FUSED_FACTOR, _FUSED_LEAST), _FUSED_MOST)
        wide = replace(search, options=replace(search.options, k=k))
        matched = self._match(wide, search.text_column, text)
        task = self._task(wide)
        check_queries(query[None], task.field.name, task.field.dim, task.metric)
        found = self._find(task, query[None])
        hits = fused([found.hits[0], matched], search.options.k)
        return result(search.source, search.columns, task.field, ([hits], found.memory), score=True)

    def describe(self, search: Search, *, is_text: bool = False) -> Plan:
        """Tell how a search would be answered, without loading anything. Raises as the search does."""
        if is_text:
            name = text_field(search.source.schema, search.records, search.column)
            return Plan(Tier.INDEX, None, name, str(IndexKind.FTS))
        task = self._task(search)
        kind = "" if task.record is None else str(task.record.kind)
        return Plan(self._expected_tier(task), task.metric, task.field.name, kind)

    def _expected_tier(self, task: _Task) -> Tier:
        source, dim = task.search.source, task.field.dim or (task.record.dim if task.record else 0)
        if task.live <= task.entry.held.covers:
            return Tier.EXACT
        rows = task.record.rows if task.record is not None else source.count(source.objects)
        is_small = task.search.options.is_exact or rows <= EXACT_ROWS
        if is_small and self._activations.fits(rows, dim):
            return Tier.EXACT
        return Tier.SCAN if task.record is None or task.search.options.is_exact else Tier.INDEX

    def _task(self, search: Search) -> _Task:
        column = vector_field(search.source.schema, search.column)
        metric = metric_of(search.records, column.name, search.options.metric)
        entry = self._activations.entry(search.source, column)
        records = [
            record
            for record in search.records
            if is_vector_index(record, column.name) and record.metric is metric
        ]
        return _Task(search, column, metric, entry, records[0] if records else None)

    def _find(self, task: _Task, queries: Floats) -> _Found:
        tier, memory, index = self._choose(task)
        task.entry.tier = tier
        if index is not None:
            try:
                return self._by_index(task, index, queries)
            except UnreadableIndexError as error:
                self._activations.indexes.lose(index.record, error)
                return self._find(replace(task, record=None), queries)
        if memory is not None:
            return _Found(self._in_memory(task, memory, _Part(task.live), queries), memory)
        return _Found(self._scanned(task, task.live, queries))

    def activate(self, source: Source, records: Sequence[IndexRecord], check: Check) -> Iterator[Activated]:
        """Bring into memory what searches of a dataset version use; tell of each index and column."""
        for name in vector_columns(source.schema, records):
            task = self._task(Search(source, records, name, SearchOptions(), check=check))
            times = Times()
            tier, memory, index = self._choose(task, times)
            if index is not None:
                with times.measured("prewarm_ms"), patient(task.entry.loads, check):
                    index.prewarm()
            task.entry.tier = tier
            yield self._activated(task, tier, memory, times)
        for record in records:
            if record.kind is IndexKind.FTS and record.column in source.schema.names:
                yield self._activated_text(source, record)

    def _activated(self, task: _Task, tier: Tier, memory: Held | None, times: Times) -> Activated:
        record, blocks = task.record, memory.blocks if memory is not None else ()
        dim = blocks[0].matrix.vectors.shape[1] if blocks else task.field.dim or 0
        rows, size = (live_count(blocks, task.live), memory.bytes) if memory is not None else (0, 0)
        if record is not None and memory is None:
            rows, dim, size = record.rows, record.dim, record.bytes
        return Activated(task.field.name, record, tier, rows, dim, size, times)

    def _activated_text(self, source: Source, record: IndexRecord) -> Activated:
        times = Times()
        index = self._activations.index(record, text_key(source.schema.field(record.column)), times)
        if index is not None:
            with times.measured("prewarm_ms"):
                index.prewarm()
        return Activated(record.column, record, Tier.INDEX, record.rows, 0, record.bytes, times)

    def _choose(self, task: _Task, times: Times | None = None) -> tuple[Tier, Held | None, OpenIndex | None]:
        """Return what answers a search: memory where all fits, else an index, else the objects."""
        options, record = task.search.options, task.record
        limit = None if options.is_exact else EXACT_ROWS
        if options.is_exact or record is None or record.rows <= EXACT_ROWS:
            memory = self._activations.cover(task.entry, task.wanted(_Part(task.live), record, limit), times)
            if memory is not None:
                return Tier.EXACT, memory, None
        if record is not None and not options.is_exact:
            index = self._activations.index(record, task.field.key, times)
            if index is not None:
                return Tier.INDEX, None, index
        return Tier.SCAN, None, None

    def _by_index(self, task: _Task, index: OpenIndex, queries: Floats) -> _Found:
        """Search an index, and the objects that came after it, in memory if they fit."""
        search, own = task.search, task.search.options
        known = task.live & index.covers
        find = partial(found_in_index, index, search, known, self._passing)
        key = (index, search.source.relation, search.where, own)
        hits = task.entry.together.answer(key, queries, partial(_each, find), search.check)
        later = _Part(task.live - index.covers, index)
        if not later.objects:
            return _Found(hits)
        memory = self._activations.cover(task.entry, task.wanted(later, None, EXACT_ROWS))
        if memory is None:
            more = self._scanned(task, later.objects, queries)
        else:
            more = self._in_memory(task, memory, later, queries)
        both = [joined(pair).best(own.k) for pair in zip(hits, more, strict=True)]
        return _Found(both, memory or Held())

    def _in_memory(self, task: _Task, memory: Held, part: _Part, queries: Floats) -> list[Hits]:
        """Search the rows of some objects in memory; searches of the same kind are answered together."""
        _check_dim(task, memory, part, queries)
        search = task.search
        key = (memory, search.source.relation, part.after, search.where, task.metric, search.options.k)
        work = partial(_each, partial(_search_blocks, task, memory, part))
        return task.entry.together.answer(key, queries, work, search.check)

    def _scanned(self, task: _Task, objects: AbstractSet[int], queries: Floats) -> list[Hits]:
        """Search the rows of some objects while they are read, holding no more than a few batches."""
        search, k = task.search, task.search.options.k
        kept: list[list[Hits]] = [[] for _ in queries]
        for batch in search.source.scan(objects, [task.field.name], search.where):
            search.check()
            chosen, vectors = usable(batch, task.field)
            if not len(vectors):
                continue
            check_queries(queries, task.field.name, vectors.shape[1], task.metric)
            own_objects, rows = places(chosen)
            for parts, found in zip(kept, nearest(matrix(vectors), queries, task.metric, k), strict=True):
                at = found.positions
                parts.append(Hits.elsewhere(own_objects[at], rows[at], found.distances))
                if len(parts) >= _KEPT_BATCHES:
                    parts[:] = [joined(parts).best(k)]
        return [joined(parts).best(k) for parts in kept]

    def _match(self, search: Search, column: str | None, text: str) -> Hits:
        name = text_field(search.source.schema, search.records, column)
        wanted = texts.TextSearch(search.source, name, text, search.options.k, search.where, search.check)
        return self._texts.find(self._activations, search.records, wanted)


def _each(find: Callable[[Floats], list[Hits]], groups: Sequence[Floats]) -> list[list[Hits]]:
    """Answer several groups of queries at once."""
    found = find(np.concatenate(groups) if len(groups) > 1 else groups[0])
    ends = np.cumsum([len(group) for group in groups])
    return [found[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]


def _check_dim(task: _Task, memory: Held, part: _Part, queries: Floats) -> None:
    for block in memory.blocks:
        if len(block.rows) and not part.objects.isdisjoint(block.covers):
            check_queries(queries, task.field.name, block.matrix.vectors.shape[1], task.metric)


def _search_blocks(task: _Task, memory: Held, part: _Part, queries: Floats) -> list[Hits]:
    k = task.search.options.k
    kept: list[list[Hits]] = [[] for _ in queries]
    for number, block in enumerate(memory.blocks):
        if not len(block.rows) or part.objects.isdisjoint(block.covers):
            continue
        mask = _mask(task, block, part)
        for parts, found in zip(kept, nearest(block.matrix, queries, task.metric, k, mask), strict=True):
            at = found.positions
            numbers = np.full(len(at), number, np.int64)
            parts.append(Hits(block.objects[at], block.rows[at], found.distances, numbers, at))
    return [joined(parts).best(k) for parts in kept]


def _mask(task: _Task, block: Block, part: _Part) -> Mask | None:
    """Return which rows of a block a search may find, None for all."""
    search = task.search
    relation = search.source.relation
    live = task.entry.mask((block, relation, part.after), lambda: live_rows(block, part.objects))
    where = search.where
    if where is None:
        return live
    through = task.entry.mask((block, relation, where.sql), lambda: passing(block, search.source, where))
    return through if live is None or through is None else live & through
