"""Searches of an index under a filter: the index must look for the nearest rows among those let through.

A filter of columns that the index holds is LanceDB's to apply, and so is the end of objects. Any other is
applied to the objects first; then the index is asked for so many rows that enough of them pass, or, when few
rows pass at all, their vectors are compared one by one.
"""

import math
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TypeAlias

import numpy as np

from flight_server.domain.recent import RecentMap
from flight_server.domain.vector import Filter
from flight_server.vectors.blocks import place_codes, places, usable
from flight_server.vectors.exact import matrix, nearest
from flight_server.vectors.hits import Hits, joined
from flight_server.vectors.opened import OpenIndex, UnreadableIndexError, sql_integers
from flight_server.vectors.queries import Search, vector_field
from flight_server.vectors.source import Check, Floats, Ints, Source

_MOST_ASKED = 4096
_SPARE = 2.0
_REMEMBERED_BYTES = 32 * 1024 * 1024
_REMEMBERED_BESIDE = 10_000
"""Bytes of a filter, whose text has up to 4 KiB, and of what it is remembered by."""


Passing: TypeAlias = RecentMap[object, Ints]
"""Places of the rows that filters have let through, which never change."""


def remembered_passing() -> Passing:
    """Return room for what filters let through."""
    return RecentMap(_REMEMBERED_BYTES)


def found_in_index(
    index: OpenIndex, search: Search, known: AbstractSet[int], remembered: Passing, queries: Floats
) -> list[Hits]:
    """Return the nearest rows of some objects that an index covers, for each query."""
    options, where = search.options, search.where
    gone = gone_clause(index.covers - known)
    if not known:
        return [Hits.none() for _ in queries]
    if where is None:
        return [hits.best(options.k) for hits in index.nearest(queries, options.k, options, gone)]
    if (clause := lance_clause(index, where)) is not None:
        # LanceDB may read a filter in another way than we do: what it refuses is ours to apply.
        with suppress(UnreadableIndexError):
            found = index.nearest(queries, options.k, options, joined_clauses(gone, clause))
            return [hits.best(options.k) for hits in found]
    passing = _passing(index, search, where, known, remembered)
    asked = math.ceil(options.k * _SPARE * index.rows / max(1, len(passing)))
    if asked <= _MOST_ASKED:
        found = index.nearest(queries, asked, options, gone)
        kept = [_kept(hits, passing, known).best(options.k) for hits in found]
        if all(len(hits) >= min(options.k, len(passing)) for hits in kept):
            return kept
    return _compared(search, known, queries, index)


def lance_clause(index: OpenIndex, where: Filter) -> str | None:
    """Return a filter in Lance's words, None when the index cannot apply it."""
    return where.lance if where.lance and set(where.columns) <= index.columns else None


def gone_clause(gone: AbstractSet[int]) -> str | None:
    """Return the condition that leaves the rows of some objects out, None when there are none."""
    return f"object NOT IN ({sql_integers(frozenset(gone))})" if gone else None


def joined_clauses(*clauses: str | None) -> str | None:
    """Return conditions that must hold together."""
    return " AND ".join(f"({clause})" for clause in clauses if clause) or None


def _passing(
    index: OpenIndex, search: Search, where: Filter, known: AbstractSet[int], remembered: Passing
) -> Ints:
    record = index.record
    key = (record.bucket, record.table, record.lance_version, search.source.relation, where.sql)
    found = remembered.get(key)
    if found is None:
        found = passing_codes(search.source, where, known, search.check)
        remembered.put(key, found, _REMEMBERED_BESIDE + found.nbytes)
    return found


def passing_codes(source: Source, where: Filter, objects: AbstractSet[int], check: Check) -> Ints:
    """Return the places of the rows that a filter lets through, as codes among these objects."""
    found = []
    for batch in source.scan(objects, [], where):
        check()
        found.append(place_codes(objects, *places(batch)))
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _kept(hits: Hits, passing: Ints, objects: AbstractSet[int]) -> Hits:
    return hits.take(np.isin(place_codes(objects, hits.objects, hits.rows), passing))


def _compared(search: Search, known: AbstractSet[int], queries: Floats, index: OpenIndex) -> list[Hits]:
    column, k = vector_field(search.source.schema, index.record.column), search.options.k
    kept: list[list[Hits]] = [[] for _ in queries]
    for batch in search.source.scan(known, [column.name], search.where):
        search.check()
        chosen, vectors = usable(batch, column)
        objects, rows = places(chosen)
        if not len(vectors):
            continue
        for parts, found in zip(kept, nearest(matrix(vectors), queries, index.record.metric, k), strict=True):
            at = found.positions
            parts[:] = [joined([*parts, Hits.elsewhere(objects[at], rows[at], found.distances)]).best(k)]
    return [joined(parts) for parts in kept]
