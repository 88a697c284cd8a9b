"""Hidden relations: each dataset version that statements use is one view, made once, never replaced.

A view reads one list of objects for each schema that its objects were written with: columns are
selected by name, cast to the version's types, and NULL where older objects do not have them.
"""

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain import partitions
from flight_server.domain.declarations import INITIAL, by_id, column_id, text
from flight_server.engine import quote
from flight_server.engine.binding import sql_types
from flight_server.engine.declared import definitions
from flight_server.engine.failures import Failures
from flight_server.engine.instance import HIDDEN_SCHEMA, Instance
from flight_server.errors import FailedPreconditionError
from flight_server.frames.requests import ObjectGroup, Relation
from flight_server.objects.store import ObjectStore

MAX_RELATIONS = 1_000
"""How many relations an instance keeps; the least recently used ones go first."""


_DESCRIBED_MARK = "?"
"""What the names of tables without rows end with, which DESCRIBE reads in the place of views."""


def described_relation(name: str) -> str:
    """Return the relation that has a dataset version's columns with all that it declares, and no rows."""
    return name + _DESCRIBED_MARK


Describe = Callable[[Sequence[str]], Mapping[str, Relation]]


class Relations:
    """The hidden relations of one instance.

    `_lock` guards the two maps and the making and dropping of views: a relation is made by one
    thread, the others wait for it.
    """

    def __init__(self, instance: Instance, stores: Mapping[str, ObjectStore], failures: Failures) -> None:
        self._cursor = instance.cursor()
        self.stores = stores
        self._failures = failures
        self._lock = threading.Lock()
        self._made: OrderedDict[str, None] = OrderedDict()
        self._pins: Counter[str] = Counter()

    @contextmanager
    def pinned(self, names: Sequence[str], describe: Describe) -> Iterator[None]:
        """Hold relations while a statement is bound and started; missing ones are described and made."""
        with self._lock:
            self._pins.update(names)
            missing = [name for name in dict.fromkeys(names) if name not in self._made]
        try:
            if missing:
                known = describe([*{name.removesuffix(_DESCRIBED_MARK) for name in missing}])
                self._make({name: known[name.removesuffix(_DESCRIBED_MARK)] for name in missing})
            yield
        finally:
            with self._lock:
                self._release(names)

    def _make(self, relations: Mapping[str, Relation]) -> None:
        for name, relation in relations.items():
            with self._lock:
                if name not in self._made:
                    with self._failures.translated():
                        self._cursor.execute(self._creation(name, relation))
                    self._made[name] = None

    def _creation(self, name: str, relation: Relation) -> str:
        if name.endswith(_DESCRIBED_MARK):
            return f"CREATE TABLE {_qualified(name)}({definitions(self._cursor, _schema(relation.schema))})"
        return f"CREATE VIEW {_qualified(name)} AS {self._select(relation)}"

    def _release(self, names: Sequence[str]) -> None:
        self._pins.subtract(names)
        for name in names:
            if name in self._made:
                self._made.move_to_end(name)
            if self._pins[name] <= 0:
                del self._pins[name]
        surplus = len(self._made) - MAX_RELATIONS
        for name in [name for name in self._made if name not in self._pins][: max(0, surplus)]:
            what = "TABLE" if name.endswith(_DESCRIBED_MARK) else "VIEW"
            self._cursor.execute(f"DROP {what} {_qualified(name)}")
            del self._made[name]

    def select(self, relation: Relation) -> str:
        """Return the query that reads a relation. Raises FailedPreconditionError if objects are gone."""
        with self._lock:
            return self._select(relation)

    def _select(self, relation: Relation) -> str:
        return select_objects(self._cursor, self.stores, relation)


def select_objects(
    cursor: duckdb.DuckDBPyConnection,
    stores: Mapping[str, ObjectStore],
    relation: Relation,
    object_column: str | None = None,
) -> str:
    """Return the SELECT that reads a relation; an `object_column` tells the path of each row's object.

    Raises FailedPreconditionError when an object is missing.
    """
    schema = _schema(relation.schema)
    types = dict(zip(schema.names, sql_types(cursor, schema)[1], strict=True))
    groups = [group for group in relation.groups if group.objects]
    if not groups:
        return _select_nothing(types | ({object_column: "VARCHAR"} if object_column else {}))
    return " UNION ALL ".join(_select_group(stores, types, schema, group, object_column) for group in groups)


