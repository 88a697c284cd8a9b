"""Which Arrow schemas can be stored, and how an upload's batches are brought to a dataset's schema."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.columns import MAX_COLUMNS, Field, Kind, by_name, conflicts, differences, union
from flight_server.domain.embedding import embedded_fields
from flight_server.errors import InvalidArgumentError, SchemaMismatchError
from flight_server.objects.text_types import JSON, UUID, from_text, is_text_type

MAX_NESTING = 64
_MAX_DIGITS = 38


def _refuse(what: str) -> Callable[[Kind], Kind]:
    def refuse(kind: Kind) -> Kind:
        raise InvalidArgumentError(f"type {kind} cannot be stored: {what}")

    return refuse


def _decimal(kind: Kind) -> Kind:
    """Widen what Parquet and SQL do not have, a negative scale or one above the precision, without loss."""
    scale = max(kind.scale, 0)
    precision = max(kind.precision + scale - kind.scale, scale)
    if precision > _MAX_DIGITS:
        raise InvalidArgumentError(
            f"type {kind} cannot be stored: at most {_MAX_DIGITS} digits; cast it to double or utf8"
        )
    return pa.decimal128(precision, scale)


def _struct(kind: Kind) -> Kind:
    if not kind.num_fields:
        raise InvalidArgumentError(f"type {kind} cannot be stored: give the struct a field, or use a boolean")
    fields = [kind.field(i) for i in range(kind.num_fields)]
    _check_names(fields, "field")
    return pa.struct([_storable_field(field) for field in fields])


def _fixed_size_list(kind: Kind) -> Kind:
    if kind.list_size < 1:
        raise InvalidArgumentError(f"type {kind} cannot be stored: lists of size 0 hold nothing; use a list")
    return pa.list_(_storable_field(kind.value_field), kind.list_size)


def _check_names(fields: Sequence[Field], what: str) -> None:
    seen: dict[str, str] = {}
    for name in (field.name for field in fields):
        if not name:
            raise InvalidArgumentError(f"every {what} needs a name that is not empty")
        if "\0" in name:
            raise InvalidArgumentError(
                f"the name of {what} {name[:80]!r} holds a NUL, which SQL cannot write"
            )
        if name.lower() in seen:
            raise InvalidArgumentError(
                f"{what}s {seen[name.lower()]!r} and {name!r} have the same name: "
                "case makes no difference in SQL"
            )
        seen[name.lower()] = name


_STORED_AS: tuple[tuple[Callable[[Kind], bool], Callable[[Kind], Kind]], ...] = (
    (lambda kind: isinstance(kind, pa.BaseExtensionType), lambda kind: storable_type(kind.storage_type)),
    (pat.is_dictionary, lambda kind: storable_type(kind.value_type)),
    (pat.is_run_end_encoded, lambda kind: storable_type(kind.value_type)),
    (pat.is_null, lambda kind: pa.int32()),
    (pat.is_float16, lambda kind: pa.float32()),
    (pat.is_large_string, lambda kind: pa.utf8()),
    (pat.is_string_view, lambda kind: pa.utf8()),
    (pat.is_large_binary, lambda kind: pa.binary()),
    (pat.is_binary_view, lambda kind: pa.binary()),
    (pat.is_fixed_size_binary, lambda kind: pa.binary()),
    (pat.is_decimal, _decimal),
    (pat.is_date64, lambda kind: pa.date32()),
    (pat.is_timestamp, lambda kind: kind if kind.unit == "ns" else pa.timestamp("us", kind.tz)),
    (pat.is_time, lambda kind: pa.time64("us")),
    (pat.is_duration, _refuse("cast durations to bigint in a unit of your choice")),
    (pat.is_interval, _refuse("cast intervals to bigint or utf8")),
    (pat.is_union, _refuse("use one column for each member of the union")),
    (pat.is_struct, _struct),
    (pat.is_map, lambda kind: pa.map_(storable_type(kind.key_type), storable_type(kind.item_type))),
    (pat.is_fixed_size_list, _fixed_size_list),
    # pyarrow 26 casts list views to lists with wrong offsets.
    (pat.is_list_view, _refuse("send it as list")),
    (pat.is_large_list_view, _refuse("send it as list")),
    (pat.is_nested, lambda kind: pa.list_(_storable_field(kind.value_field))),
)
"""First matching test → the type stored; types that match nothing are stored as they are."""


def storable_type(kind: Kind) -> Kind:
    """Return the type that a type of an upload is stored as. Raises InvalidArgumentError."""
    for is_match, convert in _STORED_AS:
        if is_match(kind):
            return convert(kind)
    return kind


def _storable_field(field: Field) -> Field:
    return pa.field(field.name, storable_type(field.type), field.nullable)


def _nesting(kind: Kind) -> int:
    return 1 + max((_nesting(kind.field(i).type) for i in range(kind.num_fields)), default=0)


def storable_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that an upload is stored with.

    Raises InvalidArgumentError for a schema without columns, with more than 10,000, with names (of
    columns or of fields in them) that are empty, not UTF-8, with a NUL, or equal but for their case,
    nested deeper than 64, or of a type that Parquet and DuckDB do not share.
    """
    try:
        return _storable_schema(schema)
    except UnicodeDecodeError as error:
        raise InvalidArgumentError("the name of a column or of a field in one is not UTF-8") from error


