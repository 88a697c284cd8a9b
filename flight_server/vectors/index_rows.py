"""The rows that go into the Lance table of an index: places, the indexed column, and columns to filter by."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flight_server.domain.vector import IndexKind, Metric
from flight_server.errors import InvalidArgumentError
from flight_server.vectors.blocks import usable
from flight_server.vectors.exact import matrix
from flight_server.vectors.opened import COLUMN_KEY
from flight_server.vectors.parameters import FILTER_COLUMNS
from flight_server.vectors.queries import VectorField, text_key, vector_field
from flight_server.vectors.source import OBJECT, ROW, Check, Source

Tell = Callable[[str, float], None]
"""Told of a phase and how much of the whole is done, 0 to 1."""

ROWS_SHARE = 0.3
"""How much of a build is done when all rows are written."""

_UNCOMPRESSED = {b"lance-encoding:compression": b"none"}


@dataclass(frozen=True, slots=True)
class IndexOrder:
    """What is to be built: an index of a column in a Lance table of a bucket."""

    bucket: str
    table: str
    column: str | None
    kind: IndexKind
    metric: Metric
    params: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class IndexedColumn:
    """The indexed column, and what tells it from others; texts have no vectors."""

    name: str
    key: str
    vectors: VectorField | None

    @property
    def lance(self) -> str:
        """Its name in the Lance table."""
        return "text" if self.vectors is None else "vector"


def indexed_column(schema: pa.Schema, column: str | None, kind: IndexKind) -> IndexedColumn:
    """Return the column that an index is made of. Raises InvalidArgumentError."""
    if kind is not IndexKind.FTS:
        field = vector_field(schema, column)
        return IndexedColumn(field.name, field.key, field)
    texts = {field.name.lower(): field for field in schema if pa.types.is_string(field.type)}
    named = texts.get(column.lower()) if column is not None else None
    if named is None and column is None and len(texts) == 1:
        named = next(iter(texts.values()))
    if named is None:
        there = ", ".join(field.name for field in texts.values()) or "none"
        raise InvalidArgumentError(f'name the column of texts to index with "column"; there are: {there}')
    return IndexedColumn(named.name, text_key(named), None)


@dataclass(slots=True)
class _Survey:
    """What the vectors of a column are like: their dimension, and those that cosine cannot compare.

    `first` is the number of the first of them, as the dataset's rows are read.
    """

    dim: int = 0
    rows: int = 0
    odd: int = 0
    first: int = -1

    def take(self, batch: pa.RecordBatch, field: VectorField) -> None:
        """Look at a batch. Raises InvalidArgumentError when lists differ in length."""
        kept, vectors = usable(batch, field)
        if len(vectors):
            self.dim = self.dim or vectors.shape[1]
            _check_length(vectors.shape[1], self.dim, field)
        present: Any = batch.column(field.name).is_valid().to_numpy(zero_copy_only=False)
        good = _pairs(kept)[matrix(vectors).norms > 0]
        odd = np.flatnonzero(present & ~np.isin(_pairs(batch), good))
        if len(odd) and self.first < 0:
            self.first = self.rows + int(odd[0])
        self.odd += len(odd)
        self.rows += batch.num_rows


def _pairs(batch: pa.RecordBatch) -> "np.ndarray[Any, Any]":
    """Return the places of rows as pairs, which can be compared."""
    pairs = np.stack([batch.column(OBJECT).to_numpy(), batch.column(ROW).to_numpy()], axis=1)
    return pairs.view([("object", np.int64), ("row", np.int64)])[:, 0]


def _check_length(found: int, dim: int, field: VectorField) -> None:
    if found != dim:
        raise InvalidArgumentError(
            f"column {field.name!r} holds lists of different lengths ({dim} and {found})"
        )


def surveyed(source: Source, column: IndexedColumn, metric: Metric, check: Check) -> int:
    """Return the dimension of a column, 0 for texts. Raises InvalidArgumentError for vectors of no use."""
    field = column.vectors
    if field is None:
        return 0
    survey = _Survey(field.dim or 0)
    if field.dim is not None and metric is not Metric.COSINE:
        return field.dim
    for batch in source.scan(source.objects, [field.name]):
        check()
        if batch.num_rows:
            survey.take(batch, field)
    if survey.odd and metric is Metric.COSINE:
        raise InvalidArgumentError(
            f"{survey.odd} vectors of column {field.name!r} have length 0 or hold NaN or infinite values, "
            f"which cosine cannot compare; the first is row {survey.first} of the dataset, counted from 0: "
            "remove them, set them to NULL, or use the metric l2 or dot"
        )
    return survey.dim


class IndexRows:
    """The rows of a Lance table as they are written; rows that an index cannot hold are left out.

    LanceDB hides what fails while it reads them: `error` keeps it.
    """

    def __init__(self, source: Source, order: IndexOrder, column: IndexedColumn, dim: int) -> None:
        self._source = source
        self._column = column
        self._is_cosine = order.metric is Metric.COSINE
        self._dim = dim
        listed: Any = order.params.get(FILTER_COLUMNS, ())
        self._beside = tuple(listed)
        self.schema = self._lance_schema()
        self.error: Exception | None = None

    def _lance_schema(self) -> pa.Schema:
        own, column = self._source.schema, self._column
        kind: Any = pa.utf8() if column.vectors is None else pa.list_(pa.float32(), self._dim or 1)
        fields: list[Any] = [
            pa.field("object", pa.int64()),
            pa.field("row", pa.int64()),
            pa.field(column.lance, kind, metadata=_UNCOMPRESSED if column.vectors else None),
            *(pa.field(name, own.field(name).type) for name in self._beside),
        ]
        return pa.schema(fields, {COLUMN_KEY: column.key.encode()})

    def reader(self, objects: Collection[int], total: int, tell: Tell, check: Check) -> pa.RecordBatchReader:
        """Return the rows of some objects, telling how many are read."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches(objects, total, tell, check))

    def _batches(
        self, objects: Collection[int], total: int, tell: Tell, check: Check
    ) -> Iterator[pa.RecordBatch]:
        done = 0
        try:
            for batch in self._source.scan(objects, list(dict.fromkeys([self._column.name, *self._beside]))):
                check()
                done += batch.num_rows
                tell("rows", ROWS_SHARE * min(1.0, done / max(1, total)))
                if batch.num_rows:
                    yield self._converted(batch)
        except Exception as error:
            self.error = error
            raise

    def _converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._column.vectors is None:
            chosen = batch.filter(batch.column(self._column.name).is_valid())
            value: Any = chosen.column(self._column.name)
        else:
            chosen, value = self._vectors(batch, self._column.vectors)
        beside = [chosen.column(name) for name in self._beside]
        return pa.record_batch(
            [chosen.column(OBJECT), chosen.column(ROW), value, *beside], schema=self.schema
        )

    def _vectors(self, batch: pa.RecordBatch, field: VectorField) -> tuple[pa.RecordBatch, Any]:
        chosen, vectors = usable(batch, field)
        if self._is_cosine:
            has_direction = matrix(vectors).norms > 0
            chosen, vectors = chosen.filter(pa.array(has_direction)), vectors[has_direction]
        if len(vectors):
            _check_length(vectors.shape[1], self._dim, field)
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
        return chosen, pa.FixedSizeListArray.from_arrays(flat, self._dim or 1)


@contextmanager
def written(rows: IndexRows) -> Iterator[None]:
    """Raise what really failed when LanceDB says that its rows did."""
    try:
        yield
    except Exception:
        if rows.error is not None:
            raise rows.error from None
        raise
