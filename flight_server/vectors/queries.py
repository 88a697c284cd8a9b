"""What a search asks with: its column and its vectors, checked before anything is searched."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.declarations import column_id
from flight_server.domain.trial import MAX_SETTING
from flight_server.domain.vector import Filter, IndexKind, IndexRecord, Metric, SearchOptions
from flight_server.errors import FailedPreconditionError, InvalidArgumentError
from flight_server.vectors.source import Check, Field, Floats, Source, patiently

MAX_K = 10_000
MAX_DIM = 65_536

_AS_JSON = {"nan": "NaN", "inf": "Infinity", "NULL": "null"}
_AS_SQL_SHOWS = re.compile(rf"\b({'|'.join(_AS_JSON)})\b")
"""What stands in a list that came as a parameter: it is handed over as the text that SQL shows of it."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search over a dataset version: `records` are its indexes, `columns` what is wanted of its rows.

    `column` is the one of vectors, of texts in a text search; a hybrid search has both.
    """

    source: Source
    records: Sequence[IndexRecord]
    column: str | None
    options: SearchOptions
    where: Filter | None = None
    columns: Sequence[str] = ()
    check: Check = patiently
    text_column: str | None = None


@dataclass(frozen=True, slots=True)
class VectorField:
    """A column of vectors; `dim` is None for lists, whose length only their rows tell."""

    name: str
    dim: int | None
    type: pa.DataType
    id: str

    @property
    def key(self) -> str:
        """What tells its vectors from those of any other column that the dataset has or had."""
        return f"{self.id}:{self.type}"

    @property
    def is_single(self) -> bool:
        """Whether it is stored in single precision, so that memory holds what the dataset does."""
        kind: Any = self.type
        return bool(pat.is_float32(kind.value_type))


def vector_field(schema: pa.Schema, column: str | None) -> VectorField:
    """Return the column of vectors that a search means; without a name the only one there is.

    Raises InvalidArgumentError.
    """
    found = [field for field in schema if _holds_vectors(field.type)]
    if column is not None:
        named = [field for field in schema if field.name.lower() == column.lower()]
        if not named or named[0] not in found:
            raise InvalidArgumentError(f"{column!r} is no column of vectors; {_offered(found, schema)}")
        found = named
    if len(found) != 1:
        several = (
            f"several columns hold vectors ({_names(found)}): name one as column, as in '{_first(found)}'"
        )
        raise InvalidArgumentError(several if found else _offered(found, schema))
    return _vector_field(found[0])


def query_column(schema: pa.Schema, searched: str) -> str:
    """Return the column of a dataset of queries: the only one of vectors, else the one called like the other.

    Raises InvalidArgumentError.
    """
    found = [field.name for field in schema if _holds_vectors(field.type)]
    same = [name for name in found if name.lower() == searched.lower()]
    return same[0] if len(found) > 1 and same else vector_field(schema, None).name


def vector_columns(schema: pa.Schema, records: Sequence[IndexRecord] = ()) -> list[str]:
    """Return the columns that are vectors beyond doubt: those of fixed size, and those with an index."""
    return [
        field.name
        for field in schema
        if _holds_vectors(field.type)
        if pat.is_fixed_size_list(field.type) or any(is_vector_index(each, field.name) for each in records)
    ]


def _vector_field(field: Field) -> VectorField:
    kind: Any = field.type
    dim = kind.list_size if pat.is_fixed_size_list(kind) else None
    return VectorField(field.name, dim, kind, column_id(field))


def _holds_vectors(kind: Any) -> bool:
    is_list = pat.is_fixed_size_list(kind) or pat.is_list(kind) or pat.is_large_list(kind)
    return bool(is_list and pat.is_floating(kind.value_type))


def _offered(found: Sequence[Field], schema: pa.Schema) -> str:
    if found:
        return f"there are: {_names(found)}"
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    return (
        "the dataset has no column of vectors: a FIXED_SIZE_LIST of FLOAT, or a LIST of FLOAT or DOUBLE "
        f"whose rows have one length; its columns: {columns}"
    )


def _names(fields: Iterable[Field]) -> str:
    return ", ".join(field.name for field in fields)


def _first(fields: Sequence[Field]) -> str:
    return fields[0].name if fields else ""


def text_field(schema: pa.Schema, records: Sequence[IndexRecord], column: str | None) -> str:
    """Return the column of texts that a search means; without a name the only one with a text index.

    Raises InvalidArgumentError, FailedPreconditionError when it has no text index.
    """
    texts = {field.name.lower(): field.name for field in schema if _holds_text(field.type)}
    if column is not None and column.lower() not in texts:
        there = ", ".join(texts.values()) or "none"
        raise InvalidArgumentError(f"{column!r} is no column of texts; there are: {there}")
    indexed = {
        record.column.lower(): texts[record.column.lower()]
        for record in records
        if record.kind is IndexKind.FTS and record.column.lower() in texts
    }
    if column is not None:
        indexed = {name: own for name, own in indexed.items() if name == column.lower()}
    if not indexed:
        what = f"column {column!r}" if column is not None else "the dataset"
        raise FailedPreconditionError(
            f"{what} has no text index: make one with the action create_vector_index, "
            f'{{"profile": …, "table": …, "column": "{column or _any(texts)}", "type": "fts"}}'
        )
    if len(indexed) > 1:
        named = ", ".join(indexed.values())
        raise InvalidArgumentError(f"several columns have text indexes ({named}): name one as column")
    return next(iter(indexed.values()))


def text_key(field: Field) -> str:
    """Return what tells a column of texts from any other that the dataset has or had."""
    return f"{column_id(field)}:{field.type}"


def _holds_text(kind: Any) -> bool:
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind))


def _any(texts: dict[str, str]) -> str:
    return next(iter(texts.values()), "a column of texts")


def metric_of(records: Sequence[IndexRecord], column: str, asked: Metric | None) -> Metric:
    """Return the metric of a search: the one asked for, else that of the column's index, else cosine."""
    own = [record.metric for record in records if is_vector_index(record, column)]
    return asked or (own[0] if own else Metric.COSINE)