def select_rows(
    cursor: duckdb.DuckDBPyConnection,
    stores: Mapping[str, ObjectStore],
    relation: Relation,
    columns: Sequence[str],
    places: tuple[str, str],
) -> str:
    """Return the SELECT of columns of a relation with one group, and of the places of its rows.

    They are named by `places`: which object of the group, counted from 0, and which row of that object.
    Raises FailedPreconditionError when an object is missing.
    """
    schema, group = _schema(relation.schema), relation.groups[0]
    wanted = pa.schema([schema.field(name) for name in columns])
    types = dict(zip(columns, sql_types(cursor, wanted)[1], strict=True)) if columns else {}
    at = ", ".join(
        f"CAST({source} AS BIGINT) AS {quote.identifier(name)}"
        for source, name in zip(("file_index", "file_row_number"), places, strict=True)
    )
    return _select_group(stores, types, wanted, group, None, at)


def _select_group(
    stores: Mapping[str, ObjectStore],
    types: Mapping[str, str],
    schema: pa.Schema,
    group: ObjectGroup,
    object_column: str | None,
    more: str | None = None,
) -> str:
    own = by_id(_schema(group.schema))
    columns = [_column(field, types[field.name], own.get(column_id(field))) for field in schema]
    paths = ", ".join(quote.text(_path(stores, bucket, key)) for bucket, key in group.objects)
    # Statistics leave NaN out: whoever goes by them alone does not find it.
    options = ", can_have_nan = true" + _partition_options(own.values())
    if object_column is not None:
        columns.append(quote.identifier(object_column))
        options += f", filename = {quote.text(object_column)}"
    if more is not None:
        columns.append(more)
    # The schema's name keeps clear of the macros that stand before read_parquet for clients.
    return f"SELECT {', '.join(columns)} FROM system.main.read_parquet([{paths}]{options})"  # noqa: S608 - quoted


def _path(stores: Mapping[str, ObjectStore], bucket: str, key: str) -> str:
    store = stores.get(bucket)
    if store is None:
        raise FailedPreconditionError(f"bucket {bucket} is not open in this engine process")
    if not store.exists(key):
        named = "an object that was ingested" if store.is_managed(key) else f"object {key!r}"
        raise FailedPreconditionError(f"{named} is missing from bucket {bucket}: bring it back")
    return _GLOB_CHARACTERS.sub(r"[\g<0>]", store.path(key))


_GLOB_CHARACTERS = re.compile(r"[*?\[]")
"""DuckDB expands them in every path; one in brackets stands for itself."""


def _schema(message: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(message))


def _qualified(name: str) -> str:
    return quote.path((HIDDEN_SCHEMA, name))


def _column(field: "pa.Field[Any]", sql_type: str, own: "pa.Field[Any] | None") -> str:
    name = quote.identifier(field.name)
    source = (text(field, INITIAL) or "NULL") if own is None else quote.identifier(own.name)
    # Parquet has no arrays of fixed size: its reader gives lists.
    if own is None or not own.type.equals(field.type) or _holds_arrays(field.type):
        source = f"CAST({source} AS {sql_type})"
    return source if source == name else f"{source} AS {name}"


def _holds_arrays(kind: Any) -> bool:
    return pa.types.is_fixed_size_list(kind) or any(
        _holds_arrays(kind.field(at).type) for at in range(kind.num_fields)
    )


_PARTITION_TYPES = {pa.int64(): "BIGINT", pa.date32(): "DATE", pa.utf8(): "VARCHAR"}


def _partition_options(own: Iterable["pa.Field[Any]"]) -> str:
    """Return how `read_parquet` finds the columns that stand in the keys of its objects."""
    types = [
        f"{quote.text(field.name)}: {_PARTITION_TYPES[field.type]}"
        for field in own
        if partitions.marked(field)
    ]
    if not types:
        # DuckDB would otherwise look for partitions by itself, and let them win over columns.
        return ", hive_partitioning = false"
    return f", hive_partitioning = true, hive_types = {{{', '.join(types)}}}"


def _select_nothing(types: Mapping[str, str]) -> str:
    columns = [f"CAST(NULL AS {kind}) AS {quote.identifier(name)}" for name, kind in types.items()]
    return f"SELECT {', '.join(columns)} WHERE false"
