"""Builds indexes, brings them up to date, and drops them; each step writes a new version of a Lance table.

Searches read the version that the catalog records, so a build that is discarded or cut off changes nothing.
"""

import logging
import math
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.errors import InvalidArgumentError, LakehouseError
from flight_server.vectors import mapped
from flight_server.vectors.blocks import EXACT_ROWS
from flight_server.vectors.index_rows import (
    ROWS_SHARE,
    IndexedColumn,
    IndexOrder,
    IndexRows,
    Tell,
    indexed_column,
    surveyed,
    written,
)
from flight_server.vectors.lance import Lance, configuration, storing
from flight_server.vectors.opened import (
    COLUMN_KEY,
    TEXT_INDEX,
    VECTOR_INDEX,
    covered_objects,
    read_table,
    sql_integers,
)
from flight_server.vectors.parameters import KINDS, build_arguments, checked, chosen_kind
from flight_server.vectors.source import Check, Source

_log = logging.getLogger("flight_server.vectors")

_LEAST_INDEXED_ROWS = 1_000
"""Fewer rows are searched exactly by LanceDB; too few cannot be trained on."""

_SECONDS_PER_VALUE = 1e-6
_TOLD_SECONDS = 0.5
_OBJECTS_A_DELETE = 500
_VERSIONS_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Built:
    """What has been built, as the catalog records it; `bytes` are those of memory that it takes.

    `is_anew` tells that another table was made in the place of one that could not be used any more.
    """

    column: str
    kind: IndexKind
    metric: Metric
    params: Mapping[str, object]
    lance_version: int
    rows: int
    dim: int
    bytes: int
    seconds: float
    is_anew: bool = False


def build(lance: Lance, source: Source, order: IndexOrder, tell: Tell, check: Check) -> Built:
    """Write a table of all rows of a dataset version and index it. Raises InvalidArgumentError."""
    started = time.monotonic()
    column = indexed_column(source.schema, order.column, order.kind)
    total = source.count(source.objects)
    order = replace(order, kind=chosen_kind(order.kind, total), column=column.name)
    order = replace(order, params=checked(order.kind, order.params, source.schema))
    dim = surveyed(source, column, order.metric, check)
    _check_sub_vectors(order.params, dim)
    rows = IndexRows(source, order, column, dim)
    data = rows.reader(source.objects, total, tell, check)
    with storing(order.bucket), written(rows):
        table = lance.connection(order.bucket).create_table(
            order.table, data=data, schema=rows.schema, mode="overwrite"
        )
    _index(table, order, dim, tell)
    return _built(lance, table, order, column, started)


def _index(table: Any, order: IndexOrder, dim: int, tell: Tell) -> None:
    """Index a table that has just been written, telling of it meanwhile."""
    rows = table.count_rows()
    is_text = order.kind is IndexKind.FTS
    if not rows or (not is_text and rows < _LEAST_INDEXED_ROWS):
        return
    arguments = build_arguments(order.kind, order.params)
    if not is_text:
        arguments["distance_type"] = str(order.metric)
    try:
        config = configuration(KINDS[order.kind].name, arguments)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"an index cannot be built with these parameters: {error}") from error
    column, name = ("text", TEXT_INDEX) if is_text else ("vector", VECTOR_INDEX)
    expected = rows * max(dim, 16) * _SECONDS_PER_VALUE
    with _telling(tell, expected), storing(order.bucket):
        table.create_index(column, config=config, name=name, replace=True)


def _check_sub_vectors(params: Mapping[str, object], dim: int) -> None:
    parts = params.get("num_sub_vectors")
    if isinstance(parts, int) and dim % parts:
        raise InvalidArgumentError(
            f"parameter num_sub_vectors must divide the dimension, {dim}: {parts} does not"
        )


