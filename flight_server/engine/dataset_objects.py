"""Writes the rows of a query as objects of a dataset, to be kept or discarded as the gateway says."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

import duckdb
import pyarrow as pa

from flight_server.domain.dataset import StoredObject
from flight_server.engine.parameters import Values
from flight_server.engine.streams import batches
from flight_server.errors import NotFoundError
from flight_server.objects.parquet import DatasetWriter
from flight_server.objects.schema import Conformer
from flight_server.objects.store import ObjectStore


class DatasetObjects:
    """The objects that one statement has written so far; they may have `room` bytes, None for any number."""

    def __init__(self, stores: Mapping[str, ObjectStore], room: int | None = None) -> None:
        self.stores = stores
        self._room = room
        self._writers: list[DatasetWriter] = []

    def write(
        self,
        cursor: duckdb.DuckDBPyConnection,
        query: tuple[str, Values | None, pa.Schema],
        place: tuple[str, str],
        schema: pa.Schema,
    ) -> list[StoredObject]:
        """Write what a query returns (text, values, columns) with a dataset's columns, in order.

        `place` is the bucket and the dataset's id. Raises ResourceExhaustedError, FailedPreconditionError.
        """
        sql, values, columns = query
        bucket, dataset_id = place
        if bucket not in self.stores:
            raise NotFoundError(f"bucket {bucket} is not open in this engine process")
        conformer = Conformer(columns, schema, is_trusted=True)
        writer = DatasetWriter(self.stores[bucket], dataset_id, schema, room=self._room)
        self._writers.append(writer)
        for batch in batches(partial(cursor._submit, sql, values, "stream"), nullcontext, columns):
            writer.write(conformer.conform(batch))
        return writer.finish()

    def discard(self) -> None:
        """Remove all of them, as far as storage lets us."""
        for writer in self._writers:
            writer.discard()


def encoded(objects: list[StoredObject]) -> tuple[tuple[str, int, int, str], ...]:
    """Return objects as a change names them."""
    return tuple((item.key, item.rows, item.bytes, item.checksum) for item in objects)
