"""Searches for all vectors that a client sends, answered batch by batch while they arrive."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flight_server.engine.search_calls import VECTOR, Literal, SearchCall
from flight_server.engine.searches import DISTANCE, QUERY_INDEX, Arguments, conformed
from flight_server.engine.statement import Running
from flight_server.engine.vector_source import DatasetRows, VectorSources
from flight_server.errors import InvalidArgumentError
from flight_server.frames.flight_data import BatchFramer, encapsulated_header, pieces
from flight_server.frames.frame import Frame
from flight_server.frames.requests import decode_relations
from flight_server.frames.vectors import decode_indexes
from flight_server.objects.upload import UploadReader
from flight_server.vectors import queries
from flight_server.vectors.queries import Search
from flight_server.vectors.search import VectorSearcher

if TYPE_CHECKING:
    from flight_server.engine.instance import Instance
    from flight_server.frames.flight_data import Pieces

_QUERIES_AT_ONCE = 1_024


class Exchanges:
    """Answers batches of one engine process; used by many threads at once."""

    def __init__(self, instance: "Instance", sources: VectorSources, searcher: VectorSearcher) -> None:
        self._instance = instance
        self._sources = sources
        self._searcher = searcher

    def answer(self, request: Frame, messages: Iterator[bytes], running: Running) -> Iterator["Pieces"]:
        """Yield the FlightData messages of the answer to those of a client. Raises InvalidArgumentError."""
        fields = request.fields
        name, relation = fields["relation"], decode_relations(request)[fields["relation"]]
        with self._sources.source(name, relation, fields["bucket"], running) as rows:
            search = self._search(rows, fields, running)
            shown = self._sources.columns(rows.schema)
            announced = pa.schema(
                [pa.field(QUERY_INDEX, pa.int64()), *shown, pa.field(DISTANCE, pa.float32())]
            )
            taken = {QUERY_INDEX, DISTANCE} & {*shown.names}
            if taken:
                raise InvalidArgumentError(
                    f"the dataset has a column {min(taken)!r}, which the search adds: rename it"
                )
            yield pieces(encapsulated_header(memoryview(announced.serialize())))
            framer = BatchFramer(announced, None)
            for found in self._found(search, messages):
                for batch in conformed(found, announced).to_batches():
                    yield from framer.frame(batch)

    def _search(self, rows: DatasetRows, fields: Mapping[str, Any], running: Running) -> Search:
        given = Arguments(SearchCall(VECTOR, Literal((), None, 0), None, fields["arguments"], ()), {})
        with self._instance.cursor() as cursor:
            where = given.where(cursor, rows.schema)
        options, column = given.options(), given.text("column")
        records = decode_indexes(fields["records"])
        return Search(rows, records, column, options, where, rows.schema.names, running.check)

    def _found(self, search: Search, messages: Iterator[bytes]) -> Iterator[pa.Table]:
        field = queries.vector_field(search.source.schema, search.column)
        metric = queries.metric_of(search.records, field.name, search.options.metric)
        reader, done = UploadReader(messages), 0
        sent = queries.vector_field(reader.schema, None).name
        for batch in reader:
            for start in range(0, batch.num_rows, _QUERIES_AT_ONCE):
                column = batch.column(sent).slice(start, _QUERIES_AT_ONCE)
                found = self._searcher.vector(
                    search, queries.parse_batch(column, field, metric), is_batch=True
                )
                numbers = pa.array(found[QUERY_INDEX].to_numpy() + done, pa.int64())
                yield found.set_column(0, QUERY_INDEX, numbers)
                done += len(column)
