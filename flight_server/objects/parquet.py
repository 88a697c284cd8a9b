"""Writes the batches of one upload to Parquet objects, with bounded memory."""

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from flight_server.domain.dataset import StoredObject
from flight_server.errors import InvalidArgumentError, LakehouseError, ResourceExhaustedError
from flight_server.objects.store import ObjectStore, ObjectWriter

ROW_GROUP_ROWS = 122_880
"""DuckDB's own row group size: its scans split work by row groups."""

_BUFFERED_BYTES = 64 * 1024 * 1024
_OBJECT_BYTES = 1024 * 1024 * 1024
_SAMPLE_ROWS = 10_000
_COMPRESSION_LEVEL = 1


class DatasetWriter:
    """Collects batches into row groups and writes them as objects of one dataset.

    A thread of its own encodes one row group while the next is collected; whoever calls waits for
    it before it touches what that thread works on. `schema` is that of the objects; one that has
    `object_bytes` is closed, and another begun. All of them may have `room` bytes, None for any number.
    """

    def __init__(
        self,
        store: ObjectStore,
        dataset_id: str,
        schema: pa.Schema,
        object_bytes: int = _OBJECT_BYTES,
        room: int | None = None,
    ) -> None:
        self._store = store
        self._dataset_id = dataset_id
        self.schema = schema
        self._fill = store.filling(schema)
        self._object_bytes = object_bytes
        self._room = room
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = self._object_rows = 0
        self._dictionary_columns: list[str] | None = None
        self._target: ObjectWriter | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._stored: list[StoredObject] = []
        self._encoder: ThreadPoolExecutor | None = None
        self._encoding: Future[None] | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Take one batch; full row groups go to storage. Raises what went wrong with earlier ones."""
        if batch.num_rows == 0:
            return
        if self._fill is not None:
            batch = self._fill(batch)
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= _BUFFERED_BYTES:
            self._flush()

    def finish(self) -> list[StoredObject]:
        """Write what is left, make every object durable, return them."""
        self._await_encoder()
        self._end_encoder()
        if self._pending:
            self._encode(pa.Table.from_batches(self._pending, schema=self.schema))
        self._close_object()
        return self._stored

    def discard(self) -> None:
        """Remove everything that was written, as far as storage lets us; sweep removes the rest."""
        self._end_encoder()
        if self._parquet is not None:
            with contextlib.suppress(Exception):  # whatever it says, what it wrote goes
                self._parquet.close()
        if self._target is not None:
            with contextlib.suppress(LakehouseError):
                self._target.discard()
        for stored in self._stored:
            with contextlib.suppress(LakehouseError):
                self._store.delete(stored.key)

    def _flush(self) -> None:
        """Hand the full row groups to the encoder; the rest stays pending unless there are none."""
        table = pa.Table.from_batches(self._pending, schema=self.schema)
        full = table.num_rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS or table.num_rows
        rest = table.slice(full)
        self._pending, self._pending_rows, self._pending_bytes = rest.to_batches(), rest.num_rows, rest.nbytes
        self._await_encoder()
        self._encoder = self._encoder or ThreadPoolExecutor(1, thread_name_prefix="parquet-encoder")
        self._encoding = self._encoder.submit(self._encode, table.slice(0, full))

    def _await_encoder(self) -> None:
        encoding, self._encoding = self._encoding, None
        if encoding is not None:
            encoding.result()

    def _end_encoder(self) -> None:
        if self._encoder is not None:
            self._encoder.shutdown()

    def _encode(self, table: pa.Table) -> None:
        parquet = self._parquet or self._open_object(table)
        try:
            parquet.write_table(table, row_group_size=ROW_GROUP_ROWS)
        except pa.ArrowException as error:
            raise InvalidArgumentError(f"the data cannot be written as Parquet: {error}") from error
        self._object_rows += table.num_rows
        self._check_room()
        if self._target is not None and self._target.bytes >= self._object_bytes:
            self._close_object()

    def _check_room(self) -> None:
        written = sum(stored.bytes for stored in self._stored) + (self._target.bytes if self._target else 0)
        if self._room is not None and written > self._room:
            raise ResourceExhaustedError(
                f"bucket {self._store.bucket} has room for {self._room} bytes more (its quota_bytes), older "
                "versions included, and this has more: drop what is not needed, and sweep frees it after the "
                "retention"
            )

    def _open_object(self, first: pa.Table) -> pq.ParquetWriter:
        if self._dictionary_columns is None:
            self._dictionary_columns = [name for name in first.column_names if _repeats(first.column(name))]
        self._target = self._store.create(self._store.new_key(self._dataset_id))
        self._parquet = pq.ParquetWriter(
            cast("Any", self._target),  # any object with write() will do
            self.schema,
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
    kind = column.type
    if pat.is_nested(kind) or pat.is_boolean(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    sample = column.slice(0, _SAMPLE_ROWS)
    return bool(pc.count_distinct(sample).as_py() * 4 <= len(sample))
