"""Rows about many small objects: appends, what compaction makes of them, and UPDATE of one row."""

import os
import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.flight as fl
from adbc_driver_flightsql import dbapi

from benchmarks.bench import Bench
from benchmarks.datasets import generate, wide_rows
from benchmarks.measure import Measured, interleaved, milliseconds, p50, ratio, seconds
from benchmarks.processes import cpu_seconds

_WRITERS = (4, 16)
_OBJECT_ROWS = 10_000
_OBJECT_BYTES = 3_000
_INSERT = "INSERT INTO inserted VALUES (1, 2, 3.5, DATE '2020-01-01', 'item-0')"


def appends(bench: Bench) -> list[Measured]:
    """Append small tables one after the other and from many clients; compact, and scan what they made."""
    rows = generate(wide_rows(0, 100)).read_all()
    for name in ("appended", "inserted"):
        bench.upload("primary", name, rows)
    cursor, durable = bench.adbc(bench.server.uri), _Durable(bench.folder)
    upload = partial(cursor.adbc_ingest, "appended", rows, mode="append")
    rounds = bench.sizes.rounds
    calls = max(1, bench.sizes.appends // rounds)
    used = {"upload": 0.0, "insert": 0.0}

    def counted(name: str, call: Callable[[], object]) -> float:
        before = cpu_seconds(bench.server_processes)
        took = p50(call, calls)()
        used[name] += (cpu_seconds(bench.server_processes) - before) / calls / (rounds + 1)
        return took

    with closing(durable):
        found = interleaved(
            {
                "upload": lambda: counted("upload", upload),
                "insert": lambda: counted("insert", lambda: cursor.execute(_INSERT)),
                "durable": p50(durable.write, calls),
            },
            rounds,
        )
    detail = (
        f"{used['upload'] * 1e3:.1f} ms server CPU; the same syncs alone {milliseconds(found['durable'])}; "
        f"INSERT of one row {milliseconds(found['insert'])}, {used['insert'] * 1e3:.1f} ms CPU; "
        + ", ".join(f"{writers} clients {_rate(bench, rows, writers):.0f}/s" for writers in _WRITERS)
    )
    return [Measured(median(found["upload"]) * 1e3, detail), _compacted(bench)]


class _Durable:
    """What an append has to wait for, and nothing else: one object, its folder, one commit of SQLite."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._catalog = sqlite3.connect(folder / "floor.db", isolation_level=None)
        for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE refs (key TEXT)"):
            self._catalog.execute(sql)

    def close(self) -> None:
        self._catalog.close()

    def write(self) -> None:
        self._count += 1
        key = f"floor-{self._count}"
        with (self._folder / key).open("wb") as file:
            file.write(os.urandom(_OBJECT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self._catalog.execute("INSERT INTO refs VALUES (?)", (key,))


def _rate(bench: Bench, rows: pa.Table, writers: int) -> float:
    """Return the appends in a second of several clients together."""
    each = max(1, bench.sizes.appends // 16)
    with ThreadPoolExecutor(writers) as threads:
        took = seconds(lambda: list(threads.map(lambda _: _append(bench, rows, each), range(writers))))
    return writers * each / took


def _append(bench: Bench, rows: pa.Table, count: int) -> None:
    with dbapi.connect(bench.server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for _ in range(count):
            cursor.adbc_ingest("appended", rows, mode="append")


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
