"""How large a batch becomes when it is stored: dictionaries, runs, views and nulls are written out.

A few bytes can stand for gigabytes in these encodings. What is counted here is what casting to
the stored types would allocate; it is counted without doing so.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from flight_server.domain.columns import Kind

_NULL_BYTES = 4
"""A column of type null is stored as an integer."""

_VIEW_BYTES = 16


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes of a validated batch in the types that it is stored as."""
    return sum(_size(column) for column in batch.columns)


def _size(array: Any) -> int:
    for is_match, measure in _MEASURES:
        if is_match(array.type):
            return measure(array)
    return int(array.nbytes)


def _dictionary(array: Any) -> int:
    return _weighed(array.dictionary, array.indices, len(array))


def _weighed(values: Any, places: Any, rows: int) -> int:
    """Return the bytes of `rows` rows, each of which repeats one of the values."""
    width = _fixed_width(values.type)
    if width is not None:
        return rows * width
    lengths = _lengths(values)
    if lengths is None:
        # Nested values: assume that each row repeats the largest.
        return rows * _size(values)
    return int(pc.sum(lengths.take(places)).as_py() or 0) + 4 * rows


def _runs(array: Any) -> int:
    width = _fixed_width(array.values.type)
    if width is not None:
        return len(array) * width
    lengths = _lengths(array.values)
    if lengths is None:
        return len(array) * _size(array.values)
    ends = array.run_ends.cast(pa.int64())
    counts = pc.pairwise_diff(ends).fill_null(ends[0]) if len(ends) else ends
    return int(pc.sum(pc.multiply(lengths.fill_null(0), counts)).as_py() or 0) + 4 * len(array)


def _view(array: Any) -> int:
    return int(pc.sum(_lengths(array)).as_py() or 0) + 4 * len(array)


def _list_view(array: Any) -> int:
    items = int(pc.sum(pc.list_value_length(array)).as_py() or 0)
    per_item = -(-_size(array.values) // max(1, len(array.values)))
    return 8 * len(array) + items * per_item


def _children(array: Any) -> int:
    own = 8 * len(array)
    if pat.is_struct(array.type):
        return own + sum(_size(array.field(i)) for i in range(array.type.num_fields))
    if pat.is_map(array.type):
        return own + _size(array.keys) + _size(array.items)
    return own + _size(array.values)


def _fixed_width(kind: Kind) -> int | None:
    if pat.is_null(kind):
        return _NULL_BYTES
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return None


def _lengths(values: Any) -> Any:
    """Return the bytes of each value of a text or binary array, None for arrays of other types."""
    kind = values.type
    if pat.is_string_view(kind) or pat.is_binary_view(kind):
        validity, views = values.buffers()[:2]
        if validity is None and views is None:
            return pa.array([], pa.int32())
        quarters = pa.Array.from_buffers(
            pa.int32(), (values.offset + len(values)) * 4, [None, views]
        )  # the first quarter of a view is its length
        wide = pa.FixedSizeListArray.from_arrays(quarters, _VIEW_BYTES // 4)
        lengths = pc.list_element(wide.slice(values.offset), 0)
        return pc.if_else(values.is_valid(), lengths, pa.scalar(None, pa.int32()))
    if pat.is_nested(kind) or pat.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return None
    return pc.binary_length(values)


_MEASURES: tuple[tuple[Callable[[Kind], bool], Callable[[Any], int]], ...] = (
    (lambda kind: isinstance(kind, pa.BaseExtensionType), lambda array: _size(array.storage)),
    (pat.is_null, lambda array: _NULL_BYTES * len(array)),
    (pat.is_dictionary, _dictionary),
    (pat.is_run_end_encoded, _runs),
    (lambda kind: pat.is_string_view(kind) or pat.is_binary_view(kind), _view),
    (lambda kind: pat.is_list_view(kind) or pat.is_large_list_view(kind), _list_view),
    (pat.is_nested, _children),
)
"""First matching test → how the arrays of a type are measured; others are as large as they are."""
