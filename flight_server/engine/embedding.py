"""Adds a column of vectors to a dataset: its rows are written anew, the vectors are computed on the way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.embedding import with_embedding
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance
from flight_server.engine.relations import Relations
from flight_server.engine.statement import Running
from flight_server.engine.streams import batches
from flight_server.frames.frame import Frame
from flight_server.frames.requests import Relation, decode_relations
from flight_server.objects.parquet import DatasetWriter
from flight_server.vectors.embedding import Embedders

_ROWS_AT_ONCE = 1_024
"""Between these it can be cancelled, and tells how far it is."""

Send = Callable[[Frame], None]


class ColumnEmbedder:
    """Answers `embed` by one instance, with the embedders of the process."""

    def __init__(
        self, instance: Instance, relations: Relations, failures: Failures, embedders: Embedders
    ) -> None:
        self._instance = instance
        self._relations = relations
        self._failures = failures
        self._embedders = embedders

    def embed(self, request: Frame, running: Running, send: Send) -> tuple[Frame, Callable[[], None]]:
        """Write the rows of a relation with vectors of their texts; return `stored`, and how to discard it.

        Its payload is the dataset's schema with the column, which is added unless it is there.
        """
        ((_, relation),) = decode_relations(request).items()
        schema = declarations.read(relation.schema)
        wanted = self._with_column(schema, request.fields)
        store = self._relations.stores[request.fields["bucket"]]
        writer = DatasetWriter(store, request.fields["dataset_id"], wanted.remove_metadata())
        try:
            done = 0
            for batch in self._rows(relation, running) if relation.groups else ():
                running.check()
                writer.write(_widened(batch, writer.schema))
                done += batch.num_rows
                send(Frame("progress", {"rows": done}))
            objects = [[item.key, item.rows, item.bytes, item.checksum] for item in writer.finish()]
        except BaseException:
            writer.discard()
            raise
        stored = Frame("stored", {"objects": objects, "digest": ""}, wanted.serialize().to_pybytes())
        return stored, writer.discard

    def _with_column(self, schema: pa.Schema, fields: Mapping[str, Any]) -> pa.Schema:
        if fields["vector_column"] in schema.names:
            return schema
        source = schema.field(fields["text_column"])
        dim = self._embedders.get(fields["embedder"]).ndims
        column = pa.field(fields["vector_column"], pa.list_(pa.float32(), dim))
        return declarations.added(schema, [with_embedding(column, source, fields["embedder"])])

    def _rows(self, relation: Relation, running: Running) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a relation as they are, a few at once."""
        schema = declarations.read(relation.schema)
        with self._failures.translated(), self._instance.cursor() as cursor, running.aside(cursor):
            sql = self._relations.select(relation)
            for batch in batches(partial(cursor._submit, sql, [], "stream"), nullcontext, schema):
                for at in range(0, batch.num_rows, _ROWS_AT_ONCE):
                    yield batch.slice(at, _ROWS_AT_ONCE)


def _widened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with all columns of a schema; those that it does not have are NULL."""
    columns: Sequence[Any] = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
