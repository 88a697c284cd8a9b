"""One index that is open at one version of its Lance table, which never changes."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from flight_server.domain.vector import IndexKind, IndexRecord, SearchOptions
from flight_server.vectors.blocks import Block
from flight_server.vectors.exact import bounded, matrix
from flight_server.vectors.hits import Hits
from flight_server.vectors.lance import Lance, words_query
from flight_server.vectors.parameters import KINDS
from flight_server.vectors.source import Floats

COLUMN_KEY = b"lakehouse:column"
"""Metadata of a Lance table that say which column of the dataset it was made of."""

VECTOR_INDEX, TEXT_INDEX = "vector_idx", "text_idx"

_log = logging.getLogger("flight_server.vectors")

_DEFAULT_EF = 128


class UnreadableIndexError(Exception):
    """An index that was open cannot be read any more: its files are gone or damaged."""


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UnreadableIndexError from error


@dataclass(frozen=True, slots=True, eq=False)
class OpenIndex:
    """An index to search; it knows all rows of the objects that it `covers` but those left out of it."""

    record: IndexRecord
    table: Any
    key: str
    covers: frozenset[int]
    columns: frozenset[str]
    rows: int
    ids: frozenset[str] = field(default_factory=frozenset)

    def prewarm(self) -> None:
        """Load the index into the cache of its session."""
        name = TEXT_INDEX if self.record.kind is IndexKind.FTS else VECTOR_INDEX
        if name in self.ids:
            self.table.prewarm_index(name)

    def nearest(self, queries: Floats, k: int, options: SearchOptions, where: str | None) -> list[Hits]:
        """Return the nearest rows to each query; fewer than k when the index did not look at more.

        Raises UnreadableIndexError.
        """
        if not self.rows:
            return [Hits.none() for _ in queries]
        asked = self.table.search(queries[0] if len(queries) == 1 else list(queries), "vector")
        asked = self._tuned(asked.distance_type(str(self.record.metric)), k, options)
        if where is not None:
            asked = asked.where(where, prefilter=True)
        columns = ["object", "row", "_distance"]
        with _readable():
            found = asked.select(columns).limit(k).to_arrow()
        query = found["query_index"].to_numpy() if len(queries) > 1 else np.zeros(found.num_rows, np.int64)
        whole = _hits(found, "_distance")
        return [whole.take(np.flatnonzero(query == at)) for at in range(len(queries))]

    def _tuned(self, asked: Any, k: int, options: SearchOptions) -> Any:
        """Set what decides between speed and recall: as asked, else the index's own, else our default."""
        own = self.record.search
        ef, nprobes = options.ef or own.get("ef"), options.nprobes or own.get("nprobes")
        # Quantised distances are not those of `Metric`: they are computed anew from the vectors.
        refine = options.refine or own.get("refine") or KINDS[self.record.kind].refine
        asked = asked.refine_factor(refine)
        if self.record.kind in (IndexKind.HNSW_SQ, IndexKind.HNSW_FLAT):
            least = k * refine  # LanceDB refuses fewer
            asked = asked.ef(max(_DEFAULT_EF, 2 * least) if ef is None else max(ef, least))
        return asked if nprobes is None else asked.nprobes(nprobes)

    def matching(self, text: str, limit: int, where: str | None) -> Hits:
        """Return the rows that match a text best, with their scores as distances below 0."""
        if not self.rows:
            return Hits.none()
        return matching(self.table, text, limit, where)


def matching(table: Any, text: str, limit: int, where: str | None) -> Hits:
    """Return the rows of a table that match a text best, with their scores as distances below 0.

    Raises UnreadableIndexError.
    """
    asked = table.search(words_query(text, "text"), query_type="fts")
    if where is not None:
        asked = asked.where(where, prefilter=True)
    with _readable():
        found = asked.select(["object", "row", "_score"]).limit(limit).to_arrow()
    hits = _hits(found, "_score")
    return Hits(hits.objects, hits.rows, -hits.distances, hits.blocks, hits.positions)


