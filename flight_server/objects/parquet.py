"""Writes the batches of one upload to Parquet objects, with bounded memory."""

import contextlib
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from flight_server.domain.dataset import StoredObject
from flight_server.errors import InvalidArgumentError
from flight_server.objects.store import ObjectStore, ObjectWriter

ROW_GROUP_ROWS = 122_880
"""DuckDB's own row group size: its scans split work by row groups."""

_BUFFERED_BYTES = 64 * 1024 * 1024
_OBJECT_BYTES = 1024 * 1024 * 1024
_SAMPLE_ROWS = 10_000
_COMPRESSION_LEVEL = 1


class DatasetWriter:
    """Collects batches into row groups and writes them as objects of one dataset."""

    def __init__(self, store: ObjectStore, dataset_id: str, schema: pa.Schema) -> None:
        self._store = store
        self._dataset_id = dataset_id
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = self._object_rows = 0
        self._dictionary_columns: list[str] | None = None
        self._target: ObjectWriter | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._stored: list[StoredObject] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Take one batch; full row groups go to storage."""
        if batch.num_rows == 0:
            return
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= _BUFFERED_BYTES:
            self._flush()

    def finish(self) -> list[StoredObject]:
        """Write what is left, make every object durable, return them."""
        if self._pending:
            self._flush()
        self._close_object()
        return self._stored

    def discard(self) -> None:
        """Remove everything that was written."""
        if self._parquet is not None:
            with contextlib.suppress(Exception):  # whatever it says, what it wrote goes
                self._parquet.close()
        if self._target is not None:
            self._target.discard()
        for stored in self._stored:
            self._store.delete(stored.key)

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._pending, schema=self._schema)
        parquet = self._parquet or self._open_object(table)
        try:
            parquet.write_table(table, row_group_size=ROW_GROUP_ROWS)
        except pa.ArrowException as error:
            raise InvalidArgumentError(f"the data cannot be written as Parquet: {error}") from error
        self._object_rows += table.num_rows
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._target is not None and self._target.bytes >= _OBJECT_BYTES:
            self._close_object()

    def _open_object(self, first: pa.Table) -> pq.ParquetWriter:
        if self._dictionary_columns is None:
            self._dictionary_columns = [name for name in first.column_names if _repeats(first.column(name))]
        self._target = self._store.create(self._store.new_key(self._dataset_id))
        self._parquet = pq.ParquetWriter(
            cast("Any", self._target),  # any object with write() will do
            self._schema,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=cast("Any", self._dictionary_columns),
        )
        return self._parquet

    def _close_object(self) -> None:
        if self._parquet is None or self._target is None:
            return
        self._parquet.close()
        self._target.close()
        done = self._target
        self._stored.append(StoredObject(done.key, self._object_rows, done.bytes, done.checksum))
        self._parquet, self._target, self._object_rows = None, None, 0


def _repeats(column: "pa.ChunkedArray[Any]") -> bool:
    """Tell whether a column's first rows repeat often enough for a dictionary to pay."""
    if pat.is_nested(column.type) or pat.is_boolean(column.type):
        return False
    sample = column.slice(0, _SAMPLE_ROWS)
    return bool(pc.count_distinct(sample).as_py() * 4 <= len(sample))