def is_vector_index(record: IndexRecord, column: str) -> bool:
    """Tell whether a record is that of a vector index of a column."""
    return record.kind is not IndexKind.FTS and record.column.lower() == column.lower()


def check_k(value: object) -> int:
    """Return how many rows a search asks for. Raises InvalidArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_K:
        raise InvalidArgumentError(f"k must be a whole number from 1 to {MAX_K}, not {value!r:.40}")
    return value


def check_setting(name: str, value: object) -> int:
    """Return `ef`, `nprobes` or `refine` of a search. Raises InvalidArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SETTING:
        raise InvalidArgumentError(f"{name} takes a whole number from 1 to {MAX_SETTING}, not {value!r:.80}")
    return value


def parse_vector(value: object, field: VectorField, metric: Metric) -> Floats:
    """Return the vector to search for, given as a list of numbers or as JSON. Raises InvalidArgumentError."""
    if isinstance(value, str):
        value = _from_json(value)
    if value is None:
        raise InvalidArgumentError("the vector to search for is NULL")
    try:
        with np.errstate(over="ignore"):
            vector: Floats = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError("the vector to search for must be a list of numbers") from error
    if vector.ndim != 1:
        raise InvalidArgumentError("the vector to search for must be one list of numbers")
    return check_queries(vector[None], field.name, field.dim, metric).reshape(-1)


def _from_json(text: str) -> object:
    try:
        return json.loads(_AS_SQL_SHOWS.sub(lambda found: _AS_JSON[found[0]], text))
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"{text[:60]!r} is not a vector: write it as [0.1, 0.2, …]; a text is searched for where the "
            "column has an embedder"
        ) from error


def parse_batch(column: Any, field: VectorField, metric: Metric) -> Floats:
    """Return the vectors of a column as [rows, dim]. Raises InvalidArgumentError."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        at = array.is_null().index(True).as_py()
        raise InvalidArgumentError(f"query {at} is NULL")
    return check_queries(to_matrix(array, "the queries"), field.name, field.dim, metric)


def check_queries(queries: Floats, column: str, dim: int | None, metric: Metric) -> Floats:
    """Return queries [m, d] if they can be compared with vectors of `dim`. Raises InvalidArgumentError."""
    said = f"query {{}} of {len(queries)}" if len(queries) > 1 else "the vector to search for"
    if len(queries) and dim is not None and queries.shape[1] != dim:
        raise InvalidArgumentError(
            f"the vector to search for has {queries.shape[1]} dimensions, column {column!r} has {dim}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries))
    odd = np.flatnonzero(~np.isfinite(lengths))
    if len(odd):
        raise InvalidArgumentError(
            f"{said.format(odd[0])} holds NULL, NaN, an infinite or a far too large value"
        )
    empty = np.flatnonzero(lengths == 0)
    if metric is Metric.COSINE and len(empty):
        raise InvalidArgumentError(
            f"{said.format(empty[0])} has length 0 and so no direction to compare by cosine: "
            "use metric => 'l2' or 'dot'"
        )
    return queries


def to_matrix(array: Any, what: str) -> Floats:
    """Return an array of lists without NULLs as [rows, dim]; a NULL inside of a list is NaN.

    Raises InvalidArgumentError when the lists differ in length.
    """
    if not len(array):
        return np.empty((0, 0), np.float32)
    if pat.is_fixed_size_list(array.type):
        dim = array.type.list_size
    else:
        lengths = pa.compute.list_value_length(array).to_numpy()
        dim = int(lengths[0])
        odd = np.flatnonzero(lengths != dim)
        if len(odd):
            raise InvalidArgumentError(
                f"{what} are lists of different lengths, {dim} and {lengths[odd[0]]}: vectors have one length"
            )
    if not 1 <= dim <= MAX_DIM:
        raise InvalidArgumentError(f"{what} have {dim} dimensions, not 1 to {MAX_DIM}")
    values = array.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32).reshape(len(array), dim)
