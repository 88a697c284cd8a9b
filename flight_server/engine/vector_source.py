"""The rows of a dataset version for vector searches: read by DuckDB, each with its place.

A row's place is the number of its object and its row number there; objects never change, so neither does it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from flight_server.domain.vector import Filter, object_id
from flight_server.engine import quote
from flight_server.engine.binding import sql_types
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance
from flight_server.engine.relations import select_rows
from flight_server.engine.statement import Running
from flight_server.errors import InvalidArgumentError
from flight_server.frames.requests import ObjectGroup, Relation
from flight_server.objects.store import ObjectStore

OBJECT, ROW = "_object", "_row"
_MASKED = "_masked"
_BATCH_ROWS = 65_536
_MAX_LISTED_ROWS = 1_000
_ROW_BITS = 40
"""Row numbers of an object are below 2 to this; objects of one search below the rest of 63 bits."""

_VIRTUAL = frozenset({OBJECT, ROW, "file_index", "file_row_number"})


class VectorSources:
    """Opens the rows of dataset versions."""

    def __init__(self, instance: Instance, stores: Mapping[str, ObjectStore], failures: Failures) -> None:
        self._instance = instance
        self._stores = stores
        self._failures = failures

    def columns(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns that SQL makes of a dataset's."""
        with self._failures.translated(), self._instance.cursor() as cursor:
            return sql_types(cursor, schema)[0]

    @contextmanager
    def source(self, name: str, relation: Relation, bucket: str, running: Running) -> Iterator["DatasetRows"]:
        """Open a relation's rows for one statement; what reads them can be interrupted by `running`."""
        with (
            self._failures.translated(),
            self._instance.cursor() as cursor,
            running.aside(cursor),
        ):
            yield DatasetRows(cursor, self._stores, (name, bucket), relation)


class DatasetRows:
    """The rows of one dataset version, for one thread; `objects` are the live ones by their numbers.

    Raises InvalidArgumentError when columns are named like the places of rows.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        stores: Mapping[str, ObjectStore],
        name_and_bucket: tuple[str, str],
        relation: Relation,
    ) -> None:
        self.relation, self.bucket = name_and_bucket
        self.schema = pa.ipc.read_schema(pa.py_buffer(relation.schema))
        self.objects = {
            object_id(bucket, key): (bucket, key)
            for group in relation.groups
            for bucket, key in group.objects
        }
        self._cursor = cursor
        self._stores = stores
        self._described = relation
        taken = _VIRTUAL & {name.lower() for name in self.schema.names}
        if taken:
            raise InvalidArgumentError(
                f"a dataset with a column {min(taken)!r} cannot be searched: rename it"
            )

    def scan(
        self, objects: Collection[int], columns: Sequence[str], where: Filter | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of the rows of some objects, with the places `_object` and `_row` (int64)."""
        condition = "" if where is None else f"WHERE {where.sql}"
        yield from self._read(frozenset(objects), columns, (where.columns if where else (), condition))

    def fetch(
        self, objects: "np.ndarray[Any, Any]", rows: "np.ndarray[Any, Any]", columns: Sequence[str]
    ) -> pa.Table:
        """Return columns of rows by their places, in the order asked for."""
        wanted, numbers = np.unique(objects), np.unique(rows)
        condition = ""
        if len(numbers) <= _MAX_LISTED_ROWS:
            condition = f"WHERE {ROW} IN ({', '.join(map(str, numbers.tolist())) or 'NULL'})"
        else:
            condition = f"WHERE {ROW} BETWEEN {numbers[0]} AND {numbers[-1]}"
        keys = _keys(wanted, objects, rows)
        kept: list[pa.RecordBatch] = []
        for batch in self._read(frozenset(wanted.tolist()), columns, ((), condition)):
            found = _keys(wanted, _numbers(batch, OBJECT), _numbers(batch, ROW))
            kept.append(batch.filter(pa.array(np.isin(found, keys))))
        table = pa.Table.from_batches(kept or [self.empty(columns)])
        found = _keys(wanted, _numbers(table, OBJECT), _numbers(table, ROW))
        order = np.argsort(found)
        taken: np.ndarray[Any, Any] = order[np.searchsorted(found, keys, sorter=order)] if len(keys) else keys
        return table.select(list(columns)).take(taken)

    def count(self, objects: Collection[int]) -> int:
        """Return how many rows some objects hold, from their footers."""
        return sum(
            self._cursor.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]  # noqa: S608 - quoted
            for query, _ in self._queries(frozenset(objects), ())
        )

    def mask(self, table: pa.Table, where: Filter) -> "np.ndarray[Any, Any]":
        """Return for which rows of a table of these columns a filter holds."""
        self._cursor.register(_MASKED, table)
        try:
            query = f"SELECT coalesce({where.sql}, false) AS holds FROM {_MASKED}"  # noqa: S608 - written by us
            found = self._cursor.sql(query).to_arrow_table()["holds"]
            return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
        finally:
            self._cursor.unregister(_MASKED)

    def _read(
        self, objects: frozenset[int], columns: Sequence[str], restricted: tuple[Sequence[str], str]
    ) -> Iterator[pa.RecordBatch]:
        needed, condition = restricted
        shown = ", ".join(quote.identifier(name) for name in (*columns, OBJECT, ROW))
        inner = list(dict.fromkeys([*columns, *needed]))
        for query, numbers in self._queries(objects, inner):
            text = f"SELECT {shown} FROM ({query}) {condition}"  # noqa: S608 - quoted
            for batch in self._cursor.sql(text).to_arrow_reader(_BATCH_ROWS):
                place = batch.schema.get_field_index(OBJECT)
                found = pa.array(numbers[batch.column(place).to_numpy(zero_copy_only=False)])
                yield batch.set_column(place, pa.field(OBJECT, pa.int64()), found)

    def _queries(
        self, objects: frozenset[int], columns: Sequence[str]
    ) -> Iterator[tuple[str, "np.ndarray[Any, Any]"]]:
        """Yield a query for each group of objects that share a schema, and the numbers of these objects."""
        for group in self._described.groups:
            kept = [place for place in group.objects if object_id(*place) in objects]
            if kept:
                part = Relation(self._described.schema, (ObjectGroup(group.schema, tuple(kept)),))
                numbers = np.array([object_id(*place) for place in kept], dtype=np.int64)
                yield select_rows(self._cursor, self._stores, part, columns, (OBJECT, ROW)), numbers

    def empty(self, columns: Sequence[str]) -> pa.RecordBatch:
        """Return what `scan` yields where there are no rows."""
        places = [pa.field(OBJECT, pa.int64()), pa.field(ROW, pa.int64())]
        schema = pa.schema([*(self.schema.field(name) for name in columns), *places])
        return pa.RecordBatch.from_pylist([], schema)


def _numbers(table: pa.RecordBatch | pa.Table, name: str) -> "np.ndarray[Any, Any]":
    column = table.column(name)
    return np.asarray(column.to_numpy(zero_copy_only=False) if len(column) else [], dtype=np.int64)


def _keys(
    wanted: "np.ndarray[Any, Any]", objects: "np.ndarray[Any, Any]", rows: "np.ndarray[Any, Any]"
) -> "np.ndarray[Any, Any]":
    """Return one number for each place, given the sorted numbers of all objects."""
    return (np.searchsorted(wanted, objects).astype(np.int64) << _ROW_BITS) | np.asarray(rows, np.int64)
