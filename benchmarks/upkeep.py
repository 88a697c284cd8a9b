"""Rows about many small objects: appends, what compaction makes of them, and UPDATE of one row."""

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

import pyarrow as pa
import pyarrow.flight as fl
from adbc_driver_flightsql import dbapi

from benchmarks.bench import Bench
from benchmarks.datasets import generate, wide_rows
from benchmarks.measure import Measured, interleaved, milliseconds, p50, ratio, seconds

_WRITERS = 16
_OBJECT_ROWS = 10_000


def appends(bench: Bench) -> list[Measured]:
    """Append small tables one after the other and from many clients; compact, and scan what they made."""
    rows = generate(wide_rows(0, 100)).read_all()
    bench.upload("primary", "appended", rows)
    took = sorted(_append(bench, rows, bench.sizes.appends))
    tenth = max(1, len(took) // 10)
    together = seconds(lambda: _append_from_many(bench, rows))
    rate = bench.sizes.appends // _WRITERS * _WRITERS / together
    detail = (
        f"{len(took)} appends, p90 {milliseconds(took[-tenth : len(took) - tenth + 1])}; "
        f"{_WRITERS} clients together {rate:.0f}/s"
    )
    return [Measured(median(took) * 1e3, detail), _compacted(bench)]


def _append(bench: Bench, rows: pa.Table, count: int) -> list[float]:
    with dbapi.connect(bench.server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        return [seconds(lambda: cursor.adbc_ingest("appended", rows, mode="append")) for _ in range(count)]


def _append_from_many(bench: Bench, rows: pa.Table) -> None:
    with ThreadPoolExecutor(_WRITERS) as threads:
        each = bench.sizes.appends // _WRITERS
        for done in [threads.submit(_append, bench, rows, each) for _ in range(_WRITERS)]:
            done.result()


def _compacted(bench: Bench) -> Measured:
    cursor = bench.adbc(bench.server.uri)
    cursor.execute("FROM appended")
    bench.upload("primary", "at_once", cursor.fetch_arrow_table())
    before = seconds(lambda: _scan(cursor, "appended"))
    work = fl.Action("compact", b'{"dataset": "appended"}')
    took = seconds(lambda: list(bench.flight(bench.server.uri).do_action(work)))
    calls = bench.sizes.calls // 5
    found = interleaved(
        {name: p50(partial(_scan, cursor, name), calls) for name in ("appended", "at_once")},
        bench.sizes.rounds,
    )
    detail = (
        f"{milliseconds(found['appended'])} / {milliseconds(found['at_once'])}; first scan before "
        f"{milliseconds([before])}; compact took {took:.2f} s"
    )
    return Measured(ratio(found["appended"], found["at_once"]), detail)


def _scan(cursor: dbapi.Cursor, name: str) -> object:
    cursor.execute(f"SELECT sum(price), count(DISTINCT code) FROM {name}")
    return cursor.fetchall()


def update(bench: Bench) -> list[Measured]:
    """Update one row at a time in a dataset of many objects and in one of a single object of that size."""
    count = bench.sizes.scattered_objects
    rows = generate(wide_rows(0, count * _OBJECT_ROWS)).read_all()
    bench.upload("primary", "single", rows.slice(0, _OBJECT_ROWS))
    for number in range(count):
        bench.upload("primary", "pieces", rows.slice(number * _OBJECT_ROWS, _OBJECT_ROWS))
    cursor = bench.adbc(bench.server.uri)
    choice, sizes = random.Random(5), {"pieces": len(rows), "single": _OBJECT_ROWS}

    def change(name: str) -> object:
        return cursor.execute(f"UPDATE {name} SET code = code + 1 WHERE id = {choice.randrange(sizes[name])}")

    calls = max(1, bench.sizes.calls // 10)
    found = interleaved({name: p50(partial(change, name), calls) for name in sizes}, bench.sizes.rounds)
    detail = (
        f"{milliseconds(found['pieces'])} / {milliseconds(found['single'])}; objects of {_OBJECT_ROWS:,} rows"
    )
    return [Measured(ratio(found["pieces"], found["single"]), detail)]
