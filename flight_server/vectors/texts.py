"""Text search: BM25 by an index in LanceDB, and the rows that came after it.

Rows that the index does not cover are scored in a table in memory, together with a sample of the indexed
texts. How rare a word is in that table is close to how rare it is in the dataset, so the scores of both
compare, until the index has caught up and scores all rows by itself.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flight_server.domain.vector import Filter, IndexKind, IndexRecord
from flight_server.errors import FailedPreconditionError, InvalidArgumentError
from flight_server.vectors.activation import Activations
from flight_server.vectors.blocks import place_codes
from flight_server.vectors.hits import Hits, joined
from flight_server.vectors.lance import configuration, in_memory
from flight_server.vectors.opened import OpenIndex, UnreadableIndexError, matching
from flight_server.vectors.parameters import KINDS, build_arguments
from flight_server.vectors.prefilter import gone_clause, joined_clauses, lance_clause, passing_codes
from flight_server.vectors.queries import text_key
from flight_server.vectors.source import OBJECT, ROW, Check, Source

_SAMPLE_ROWS = 2_000
_MOST_FRESH_ROWS = 200_000
_KEPT_TABLES = 8
_GROWTH = 8
_LEAST_ASKED = 100
_MAX_TEXT = 10_000

_FIELDS: dict[str, pa.DataType] = {
    "object": pa.int64(),
    "row": pa.int64(),
    "text": pa.utf8(),
    "is_fresh": pa.bool_(),
}
_SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True, slots=True)
class TextSearch:
    """One text search over a column of a dataset version."""

    source: Source
    column: str
    text: str
    k: int
    where: Filter | None
    check: Check


class FreshTexts:
    """Finds texts; keeps the tables of rows that indexes do not cover. `_lock` guards them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[Hashable, Any] = OrderedDict()

    def find(self, activations: Activations, records: Sequence[IndexRecord], search: TextSearch) -> Hits:
        """Return the k rows that match best, with their scores as distances below 0."""
        if not search.text.strip():
            raise InvalidArgumentError("the text to search for is empty")
        if len(search.text) > _MAX_TEXT:
            raise InvalidArgumentError(f"the text to search for is longer than {_MAX_TEXT} characters")
        record = next(
            record
            for record in records
            if record.kind is IndexKind.FTS and record.column.lower() == search.column.lower()
        )
        index = activations.index(record, text_key(search.source.schema.field(search.column)))
        found = [Hits.none()]
        if index is not None:
            try:
                found.append(_indexed(index, search))
            except UnreadableIndexError as error:
                activations.indexes.lose(record, error)
                index = None
        later = search.source.objects.keys() - (index.covers if index is not None else frozenset())
        if later:
            found.append(self._later(record, index, later, search))
        return joined(found).best(search.k)

    def _later(
        self, record: IndexRecord, index: OpenIndex | None, later: AbstractSet[int], search: TextSearch
    ) -> Hits:
        condition = search.where.sql if search.where is not None else None
        key = (index, search.source.relation, search.column, condition)
        with self._lock:
            table = self._tables.get(key)
        if table is None:
            table = _fresh_table(record, index, later, search)
            with self._lock:
                self._tables[key] = table
                while len(self._tables) > _KEPT_TABLES:
                    self._tables.popitem(last=False)
        return matching(table, search.text, search.k, "is_fresh = true")


def _indexed(index: OpenIndex, search: TextSearch) -> Hits:
    """Search an index for rows of live objects that the filter lets through."""
    live, where = search.source.objects.keys(), search.where
    known = live & index.covers
    gone = gone_clause(index.covers - live)
    if where is None:
        return index.matching(search.text, search.k, gone)
    if (clause := lance_clause(index, where)) is not None:
        with suppress(UnreadableIndexError):  # as in `prefilter`: what LanceDB refuses is ours to apply
            return index.matching(search.text, search.k, joined_clauses(gone, clause))
    passing = passing_codes(search.source, where, known, search.check)
    asked = max(_LEAST_ASKED, search.k * 2)
    while True:
        found = index.matching(search.text, asked, gone)
        kept = found.take(np.isin(place_codes(known, found.objects, found.rows), passing))
        if len(kept) >= search.k or len(found) < asked:
            return kept
        asked *= _GROWTH


def _fresh_table(
    record: IndexRecord, index: OpenIndex | None, later: AbstractSet[int], search: TextSearch
) -> Any:
    """Return an indexed table in memory of the rows of some objects, and a sample of the others."""
    count = search.source.count(later)
    if count > _MOST_FRESH_ROWS:
        raise FailedPreconditionError(
            f"{count} rows of column {search.column!r} are not in its text index yet: wait until it has "
            "caught up (sys.profiles tells), or build it with the action create_vector_index"
        )
    batches = []
    for batch in search.source.scan(later, [search.column], search.where):
        search.check()
        batches.append(_as_rows(batch.select([OBJECT, ROW, search.column]), is_fresh=True))
    if index is not None and index.rows:
        sample = index.table.search().select(["object", "row", "text"]).limit(_SAMPLE_ROWS).to_arrow()
        batches += [_as_rows(part, is_fresh=False) for part in sample.to_batches()]
    data = pa.Table.from_batches(batches, _SCHEMA)
    table = in_memory().create_table("texts", data=data.filter(data["text"].is_valid()), schema=_SCHEMA)
    if table.count_rows():
        arguments = build_arguments(IndexKind.FTS, record.params)
        table.create_index("text", config=configuration(KINDS[IndexKind.FTS].name, arguments))
    return table


def _as_rows(batch: pa.RecordBatch, *, is_fresh: bool) -> pa.RecordBatch:
    objects, rows, found = batch.columns
    flags = pa.array(np.full(len(objects), is_fresh))
    return pa.record_batch([objects, rows, found.cast(pa.utf8()), flags], schema=_SCHEMA)
