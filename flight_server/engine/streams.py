"""Reads what a statement returns batch by batch, in the schema that was announced."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.columns import Kind
from flight_server.errors import InvalidArgumentError, ResourceExhaustedError
from flight_server.objects.text_types import from_text, is_text_type

_BATCH_ROWS = 32_768
_VARIABLE_BATCH_ROWS = (16_384, 256, 8)
"""Rows of a batch where values have no fixed size: as many as hold less than Arrow's 2 GiB."""

_TOO_LARGE = "Arrow Appender: The maximum total"


def batches(
    submit: Callable[[int], Any], pinned: Callable[[], AbstractContextManager[None]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Run a statement with so many rows in a batch as its values allow, and yield its batches.

    `submit` runs it, `pinned` holds what it reads until it runs. Raises ResourceExhaustedError when
    values that go into one batch take more than 2 GiB.
    """
    is_fixed = all(_is_fixed(field.type) for field in schema)
    for rows in (_BATCH_ROWS,) if is_fixed else _VARIABLE_BATCH_ROWS:
        has_begun = False
        try:
            with pinned():
                reader = submit(rows).arrow_reader()
            with reader:
                for batch in reader:
                    has_begun = True
                    yield conform(batch, schema)
            return
        except OSError as error:
            if _TOO_LARGE not in str(error):
                raise
            if has_begun:
                break
    raise ResourceExhaustedError(
        "the values of some rows take more than 2 GiB together: select fewer columns, or parts of the values"
    )


def _is_fixed(kind: Kind) -> bool:
    if pat.is_nested(kind):
        return pat.is_struct(kind) and all(_is_fixed(kind.field(i).type) for i in range(kind.num_fields))
    return pat.is_primitive(kind) or pat.is_dictionary(kind) or pat.is_decimal(kind)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give a batch the announced schema.

    Its names are others for columns that occur twice, its types where NULLs were bound to parameters.
    """
    if batch.schema.equals(schema):
        return batch
    try:
        columns = [
            column if column.type.equals(field.type) else _cast(column, field.type)
            for column, field in zip(batch.columns, schema, strict=True)
        ]
    except pa.ArrowException as error:
        raise InvalidArgumentError(
            "the values bound to the parameters change the types of the columns: "
            "cast the parameters in the statement, as in CAST(? AS BIGINT)"
        ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: Any, kind: Kind) -> Any:
    if pat.is_null(column.type):
        return pa.nulls(len(column), kind)
    return from_text(column, kind, is_trusted=True) if is_text_type(kind) else column.cast(kind)
