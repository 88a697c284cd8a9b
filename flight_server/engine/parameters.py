"""Parameter values of a statement: from the messages a client bound to what DuckDB takes.

A value has the type that the statement gives its parameter if that holds all values that were bound,
else the type that Arrow says. What Python's objects do not hold exactly (nanoseconds, years after
9999, the digits of a decimal) reaches DuckDB as text of that type.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.columns import Kind
from flight_server.engine.binding import Binding, Parameter, bind, sql_types
from flight_server.errors import InvalidArgumentError, ResourceExhaustedError
from flight_server.objects.messages import MAX_DECODED_BYTES
from flight_server.objects.schema import storable_type
from flight_server.objects.upload import UploadReader

Values = list[Any] | dict[str, Any]

_BOUND = "_bound_parameter"

_PLAIN: Mapping[Kind, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.utf8(): "VARCHAR",
    pa.large_utf8(): "VARCHAR",
    pa.string_view(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
}
"""Types whose Python objects DuckDB takes for no other → the type in SQL."""

_EXACT: Mapping[Kind, str] = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}
"""Types whose Python objects are exact when their type is said with them → the type in SQL."""

_LISTED: Mapping[Kind, str] = {pa.float32(): "FLOAT[]", pa.float64(): "DOUBLE[]"}
"""Types of what is in lists → the lists' type in SQL: those of vectors, which DuckDB is slow to write."""

_FAMILIES: tuple[Callable[[Kind], bool], ...] = (
    lambda kind: pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind),
    lambda kind: pat.is_timestamp(kind) and kind.tz is None,
    lambda kind: pat.is_timestamp(kind) and kind.tz is not None,
    pat.is_time,
    pat.is_date,
)
"""Types that may stand for each other where no value changes."""


def _refuse(kind: Kind) -> Kind:
    raise InvalidArgumentError(f"values of type {kind} cannot be bound: bind the values of one member")


def _decimal(kind: Kind) -> Kind:
    try:
        return storable_type(kind)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"values of type {kind} cannot be bound, decimals have at most 38 digits: bind them as utf8"
        ) from error


_DECODED: tuple[tuple[Callable[[Kind], bool], Callable[[Kind], Kind]], ...] = (
    (pat.is_dictionary, lambda kind: _decoded(kind.value_type)),
    (pat.is_float16, lambda _: pa.float32()),
    (pat.is_decimal, _decimal),
    (pat.is_union, _refuse),
)
"""First matching test → the type that DuckDB reads in the place of one that it does not."""


def _decoded(kind: Kind) -> Kind:
    return next((decoded(kind) for is_match, decoded in _DECODED if is_match(kind)), kind)


