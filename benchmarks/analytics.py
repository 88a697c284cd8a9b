"""Rows about queries over stored objects: point lookup, join of two buckets, TPC-H."""

import itertools
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import duckdb
import pyarrow as pa
import pyarrow.flight as fl

from benchmarks import clients, plain_duckdb
from benchmarks.bench import Bench
from benchmarks.datasets import BATCH_ROWS
from benchmarks.measure import LeftOutError, Measured, interleaved, milliseconds, p50, ratio, seconds

_JOIN = """
    SELECT c.region, count(*) AS n, sum(o.amount) AS total
    FROM "primary".orders o JOIN testing.customers c ON o.customer = c.id
    GROUP BY c.region ORDER BY c.region
"""
_TPCH_TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")
_TPCH_QUERIES = Path(__file__).with_name("tpch_queries.sql")


def lookup(bench: Bench) -> list[Measured]:
    """Compare finding a row in a dataset of many objects with `read_parquet` of the same list."""
    plain, cursor = bench.in_process("scattered"), bench.adbc(bench.server.uri)
    source = plain_duckdb.object_list(bench.views("scattered")["primary.scattered"])
    calls, ids = max(2, bench.sizes.calls // 5), _random_ids(bench.sizes.scattered_objects * 10_000)

    def served() -> None:
        cursor.execute('SELECT * FROM "primary".scattered WHERE id = ?', [next(ids)])
        assert cursor.fetch_arrow_table().num_rows == 1

    def in_process() -> None:
        found = plain_duckdb.fetch(plain, f"SELECT * FROM {source} WHERE id = ?", [next(ids)])
        assert found.num_rows == 1

    found = interleaved({"server": p50(served, calls), "plain": p50(in_process, calls)}, bench.sizes.rounds)
    detail = f"{milliseconds(found['server'])} / {milliseconds(found['plain'])}"
    return [Measured(ratio(found["server"], found["plain"]), detail)]


def _random_ids(end: int) -> "itertools.starmap[int]":
    return itertools.starmap(random.Random(1).randrange, itertools.repeat((end,)))


def join(bench: Bench) -> list[Measured]:
    """Compare a join of datasets in two buckets with the same join in plain DuckDB."""
    plain = bench.in_process("orders", "customers")
    client, descriptor = bench.flight(bench.server.uri), clients.statement(_JOIN)
    found = interleaved(
        {
            "server": lambda: seconds(lambda: clients.fetch(client, descriptor)),
            "plain": lambda: seconds(lambda: plain_duckdb.fetch(plain, _JOIN)),
        },
        bench.sizes.rounds,
    )
    detail = f"{milliseconds(found['server'])} / {milliseconds(found['plain'])}"
    return [Measured(ratio(found["server"], found["plain"]), detail)]


def tpch(bench: Bench) -> list[Measured]:
    """Compare the 22 queries over Flight SQL with the same in plain DuckDB, total seconds."""
    generate = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or shutil.which(
        "tpchgen-cli"
    )
    if generate is None:
        raise LeftOutError("tpchgen-cli is not installed (a package of PyPI)")
    plain = bench.stack.enter_context(plain_duckdb.connect(_load_tpch(bench, generate)))
    plain.execute('SET search_path = "primary"')
    client = bench.flight(bench.server.uri)
    totals = {"server": 0.0, "plain": 0.0}
    worst = (0.0, 0)
    for number, sql in enumerate(_TPCH_QUERIES.read_text().split(";\n")[:22], 1):
        found = interleaved(_both(client, plain, sql), bench.sizes.slow_rounds)
        for name, values in found.items():
            totals[name] += median(values)
        worst = max(worst, (ratio(found["server"], found["plain"]), number))
    detail = (
        f"{totals['server']:.2f} s / {totals['plain']:.2f} s; "
        f"scale {bench.sizes.tpch_scale}; largest ratio {worst[0]:.2f}, query {worst[1]}"
    )
    return [Measured(totals["server"] / totals["plain"], detail)]


def _both(
    client: fl.FlightClient, plain: duckdb.DuckDBPyConnection, sql: str
) -> dict[str, Callable[[], float]]:
    descriptor = clients.statement(sql)
    return {
        "server": lambda: seconds(lambda: clients.fetch(client, descriptor)),
        "plain": lambda: seconds(lambda: plain_duckdb.fetch(plain, sql)),
    }


def _load_tpch(bench: Bench, generate: str) -> dict[str, list[str]]:
    folder = bench.folder / "tpch"
    scale = ["--scale-factor", bench.sizes.tpch_scale]
    subprocess.run(
        [generate, "parquet", *scale, "--output-dir", str(folder)],
        check=True,
        capture_output=True,
    )
    views = {}
    with duckdb.connect() as reader:
        for table in _TPCH_TABLES:
            files = plain_duckdb.object_list([str(folder / f"{table}.parquet")])
            rows: pa.RecordBatchReader = reader.sql(f"FROM {files}").to_arrow_reader(BATCH_ROWS)
            bench.upload("primary", table, rows)
            views[f"primary.{table}"] = bench.objects("primary", table)
    return views