@contextmanager
def _telling(tell: Tell, expected_seconds: float) -> Iterator[None]:
    """Tell in the background how far a step should be that says nothing by itself."""
    done, started = threading.Event(), time.monotonic()

    def run() -> None:
        while not done.wait(_TOLD_SECONDS):
            share = 1 - math.exp((started - time.monotonic()) / max(0.5, expected_seconds))
            with suppress(ConnectionError):  # nobody listens any more: the step is discarded when it ends
                tell("index", ROWS_SHARE + (0.99 - ROWS_SHARE) * share)

    thread = threading.Thread(target=run, name="index-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _built(lance: Lance, table: Any, order: IndexOrder, column: IndexedColumn, started: float) -> Built:
    rows, dim = table.count_rows(), 0
    if column.vectors is not None:
        dim = table.schema.field("vector").type.list_size
    sizes = sum(index.size_bytes or 0 for index in table.list_indices())
    size = sizes or rows * dim * 4
    folder = lance.folder(order.bucket)
    if folder is not None and column.vectors is not None and rows <= EXACT_ROWS:
        with storing(order.bucket):
            mapped.write(folder, order.table, table.version, read_table(table), column.key)
    seconds = time.monotonic() - started
    return Built(
        column.name, order.kind, order.metric, order.params, table.version, rows, dim, size, round(seconds, 3)
    )


def update(lance: Lance, source: Source, record: IndexRecord, tell: Tell, check: Check, anew: str) -> Built:
    """Bring an index up to a dataset version; one that has changed by more than half is built anew.

    So is one that cannot be read, in a table of the name `anew`: LanceDB does not write over what is damaged.
    """
    order = IndexOrder(record.bucket, record.table, record.column, record.kind, record.metric, record.params)
    try:
        built = _extended(lance, source, record, order, tell, check)
    except LakehouseError:
        raise
    except Exception as error:
        _log.warning("an index is built anew, for it cannot be read: %s", type(error).__name__)
        return replace(build(lance, source, replace(order, table=anew), tell, check), is_anew=True)
    return built or build(lance, source, order, tell, check)


def _extended(
    lance: Lance, source: Source, record: IndexRecord, order: IndexOrder, tell: Tell, check: Check
) -> Built | None:
    """Bring an index up to a dataset version; None where building it anew is better."""
    started, column = time.monotonic(), indexed_column(source.schema, record.column, record.kind)
    with storing(record.bucket):
        table = _at_version(lance, record)
    covered = covered_objects(table)
    own = (table.schema.metadata or {}).get(COLUMN_KEY, b"").decode()
    gone, new = covered - source.objects.keys(), source.objects.keys() - covered
    added, removed, total = source.count(new), _rows_of(table, gone), table.count_rows()
    if own != column.key or 2 * (added + removed) > total or total < _LEAST_INDEXED_ROWS:
        return None
    with storing(record.bucket):
        _delete(table, gone)
    if new:
        rows = IndexRows(source, order, column, record.dim)
        with storing(record.bucket), written(rows):
            table.add(rows.reader(new, added, tell, check))
    seconds = (added + removed) * max(record.dim, 16) * _SECONDS_PER_VALUE
    with _telling(tell, seconds), storing(record.bucket):
        table.optimize(cleanup_older_than=_spared(table, record))
    _clean(lance, record)
    return _built(lance, table, order, column, started)


def _spared(table: Any, record: IndexRecord) -> timedelta:
    """Return how old a version must be to go: the recorded one is what searches use until the next is."""
    made = {version["version"]: version["timestamp"] for version in table.list_versions()}
    since: timedelta = made[table.version] - made[record.lance_version]
    return _VERSIONS_KEPT + since


def _at_version(lance: Lance, record: IndexRecord) -> Any:
    """Open a table with the recorded version as its newest: a later one was never recorded."""
    table = lance.table(record.bucket, record.table)
    if table.version != record.lance_version:
        table.restore(record.lance_version)
    return table


def _rows_of(table: Any, objects: Collection[int]) -> int:
    return sum(table.count_rows(f"object IN ({part})") for part in _parts(objects))


def _delete(table: Any, objects: Collection[int]) -> None:
    for part in _parts(objects):
        table.delete(f"object IN ({part})")


def _parts(objects: Collection[int]) -> Iterator[str]:
    ordered: Sequence[int] = sorted(objects)
    for at in range(0, len(ordered), _OBJECTS_A_DELETE):
        yield sql_integers(ordered[at : at + _OBJECTS_A_DELETE])


def _clean(lance: Lance, record: IndexRecord) -> None:
    """Remove mapped vectors but those of the version that is still recorded."""
    folder = lance.folder(record.bucket)
    if folder is not None:
        mapped.remove(folder, record.table, (record.lance_version,))


def drop(lance: Lance, bucket: str, table: str) -> None:
    """Remove an index with its files; one that is not there is no error."""
    with storing(bucket):
        lance.connection(bucket).drop_table(table, ignore_missing=True)
        folder = lance.folder(bucket)
        if folder is not None:
            mapped.remove(folder, table)
