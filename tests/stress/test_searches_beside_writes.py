"""Searches through two servers of one catalog, while both append, update, delete, compact and index.

A search in a transaction is held against what a SELECT in the same transaction returns: it finds the rows
that there are, at the distances that they have, whatever an index still knows.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests.actions import act, put, vectors

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

DIM, FIRST_ROWS, K = 32, 4_000, 10
SECONDS = 20
PROFILE = {"adbc.flight.sql.rpc.call_header.x-lakehouse-profile": "user"}
ALLOWED = (
    "ABORTED",
    "aborted",
    "changed meanwhile",
    "changed by another commit",
    "already",
    "has no index",
    "is being",
    "conflict",
)
"""What those may be told who change the same things at the same time."""


@dataclass
class Run:
    """What the threads of one run share."""

    servers: list[Server]
    random: random.Random
    until: float
    failures: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: iter(range(FIRST_ROWS, 10_000_000)))
    recalls: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + 1


def docs(ids: list[int]) -> pa.Table:
    made = np.random.default_rng(ids[0]).standard_normal((len(ids), DIM)).astype(np.float32)
    return pa.table({"id": pa.array(ids, pa.int64()), "vector": vectors(made.tolist())})


@contextmanager
def connected(server: Server, *, autocommit: bool) -> Iterator[tuple[Any, Any]]:
    with (
        dbapi.connect(server.uri, db_kwargs=PROFILE, autocommit=autocommit) as connection,
        connection.cursor() as cursor,
    ):
        yield connection, cursor


def written(vector: Any) -> str:
    return "[" + ", ".join(map(repr, np.asarray(vector, float).tolist())) + "]"


def search(run: Run, server: Server, exact: bool) -> None:
    """Search in transactions, and compare with plain numpy over the rows that the transaction sees."""
    with connected(server, autocommit=False) as (connection, own):
        while time.monotonic() < run.until:
            own.execute("SELECT id, vector FROM docs")
            seen = own.fetch_arrow_table()
            ids = seen["id"].to_numpy()
            matrix = np.asarray(seen["vector"].to_pylist(), np.float64)
            query = np.random.default_rng(run.random.randrange(1 << 30)).standard_normal(DIM)
            query = query.astype(np.float32).astype(np.float64)
            distances = 1 - matrix @ query / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(query))
            own.execute(
                f"SELECT id, _distance FROM vector_search('docs', '{written(query)}', k => {K}, "
                f"exact => {str(exact).lower()}) ORDER BY _distance"
            )
            found = own.fetch_arrow_table()
            connection.rollback()
            check(run, dict(zip(ids.tolist(), distances.tolist(), strict=True)), found, exact)
            run.count("searches")


def check(run: Run, distances: dict[int, float], found: pa.Table, exact: bool) -> None:
    told: dict[Any, Any] = dict(zip(found["id"].to_pylist(), found["_distance"].to_pylist(), strict=True))
    assert len(told) == found.num_rows == min(K, len(distances)), "rows are missing, or there twice"
    wrong = {id_ for id_, distance in told.items() if abs(distances.get(id_, 9) - distance) > 1e-5}
    assert not wrong, f"rows that are not there, or not so far away: {wrong}"
    limit = sorted(distances.values())[len(told) - 1] + 1e-6
    recall = sum(distances[id_] <= limit for id_ in told) / len(told)
    assert recall == 1 or not exact, "not the nearest"
    run.recalls.append(recall)


def append(run: Run, server: Server) -> None:
    with flight.connect(server.uri) as client:
        while time.monotonic() < run.until:
            with run.lock:
                ids = [next(run.ids) for _ in range(20)]
            put(client, ("profile:user", "docs"), docs(ids), mode="append")
            run.count("appends")
            time.sleep(0.05)


def change(run: Run, server: Server) -> None:
    with connected(server, autocommit=True) as (_, own):
        while time.monotonic() < run.until:
            id_ = run.random.randrange(FIRST_ROWS)
            statement = run.random.choice(
                [
                    "UPDATE docs SET vector = list_transform(vector, lambda x: -x) "
                    f"WHERE id % 97 = {id_ % 97}",
                    f"DELETE FROM docs WHERE id = {id_}",
                ]
            )
            with tolerated(run, statement[:6]):
                own.execute(statement)
            time.sleep(0.1)


def maintain(run: Run, server: Server) -> None:
    steps: dict[str, Callable[[Any], object]] = {
        "compact": lambda client: act(client, "compact", bucket="profile:user", dataset="docs"),
        "create_vector_index": lambda client: act(
            client,
            "create_vector_index",
            profile="user",
            table="docs",
            type=run.random.choice(["ivf_flat", "hnsw_sq"]),
        ),
        "drop_vector_index": lambda client: act(client, "drop_vector_index", profile="user", table="docs"),
        "deactivate_profile": lambda client: act(client, "deactivate_profile", profile="user"),
    }
    with flight.connect(server.uri) as client:
        while time.monotonic() < run.until:
            name = run.random.choice([*steps, "create_vector_index", "create_vector_index"])
            with tolerated(run, name):
                steps[name](client)
            time.sleep(0.3)


@contextmanager
def tolerated(run: Run, name: str) -> Iterator[None]:
    try:
        yield
    except (dbapi.Error, pa.ArrowException, OSError) as error:
        if not any(words in str(error) for words in ALLOWED):
            raise
        run.count(f"{name} refused")
    else:
        run.count(name)


def guarded(run: Run, work: Callable[..., None], *arguments: Any) -> threading.Thread:
    def body() -> None:
        try:
            work(run, *arguments)
        except Exception as error:
            run.failures.append(f"{work.__name__}: {type(error).__name__}: {error}")
            run.until = 0

    thread = threading.Thread(target=body)
    thread.start()
    return thread


@pytest.mark.parametrize("memory", ["64MiB", "1MiB"])
def test_every_search_finds_the_rows_that_its_transaction_sees(tmp_path: Path, memory: str) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201
    with ExitStack() as stack:
        settings = {"memory": memory, "catch_up_after": 0.5}
        servers = [stack.enter_context(serve(data_dir=tmp_path, vectors=settings)) for _ in range(2)]
        with flight.connect(servers[0].uri) as client:
            put(client, ("profile:user", "docs"), docs([*range(FIRST_ROWS)]))
            act(client, "create_vector_index", profile="user", table="docs", type="hnsw_sq")
        run = Run(servers, random.Random(seed), time.monotonic() + SECONDS)
        threads = [guarded(run, work, server) for server in servers for work in (append, change, maintain)]
        threads += [guarded(run, search, server, exact) for server in servers for exact in (True, False)]
        for thread in threads:
            thread.join()
        print(run.counts, run.failures)  # noqa: T201
        assert run.failures == []
        assert run.counts["searches"] >= 10
        assert np.mean(run.recalls) >= 0.9
