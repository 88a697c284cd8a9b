"""Rows about vectors: activation, single searches, searches in SQL, many searchers."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
from adbc_driver_flightsql import dbapi

from benchmarks import vector_data
from benchmarks.bench import Bench
from benchmarks.measure import LeftOutError, Measured, interleaved, milliseconds, p50, ratio, seconds
from benchmarks.processes import cpu_seconds, load
from benchmarks.searching import (
    Hnswlib,
    adbc_search,
    engine_rate,
    engine_search,
    flight_search,
    lance_search,
)
from benchmarks.vector_data import AUTHORS, Collection
from flight_server import testing
from flight_server.domain.vector import IndexKind, Tier

INDEXED = (IndexKind.HNSW_SQ, IndexKind.IVF_SQ, IndexKind.IVF_RQ)
TIERS = ("exact", *INDEXED, "hnswlib")

_PROFILE, _BUCKET = "user", "profile:user"
_SEARCH = "SELECT id, _distance FROM vector_search('\"profile:user\".{name}', ?, k => 10)"
_JOIN = (
    "SELECT v.id, a.name, v._distance FROM vector_search('\"profile:user\".{name}', ?, k => 10) v "
    "JOIN testing.authors a USING (author) ORDER BY v._distance"
)
_BATCH_ROWS = 4_096
_TIGHT_BYTES = 3
"""Memory for each value: less than exact search needs, enough for every kind of index."""

_EQUAL_RECALL, _WHOLE_RECALL = 0.98, 1.0
_SEARCHER_PROCESSES = _SEARCHERS_EACH = 4


@cache
def _collection(rows: int, queries: int) -> Collection:
    return vector_data.collection(rows, queries)


def _data(bench: Bench) -> Collection:
    return _collection(bench.sizes.vectors, bench.sizes.vector_queries)


def _act(uri: str, name: str, **body: object) -> list[dict[str, Any]]:
    """Run an action to its end and return what it told."""
    with fl.connect(uri) as client:
        action = fl.Action(name, json.dumps({"profile": _PROFILE, **body}).encode())
        return [json.loads(result.body.to_pybytes()) for result in client.do_action(action)]


def _upload(bench: Bench, name: str) -> None:
    bench.upload(_BUCKET, name, _data(bench).table().to_reader(_BATCH_ROWS))


def _indexed(bench: Bench, kind: IndexKind) -> float:
    """Upload the vectors as a dataset called like a kind of index, build that, and return its seconds."""
    _upload(bench, kind)
    return seconds(lambda: _act(bench.server.uri, "create_vector_index", table=kind, type=kind))


def activation(bench: Bench) -> list[Measured]:
    """Start servers over a profile with an index; activate it in each, and search."""
    build = _indexed(bench, IndexKind.HNSW_SQ)
    found = [_activated(bench) for _ in range(bench.sizes.slow_rounds)]
    walls, told, firsts, steady = zip(*found, strict=True)
    return [
        Measured(median(walls) * 1e3, f"{milliseconds(walls)} with the call; reported {milliseconds(told)}"),
        Measured(build / median(walls), f"{build:.1f} s / {milliseconds(walls)}; hnsw_sq"),
        Measured(ratio(firsts, steady), f"{milliseconds(firsts)} / {milliseconds(steady)}"),
    ]


def _activated(bench: Bench) -> tuple[float, float, float, float]:
    """Return seconds: of activating in a fresh process, as it reports, of the first search, of later ones."""
    with (
        testing.serve(data_dir=bench.server.data_dir, telemetry={"log_level": "warning"}) as server,
        dbapi.connect(server.uri, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1")
        cursor.fetchall()
        reports: list[dict[str, Any]] = []
        wall = seconds(lambda: reports.extend(_act(server.uri, "activate_profile")))
        search = adbc_search(cursor, _SEARCH.format(name=IndexKind.HNSW_SQ), _data(bench).queries)
        first = seconds(search)
        return wall, reports[-1]["ms"] / 1e3, first, p50(search, bench.sizes.calls)()


def _tight_server(bench: Bench) -> str:
    """Start another server over the same data that has not the memory to search exactly; return its URI."""
    rows, dim = _data(bench).vectors.shape
    server = testing.serve(
        data_dir=bench.server.data_dir,
        telemetry={"log_level": "warning"},
        vectors={"memory": rows * dim * _TIGHT_BYTES},
    )
    return bench.stack.enter_context(server).uri


def _searching(bench: Bench, uri: str, sql: str, tier: Tier) -> Callable[[], pa.Table]:
    """Return a search through ADBC. Raises RuntimeError when it is not answered as it should be."""
    cursor, data = bench.adbc(uri), _data(bench)
    cursor.execute(f"EXPLAIN {sql.replace('?', repr(str(data.queries[0].tolist())))}")
    told = str(cursor.fetchall()[-1])
    if f"tier {tier}" not in told:
        raise RuntimeError(f"searches should be answered by tier {tier}: {told}")
    return adbc_search(cursor, sql, data.queries)


def search(bench: Bench) -> list[Measured]:
    """Compare one search after the other with hnswlib; look at what each kind of index finds."""
    data, calls = _data(bench), max(1, bench.sizes.calls // 2)
    built = {kind: f"built in {_indexed(bench, kind):.1f} s" for kind in INDEXED}
    library = Hnswlib(data)
    equal, whole = library.least_ef(_EQUAL_RECALL), library.least_ef(_WHOLE_RECALL)
    searches = _searches(bench) | {"hnswlib": library.search(equal), "whole": library.search(whole)}
    recalls = {name: data.recall(_ids(searches[name], len(data.queries))) for name in (*TIERS, "whole")}
    found = interleaved({name: p50(once, calls) for name, once in searches.items()}, bench.sizes.slow_rounds)
    took = {name: milliseconds(values) for name, values in found.items()}
    notes = {
        "exact": f"through ADBC; the comparison alone {took['engine']}",
        **{
            str(kind): f"through ADBC; LanceDB's call alone {took[f'lance {kind}']}; {built[kind]}"
            for kind in INDEXED
        },
        "hnswlib": f"in process, ef {equal}; built in {library.build_seconds:.1f} s",
    }
    others = f"{took['hnswlib']}, or {took['whole']} for recall {recalls['whole']:.3f}"
    flight = f"{took['flight']} in two calls of `pyarrow.flight`"
    return [
        Measured(ratio(found["engine"], found["hnswlib"]), f"{took['engine']} / {others}"),
        Measured(ratio(found["exact"], found["hnswlib"]), f"{took['exact']} ({flight}) / {others}"),
        *(Measured(recalls[name], f"p50 {took[name]} {notes[name]}") for name in TIERS),
    ]


def _searches(bench: Bench) -> dict[str, Callable[[], Any]]:
    """Return searches of each tier and kind of index through the server, and what each takes alone."""
    data, paths, tight = _data(bench), bench.indexes(_BUCKET), _tight_server(bench)
    plain = _SEARCH.format(name=IndexKind.HNSW_SQ)
    found: dict[str, Callable[[], Any]] = {
        "engine": engine_search(data),
        "exact": _searching(bench, bench.server.uri, plain, Tier.EXACT),
        "flight": flight_search(bench.flight(bench.server.uri), plain, data.queries),
    }
    for kind in INDEXED:
        found[kind] = _searching(bench, tight, _SEARCH.format(name=kind), Tier.INDEX)
        found[f"lance {kind}"] = lance_search(paths[kind], kind, data)
    return found


def _ids(once: Callable[[], Any], count: int) -> list[Any]:
    """Return the rows that the first searches find."""
    found = [once() for _ in range(count)]
    return [each["id"].to_numpy() if isinstance(each, pa.Table) else each for each in found]


def join(bench: Bench) -> list[Measured]:
    """Compare a search that is joined in SQL with LanceDB's call alone, on the same index."""
    data, kind = _data(bench), IndexKind.HNSW_SQ
    _indexed(bench, kind)
    numbers = pa.array(range(AUTHORS), pa.int64())
    authors = pa.table({"author": numbers, "name": [f"author {number}" for number in range(AUTHORS)]})
    bench.upload("testing", "authors", authors)
    sql, tight = _JOIN.format(name=kind), _tight_server(bench)
    searches = {
        "index": _searching(bench, tight, sql, Tier.INDEX),
        "exact": _searching(bench, bench.server.uri, sql, Tier.EXACT),
        "plain": _searching(bench, tight, _SEARCH.format(name=kind), Tier.INDEX),
        "lance": lance_search(bench.indexes(_BUCKET)[kind], kind, data),
    }
    calls = max(1, bench.sizes.calls // 2)
    found = interleaved({name: p50(once, calls) for name, once in searches.items()}, bench.sizes.slow_rounds)
    detail = (
        f"{milliseconds(found['index'])} / {milliseconds(found['lance'])}; without the join "
        f"{milliseconds(found['plain'])}, joined in the exact tier {milliseconds(found['exact'])}"
    )
    return [Measured(ratio(found["index"], found["lance"]), detail)]


def searchers(bench: Bench) -> list[Measured]:
    """Compare searches a second of 16 clients with those of one, each searching one after the other."""
    _upload(bench, "docs")
    data, sizes = _data(bench), bench.sizes
    file, sql = bench.folder / "queries.npy", _SEARCH.format(name="docs")
    np.save(file, data.queries)
    _act(bench.server.uri, "activate_profile")

    def clients(processes: int, each: int) -> Callable[[], float]:
        arguments = (bench.server.uri, sql, str(file), str(each))
        return bench.stack.enter_context(
            load(processes, sizes.load_seconds, "benchmarks.search_client", *arguments)
        )

    many, one = clients(_SEARCHER_PROCESSES, _SEARCHERS_EACH), clients(1, 1)
    used: list[float] = []

    def measured() -> float:
        before = cpu_seconds(bench.server_processes)
        rate = many()
        used.append((cpu_seconds(bench.server_processes) - before) / max(1.0, rate * sizes.load_seconds))
        return rate

    found = interleaved(
        {
            "many": measured,
            "one": one,
            "threads": lambda: engine_rate(data, _SEARCHER_PROCESSES * _SEARCHERS_EACH, sizes.load_seconds),
            "thread": lambda: engine_rate(data, 1, sizes.load_seconds),
        },
        sizes.slow_rounds,
    )
    rates = {name: f"{median(values):.0f}/s" for name, values in found.items()}
    detail = (
        f"{rates['many']} / {rates['one']}; server CPU a search {milliseconds(used)}; the comparison alone, "
        f"in process: 16 threads {rates['threads']}, one {rates['thread']}"
    )
    return [Measured(ratio(found["many"], found["one"]), detail)]


def on_s3(bench: Bench) -> Sequence[Measured]:
    """Raise LeftOutError: there is no bucket on S3 to measure."""
    raise LeftOutError("buckets are local folders so far")