@dataclass(frozen=True, slots=True)
class _Column:
    """The values of one parameter, batch by batch, with their type in SQL: None when all are NULL."""

    kind: str | None
    batches: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class BoundParameters:
    """The values that a client bound, one row for each time that the statement is to run."""

    names: tuple[str, ...]
    columns: tuple[_Column, ...]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(batch) for batch in self.columns[0].batches) if self.columns else 1

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The types, in SQL, in which the values are given."""
        return tuple(column.kind for column in self.columns)

    def rows(self) -> Iterator[Values]:
        """Yield the values of each row: by position where that is all that names them, else by name."""
        is_list = self.names == tuple(str(at + 1) for at in range(len(self.names)))
        if not self.names:
            yield []
        for batch in zip(*(column.batches for column in self.columns), strict=True):
            for values in zip(*batch, strict=True):
                yield list(values) if is_list else dict(zip(self.names, values, strict=True))


def bind_values(
    cursor: duckdb.DuckDBPyConnection, sql: str, messages: Sequence[bytes]
) -> tuple[Binding, BoundParameters]:
    """Bind a statement for the values that a client bound. Raises like `read`."""
    binding = bind(cursor, sql)
    bound = read(cursor, messages, binding.declared)
    if bound.kinds != binding.kinds:
        binding = bind(cursor, sql, bound.kinds)
    return binding, bound


def read(
    cursor: duckdb.DuckDBPyConnection, messages: Sequence[bytes], declared: Sequence[Parameter]
) -> BoundParameters:
    """Read the messages of bound parameters, fully validated, in the order of the statement's.

    Raises InvalidArgumentError when their number, names or types do not fit what the statement
    declares, ResourceExhaustedError when they are too large.
    """
    table = read_table(messages)
    order = _order(table.schema.names, [parameter.name for parameter in declared])
    names = tuple(parameter.name for parameter in declared)
    pairs = zip(order, declared, strict=True)
    return BoundParameters(names, tuple(_read(cursor, table, at, parameter) for at, parameter in pairs))


def read_table(messages: Sequence[bytes]) -> pa.Table:
    """Read the messages of bound parameters as one table, fully validated. Raises like `read`."""
    reader = UploadReader(iter(messages))
    for kind in reader.schema.types:
        _decoded(kind)  # refuses what cannot be bound before any of it is read
    batches: list[pa.RecordBatch] = []
    for batch in reader:
        if reader.decoded_bytes > MAX_DECODED_BYTES:
            raise ResourceExhaustedError(
                f"the parameters take more than {MAX_DECODED_BYTES} bytes: load them into a table and join it"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _order(bound: Sequence[str], declared: Sequence[str]) -> Sequence[int]:
    """Return which bound column each declared parameter takes its values from."""
    if len(bound) != len(declared):
        wanted = f"; it takes {', '.join(map(_marker, declared))}" if declared else ""
        raise InvalidArgumentError(
            f"the statement takes {len(declared)} parameters, {len(bound)} are bound{wanted}"
        )
    if all(name.isdigit() for name in declared):
        return range(len(declared))
    position = {name.lstrip("$").lower(): at for at, name in enumerate(bound)}
    if all(name.lower() in position for name in declared):
        return [position[name.lower()] for name in declared]
    if all(name.isdigit() or not name for name in position):
        return range(len(declared))
    raise InvalidArgumentError(
        f"the statement takes the parameters {', '.join(map(_marker, declared))}; "
        f"those bound are {', '.join(name[:80] for name in bound)}"
    )


def _marker(name: str) -> str:
    return f"${name}"


def _read(cursor: duckdb.DuckDBPyConnection, bound: pa.Table, at: int, parameter: Parameter) -> _Column:
    field, column = bound.schema.field(at), bound.column(at)
    try:
        return _values(cursor, field, column, parameter)
    except (pa.ArrowException, duckdb.Error, NotImplementedError) as error:
        raise InvalidArgumentError(
            f"parameter {_marker(parameter.name)}: values of type {field.type} cannot be bound; "
            "bind them as another type, such as utf8, and cast it in the statement"
        ) from error


def _values(cursor: duckdb.DuckDBPyConnection, field: Any, column: Any, parameter: Parameter) -> _Column:
    kind, own = parameter.kind, _PLAIN.get(column.type)
    if own is not None and kind in (own, None):
        return _Column(own, [chunk.to_pylist() for chunk in column.chunks])
    column = column.cast(_decoded(column.type))
    own = _PLAIN.get(column.type) or _EXACT.get(column.type)
    if pat.is_null(column.type):
        return _Column(kind, [[None] * len(chunk) for chunk in column.chunks])
    if kind is not None and own == "VARCHAR":
        # Cast as any text is cast in SQL; but a search takes a text in the place of a vector.
        return _column(column, "VARCHAR" if _is_no_list(column, kind) else kind, lambda text: text)
    listed = _LISTED.get(column.type.value_type) if pat.is_list(column.type) else None
    if listed is not None:
        return _column(_written(column), listed, lambda text: text)
    if kind is None or own != kind:
        fitting = _fitting(column, parameter.type)
        column = column if fitting is None else fitting
        kind = None if fitting is None else kind
    field = field.with_type(column.type).with_name("v")
    kind = kind or own or sql_types(cursor, pa.schema([field]))[1][0]
    return _objects(cursor, field, column, kind)


def _is_no_list(column: Any, kind: str) -> bool:
    """Tell whether a list is wanted, and one of the texts writes none."""
    return kind.endswith("]") and any(text and text.lstrip()[:1] != "[" for text in column.to_pylist())


def _fitting(column: Any, wanted: pa.DataType | None) -> Any:
    """Return the values in another type of their family; None where that would change one."""
    if wanted is None or not any(is_match(column.type) and is_match(wanted) for is_match in _FAMILIES):
        return None
    try:
        wide = column
        if pat.is_integer(column.type) and pat.is_decimal(wanted):
            wide = column.cast(pa.decimal128(38, wanted.scale))  # Arrow wants room for all integers
        cast = wide.cast(wanted)
        return cast if cast.cast(column.type).equals(column) else None
    except pa.ArrowException:
        return None


def _objects(cursor: duckdb.DuckDBPyConnection, field: Any, column: Any, kind: str) -> _Column:
    if _PLAIN.get(column.type) == kind:
        return _Column(kind, [chunk.to_pylist() for chunk in column.chunks])
    if pat.is_decimal(column.type):
        return _column(column, kind, lambda value: format(value, "f"))
    if _EXACT.get(column.type) == kind:
        with suppress(ValueError, OverflowError):  # years that Python does not have
            return _column(column, kind, lambda value: value)
    return _column(_texts(cursor, field, column, kind), kind, lambda text: text)


def _column(column: Any, kind: str, given: Callable[[Any], Any]) -> _Column:
    sql_type = duckdb.sqltype(kind)
    return _Column(
        kind,
        [
            [None if value is None else duckdb.Value(given(value), sql_type) for value in chunk.to_pylist()]
            for chunk in column.chunks
        ],
    )


def _written(column: Any) -> Any:
    """Return lists of numbers as DuckDB reads them, in the same chunks."""
    chunks = [
        [None if value is None else _list(value) for value in chunk.to_pylist()] for chunk in column.chunks
    ]
    return pa.chunked_array([pa.array(chunk, pa.utf8()) for chunk in chunks], pa.utf8())


def _list(values: list[float | None]) -> str:
    text = str(values)
    return text.replace("None", "NULL") if "N" in text else text


def _texts(cursor: duckdb.DuckDBPyConnection, field: Any, column: Any, kind: str) -> Any:
    """Return the values as DuckDB writes them, in the same chunks."""
    cursor.register(_BOUND, pa.table([column], schema=pa.schema([field])))
    try:
        rows = cursor.execute(f"SELECT CAST(CAST(v AS {kind}) AS VARCHAR) FROM {_BOUND}").fetchall()  # noqa: S608
    finally:
        cursor.unregister(_BOUND)
    texts = pa.array([text for (text,) in rows], pa.utf8())
    ends = list(accumulate(len(chunk) for chunk in column.chunks))
    starts = [0, *ends]
    return pa.chunked_array([texts[start:end] for start, end in zip(starts, ends, strict=False)], pa.utf8())
