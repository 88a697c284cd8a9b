"""Columns of vectors that are computed from texts while rows are written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flight_server.domain.embedding import embedded_fields
from flight_server.errors import FailedPreconditionError
from flight_server.vectors.embedding import Embedders

Fill = Callable[[pa.RecordBatch], pa.RecordBatch]

_TEXTS_AT_ONCE = 4_096


def filling(embedders: Embedders, schema: pa.Schema) -> Fill | None:
    """Return what computes the missing vectors of a dataset's rows, None where no column is computed."""
    columns = embedded_fields(schema)
    if not columns:
        return None

    def fill(batch: pa.RecordBatch) -> pa.RecordBatch:
        for column in columns:
            at = schema.get_field_index(column.field.name)
            texts = batch.column(schema.get_field_index(column.source.name))
            vectors = _filled(embedders, column.embedder, texts, batch.column(at))
            batch = batch.set_column(at, schema.field(at), vectors)
        return batch

    return fill


def _filled(embedders: Embedders, name: str, texts: Any, vectors: Any) -> Any:
    """Return a column of vectors in which those of texts are computed that are NULL."""
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(texts)).fill_null(0).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero((lengths > 0) & vectors.is_null().to_numpy(zero_copy_only=False))
    if not len(rows):
        return vectors
    dim = vectors.type.list_size
    own = embedders.get(name).ndims
    if own != dim:
        raise FailedPreconditionError(
            f"embedder {name} makes vectors of {own} dimensions and the column has {dim}: it is not the one "
            "that the column was made with"
        )
    values = np.zeros((len(vectors), dim), np.float32)
    is_known = vectors.is_valid().to_numpy(zero_copy_only=False)
    values[is_known] = vectors.drop_null().flatten().to_numpy().reshape(-1, dim)
    for at in range(0, len(rows), _TEXTS_AT_ONCE):
        part = rows[at : at + _TEXTS_AT_ONCE]
        values[part] = embedders.vectors(name, texts.take(pa.array(part)).to_pylist())
    is_known[rows] = ~np.isnan(values[rows, 0])
    flat = pa.array(np.nan_to_num(values).ravel() if not is_known.all() else values.ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, type=vectors.type, mask=pa.array(~is_known))
