"""Who searches: clients of the server, and in this process LanceDB, hnswlib and the engine's own comparison.

Each is a function that searches for the next of some vectors, and begins anew after the last of them.
"""

import importlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
from adbc_driver_flightsql import dbapi

from benchmarks import clients
from benchmarks.measure import LeftOutError, seconds
from benchmarks.vector_data import Collection, Floats, Ints, K
from flight_server.domain.vector import IndexKind, Metric
from flight_server.vectors import exact
from flight_server.vectors.batching import Coalescer
from flight_server.vectors.lance import library
from flight_server.vectors.parameters import KINDS

_M, _EF_CONSTRUCTION, _EF = 16, 200, 128
_EFS = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)


def adbc_search(cursor: dbapi.Cursor, sql: str, queries: Floats) -> Callable[[], pa.Table]:
    """Search with a bound parameter; the rows are fetched."""
    kind = pa.list_(pa.float32())
    following = cycle([pa.record_batch({"vector": pa.array([query], kind)}) for query in queries])

    def once() -> pa.Table:
        cursor.execute(sql, next(following))
        return cursor.fetch_arrow_table()

    return once


def flight_search(client: fl.FlightClient, sql: str, queries: Floats) -> Callable[[], pa.Table]:
    """Search in two calls; the vector stands in the statement."""
    texts = [f"'{[round(float(value), 6) for value in query]}'" for query in queries]
    following = cycle([clients.statement(sql.replace("?", text)) for text in texts])
    return lambda: clients.fetch(client, next(following))


def engine_search(data: Collection) -> Callable[[], Ints]:
    """Search as the exact tier of an engine process does, without anything around it."""
    held, following = exact.bounded(exact.matrix(data.vectors)), cycle(data.queries)

    def once() -> Ints:
        (found,) = exact.nearest(held, next(following)[None], Metric.COSINE, K)
        return found.positions[np.argsort(found.distances, kind="stable")[:K]]

    return once


def engine_rate(data: Collection, count: int, for_seconds: float) -> float:
    """Return the searches a second of some threads that search as in an engine process, together."""
    held, together = exact.bounded(exact.matrix(data.vectors)), Coalescer[Floats, exact.Nearest]()
    until = time.monotonic() + for_seconds

    def work(queries: Sequence[Floats]) -> list[exact.Nearest]:
        return exact.nearest(held, np.array(queries), Metric.COSINE, K)

    def run(number: int) -> int:
        done = 0
        while time.monotonic() < until:
            query = data.queries[(number + done) % len(data.queries)]
            together.answer("", query, work, lambda: None)
            done += 1
        return done

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(run, range(count))) / for_seconds


def lance_search(path: str, kind: IndexKind, data: Collection) -> Callable[[], Ints]:
    """Search an index as the server does, by a call of LanceDB alone, for rows and distances."""
    folder, _, name = path.rpartition("/")
    table: Any = library().connect(folder).open_table(name)
    table.prewarm_index("vector_idx")
    following = cycle(data.queries)
    is_graph = kind in (IndexKind.HNSW_SQ, IndexKind.HNSW_FLAT)

    def once() -> Ints:
        asked = table.search(next(following), "vector").distance_type("cosine")
        asked = asked.refine_factor(KINDS[kind].refine)
        asked = asked.ef(_EF) if is_graph else asked
        found: Ints = asked.select(["object", "row", "_distance"]).limit(K).to_arrow()["row"].to_numpy()
        return found

    return once


class Hnswlib:
    """An index of hnswlib over the same vectors, built as the server's `hnsw_sq` is, searched by one thread.

    Raises LeftOutError when the library is not installed.
    """

    def __init__(self, data: Collection) -> None:
        try:
            own: Any = importlib.import_module("hnswlib")
        except ImportError as error:
            raise LeftOutError("needs hnswlib (pip install -r requirements-bench.txt)") from error
        rows, dim = data.vectors.shape
        self._data = data
        self._index = own.Index(space="cosine", dim=dim)
        self._index.init_index(max_elements=rows, M=_M, ef_construction=_EF_CONSTRUCTION)
        self.build_seconds = seconds(
            lambda: self._index.add_items(data.vectors, num_threads=os.cpu_count() or 1)
        )

    def least_ef(self, recall: float) -> int:
        """Return the first of some values of ef that finds so much; the last when none does."""
        for ef in _EFS:
            if self.recall(ef) >= recall:
                return ef
        return _EFS[-1]

    def recall(self, ef: int) -> float:
        """Return how much a value of ef finds."""
        once = self.search(ef)
        return self._data.recall([once() for _ in self._data.queries])

    def search(self, ef: int) -> Callable[[], Ints]:
        """Search with a value of ef."""
        following = cycle(self._data.queries)

        def once() -> Ints:
            self._index.set_ef(ef)
            labels, _ = self._index.knn_query(next(following), k=K, num_threads=1)
            found: Ints = labels[0].astype(np.int64)
            return found

        return once