def _hits(found: pa.Table, distance: str) -> Hits:
    objects, rows = found["object"].to_numpy(), found["row"].to_numpy()
    return Hits.elsewhere(objects, rows, found[distance].to_numpy().astype(np.float32))


class OpenIndexes:
    """The indexes that are open; one that cannot be opened counts as covering nothing.

    `_lock` guards them.
    """

    def __init__(self, lance: Lance) -> None:
        self.lance = lance
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str, int], OpenIndex | None] = {}

    def get(self, record: IndexRecord, key: str) -> OpenIndex | None:
        """Return an index of this column; None when it cannot be read, or is of another."""
        place = (record.bucket, record.table, record.lance_version)
        with self._lock:
            if place not in self._open:
                self._open[place] = self._opened(record)
                self._drop_older(place)
            found = self._open[place]
        return found if found is not None and found.key == key else None

    def _opened(self, record: IndexRecord) -> OpenIndex | None:
        try:
            return open_index(self.lance, record)
        except Exception as error:
            _note(record, error)
            return None

    def _drop_older(self, place: tuple[str, str, int]) -> None:
        for other in [other for other in self._open if other[:2] == place[:2] and other[2] < place[2]]:
            del self._open[other]

    def lose(self, record: IndexRecord, error: Exception) -> None:
        """Take an index for unreadable from now on: its files are gone or damaged."""
        with self._lock:
            self._open[record.bucket, record.table, record.lance_version] = None
        _note(record, error)

    def is_open(self, record: IndexRecord) -> bool:
        """Tell whether an index is open already."""
        with self._lock:
            return self._open.get((record.bucket, record.table, record.lance_version)) is not None

    def forget(self, bucket: str) -> int:
        """Close a bucket's indexes; running searches keep theirs. Returns the bytes that they took."""
        with self._lock:
            own = [place for place in self._open if place[0] == bucket]
            closed = [self._open.pop(place) for place in own]
        self.lance.forget(bucket)
        return sum(index.record.bytes for index in closed if index is not None)


def _note(record: IndexRecord, error: Exception) -> None:
    _log.warning(
        "the index of column %s of dataset %s cannot be read and is searched without: %s",
        record.column,
        record.dataset_id,
        type(error.__cause__ or error).__name__,
    )


def open_index(lance: Lance, record: IndexRecord) -> OpenIndex:
    """Open an index at its version; whatever is wrong with it is raised as LanceDB does."""
    table = lance.table(record.bucket, record.table, record.lance_version)
    schema = table.schema
    key = (schema.metadata or {}).get(COLUMN_KEY, b"").decode()
    names = frozenset(schema.names) - {"object", "row", "vector", "text"}
    covers = covered_objects(table)
    indices = frozenset(index.name for index in table.list_indices())
    return OpenIndex(record, table, key, covers, names, table.count_rows(), indices)


def covered_objects(table: Any) -> frozenset[int]:
    """Return the objects whose rows a Lance table holds."""
    found: set[int] = set()
    for batch in table.search().select(["object"]).to_batches(65_536):
        found.update(pa.compute.unique(batch.column(0)).to_pylist())
    return frozenset(found)


def sql_integers(values: Sequence[int] | frozenset[int]) -> str:
    """Return numbers as the inside of a list in Lance's SQL."""
    return ", ".join(str(value) for value in sorted(values))


def read_table(table: Any) -> Block:
    """Return the vectors of a Lance table as a block."""
    found = table.search().select(["object", "row", "vector"]).to_arrow()
    dim = found.schema.field("vector").type.list_size
    vectors = np.empty((found.num_rows, dim), np.float32)
    at = 0
    for chunk in found["vector"].chunks:
        vectors[at : at + len(chunk)] = chunk.flatten().to_numpy().reshape(len(chunk), dim)
        at += len(chunk)
    objects = found["object"].to_numpy()
    return Block(
        bounded(matrix(vectors)), objects, found["row"].to_numpy(), frozenset(np.unique(objects).tolist())
    )