def _storable_schema(schema: pa.Schema) -> pa.Schema:
    if not 0 < len(schema) <= MAX_COLUMNS:
        raise InvalidArgumentError(f"a dataset has 1 to {MAX_COLUMNS} columns, not {len(schema)}")
    _check_names(list(schema), "column")
    for field in schema:
        if _nesting(field.type) > MAX_NESTING:
            raise InvalidArgumentError(f"column {field.name!r} is nested deeper than {MAX_NESTING} levels")
    return pa.schema([_column(field) for field in schema])


def _column(field: Field) -> Field:
    if is_text_type(field.type):
        return pa.field(field.name, JSON if isinstance(field.type, pa.JsonType) else UUID, field.nullable)
    try:
        return _storable_field(field)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"column {field.name!r}: {error.message}") from error


class Conformer:
    """Brings the batches of an upload to a dataset's columns: by name, in its order, widened safely.

    With `evolves` columns that only one of the two has are NULL in the other; without it they are
    a SchemaMismatchError, as are types that do not fit. Columns that are computed may always be left out.
    Rows that SQL gave are trusted to be what they say.
    """

    def __init__(
        self,
        uploaded: pa.Schema,
        target: pa.Schema | None,
        *,
        evolves: bool = False,
        is_trusted: bool = False,
    ) -> None:
        stored = storable_schema(uploaded)
        self.schema = stored if target is None else _target(uploaded, stored, target, evolves=evolves)
        positions = {name: at for at, name in enumerate(by_name(stored))}
        self._order = [positions.get(name) for name in by_name(self.schema)]
        self._is_trusted = is_trusted
        holds_json = any(isinstance(field.type, pa.JsonType) for field in self.schema)
        is_same = uploaded.equals(self.schema, check_metadata=False)
        self._is_identity = is_same and (is_trusted or not holds_json)

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with the dataset's columns. Raises InvalidArgumentError, for NULL too."""
        if self._is_identity:
            _check_nulls(batch.columns, self.schema)
            return batch
        columns = [
            pa.nulls(batch.num_rows, field.type) if at is None else self._cast(batch.column(at), field)
            for at, field in zip(self._order, self.schema, strict=True)
        ]
        _check_nulls(columns, self.schema)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _cast(self, column: Any, field: Field) -> Any:
        if not is_text_type(field.type) or pat.is_null(column.type):
            return _cast(column, field)
        try:
            return from_text(column, field.type, is_trusted=self._is_trusted)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"column {field.name!r}: {error.message}") from error


def _check_nulls(columns: Sequence[Any], schema: pa.Schema) -> None:
    for column, field in zip(columns, schema, strict=True):
        if not field.nullable and column.null_count:
            raise InvalidArgumentError(
                f"NOT NULL constraint failed: column {field.name!r} holds NULL in {column.null_count} of "
                f"{len(column)} rows: give each of them a value"
            )


def _target(uploaded: pa.Schema, stored: pa.Schema, target: pa.Schema, *, evolves: bool) -> pa.Schema:
    untyped = {field.name.lower() for field in uploaded if pat.is_null(field.type)}
    known = by_name(target)
    offered = pa.schema([_offered(field, known.get(field.name.lower()), untyped) for field in stored])
    needed = pa.schema([field for name, field in known.items() if name not in _left_out(offered, target)])
    found = (conflicts if evolves else differences)(offered, needed, "the upload")
    if found:
        raise SchemaMismatchError("the schema does not fit the dataset's: " + "; ".join(found))
    return union(target, offered) if evolves else target


def _left_out(offered: pa.Schema, target: pa.Schema) -> set[str]:
    """Return the computed columns that an upload does not have."""
    return {item.field.name.lower() for item in embedded_fields(target)} - by_name(offered).keys()


def _offered(field: Field, wanted: "Field | None", untyped: set[str]) -> Field:
    """Return a column of an upload as it fits the dataset's, where one of them is only another writing."""
    if wanted is None:
        return field
    # A column of type null fits any type: it holds nothing but NULL.
    if field.name.lower() in untyped or (is_text_type(wanted.type) and pat.is_string(field.type)):
        return wanted
    if is_text_type(field.type) and not is_text_type(wanted.type):
        return field.with_type(storable_type(field.type))
    return field


def _cast(column: Any, field: Field) -> Any:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if column.type.equals(field.type):
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgumentError(
            f"column {field.name!r} cannot be stored as {field.type}: {error}"
        ) from error
