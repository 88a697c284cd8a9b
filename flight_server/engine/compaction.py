"""Compaction: objects of a dataset become fewer, larger ones with the same rows, perhaps sorted."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import duckdb
import pyarrow as pa

from flight_server.engine import quote
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance
from flight_server.engine.relations import Relations
from flight_server.engine.statement import Running
from flight_server.engine.streams import batches
from flight_server.frames.frame import Frame
from flight_server.frames.requests import decode_relations
from flight_server.objects.parquet import DatasetWriter
from flight_server.objects.store import ObjectStore

_TOLD_ROWS = 500_000


class Compactor:
    """Merges objects through one instance, which sorts what does not fit into memory on disk."""

    def __init__(self, instance: Instance, relations: Relations, failures: Failures) -> None:
        self._instance = instance
        self._relations = relations
        self._failures = failures

    def compact(
        self, store: ObjectStore, request: Frame, running: Running, tell: Callable[[Frame], None]
    ) -> tuple[DatasetWriter, Frame]:
        """Write the rows of the objects that a request names as new ones; return these as `stored`.

        What was written is removed when it fails. `tell` gets the rows done from time to time.
        """
        (relation,) = decode_relations(request).values()
        schema = pa.ipc.read_schema(pa.py_buffer(relation.schema))
        fields = request.fields
        writer = DatasetWriter(store, fields["dataset_id"], schema, fields["object_bytes"])
        order = ", ".join(map(quote.identifier, fields["sort_by"]))
        try:
            with self._failures.translated(), self._instance.cursor() as cursor:
                running.attach(cursor)
                sql = self._relations.select(relation)
                self._write(cursor, f"FROM ({sql}) ORDER BY {order}" if order else sql, writer, running, tell)
            objects = [[stored.key, stored.rows, stored.bytes, stored.checksum] for stored in writer.finish()]
        except BaseException:
            writer.discard()
            raise
        return writer, Frame("stored", {"objects": objects, "digest": ""}, relation.schema)

    def _write(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        writer: DatasetWriter,
        running: Running,
        tell: Callable[[Frame], None],
    ) -> None:
        told = 0
        try:
            for batch in batches(partial(cursor._submit, sql, [], "stream"), nullcontext, writer.schema):
                writer.write(batch)
                running.rows += batch.num_rows
                if running.rows - told >= _TOLD_ROWS:
                    told = running.rows
                    tell(Frame("progress", {"rows": told}))
        finally:
            running.attach(None)
