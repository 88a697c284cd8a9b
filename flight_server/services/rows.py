"""Rows of our own as ready FlightData messages: what metadata commands are answered with."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from flight_server.frames.flight_data import BatchFramer, schema_message

REQUIRED, OPTIONAL = False, True
"""Whether a column may be NULL."""


def schema(*columns: tuple[str, Any, bool]) -> pa.Schema:
    """Return a schema from columns: name, type, and `REQUIRED` or `OPTIONAL`."""
    return pa.schema([pa.field(*column) for column in columns])


def batch(schema: pa.Schema, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Return a batch of a schema from its columns."""
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def messages(rows: pa.RecordBatch) -> Iterator[bytes]:
    """Yield a batch as the FlightData messages of a whole stream, the schema first."""
    yield schema_message(rows.schema.serialize().to_pybytes())
    for pieces in BatchFramer(rows.schema).frame(rows):
        yield b"".join(pieces)
