"""Activations: after a restart, many at once, and of more profiles than there is memory for."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.actions import act, act_all, put, vectors
from tests.e2e.test_lifecycle import children

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

ROWS, DIM = 10_000, 64
RANDOM = np.random.default_rng(2611)
VECTORS = RANDOM.standard_normal((ROWS, DIM)).astype(np.float32)


@contextmanager
def connected(**settings: Any) -> Iterator[tuple[Server, Any]]:
    with serve(**settings) as server, flight.connect(server.uri) as client:
        yield server, client


def make(client: Any, profile: str, shift: int) -> None:
    """Make a profile whose ids are those of VECTORS, moved by `shift`."""
    act(client, "create_profile", profile=profile)
    table = pa.table({"id": np.arange(ROWS) + shift, "vector": vectors(VECTORS.tolist())})
    put(client, (f"profile:{profile}", "docs"), table)


def nearest(query: Any, k: int) -> list[int]:
    """The ids that plain numpy finds."""
    lengths = np.linalg.norm(VECTORS, axis=1) * np.linalg.norm(query)
    found: list[int] = np.argsort(1 - VECTORS @ query / lengths, kind="stable")[:k].tolist()
    return found


def search(client: Any, profile: str, query: Any, k: int = 5) -> list[int]:
    written = "[" + ", ".join(map(repr, query.astype(float).tolist())) + "]"
    sql = f"SELECT id FROM vector_search('docs', {written}, k => {k}, profile => '{profile}')"
    found: list[Any] = flight_sql.query(client, sql)["id"].to_pylist()
    return found


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def test_after_a_restart_an_index_is_loaded_and_not_built(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with connected(data_dir=tmp_path) as (_, client):
        make(client, "ann", 0)
        built = act(client, "create_vector_index", profile="ann", table="docs", type="hnsw_sq")
    with connected(data_dir=tmp_path) as (_, client):
        row, summary = act_all(client, "activate_profile", profile="ann")
        assert (row["type"], row["rows"], row["dim"], row["tier"]) == ("hnsw_sq", ROWS, DIM, "exact")
        assert (summary["indexes"], summary["done"], summary["bytes"]) == (1, True, row["bytes"])
        assert row["bytes"] > VECTORS.nbytes
        assert summary["ms"] < built["seconds"] * 1000
        record_property("first_ms", timed(lambda: search(client, "ann", VECTORS[1])))
        for at in range(20):
            assert search(client, "ann", VECTORS[at]) == nearest(VECTORS[at], 5)
        record_property("steady_ms", min(timed(lambda: search(client, "ann", VECTORS[1])) for _ in range(9)))


def test_eight_activations_at_once_load_once() -> None:
    with connected() as (server, client):
        make(client, "ann", 0)
        start = threading.Barrier(8)

        def activate(_: int) -> list[dict[str, Any]]:
            with flight.connect(server.uri) as own:
                start.wait(20)
                return act_all(own, "activate_profile", profile="ann")

        with ThreadPoolExecutor(8) as pool:
            answers = [*pool.map(activate, range(8))]
        rows = [row for row, _ in answers]
        assert sum(row["open_ms"] > 0 for row in rows) == 1
        assert {(row["rows"], row["dim"], row["tier"], row["bytes"]) for row in rows} == {
            (ROWS, DIM, "exact", rows[0]["bytes"])
        }
        shown = flight_sql.query(client, "SELECT state FROM sys.profiles WHERE profile = 'ann'")
        assert shown["state"].to_pylist() == ["hot"]


def test_with_room_for_two_a_third_evicts_the_least_recently_used_whose_searches_finish() -> None:
    with connected(vectors={"memory": "8MB", "catch_up_after": 0}) as (server, client):
        for shift, profile in enumerate(("ann", "bob", "cat")):
            make(client, profile, shift * ROWS)
        for profile in ("ann", "bob"):
            assert act_all(client, "activate_profile", profile=profile)[0]["evicted"] == []
        batch = pa.record_batch({"vector": vectors(VECTORS[:4000].tolist())})
        began = threading.Event()

        def search_long() -> list[int]:
            with flight.connect(server.uri) as own:
                path = flight.FlightDescriptor.for_path("profile:ann", "docs", "search")
                writer, reader = own.do_exchange(path)
                with writer:
                    writer.begin(batch.schema)
                    writer.write_with_metadata(batch, b'{"k": 1}')
                    writer.done_writing()
                    began.set()
                    found: list[Any] = reader.read_all()["id"].to_pylist()
                return found

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(search_long)
            began.wait(20)
            time.sleep(0.2)
            assert search(client, "bob", VECTORS[7], 1) == [ROWS + 7]
            assert act_all(client, "activate_profile", profile="cat")[0]["evicted"] == ["profile:ann"]
            assert running.result() == [*range(4000)]
        states = flight_sql.query(client, "SELECT profile, state FROM sys.profiles WHERE \"table\" = 'docs'")
        assert {"profile": "cat", "state": "hot"} in states.to_pylist()
        assert search(client, "ann", VECTORS[7], 1) == [7]


def test_memory_does_not_grow_however_often_profiles_go_and_come_back() -> None:
    with connected(vectors={"memory": "8MB", "catch_up_after": 0}) as (server, client):
        profiles = ("ann", "bob", "cat")
        for shift, profile in enumerate(profiles):
            make(client, profile, shift * ROWS)
        (engine,) = children(server.process.pid)

        def rounds(count: int) -> int:
            for _ in range(count):
                for shift, profile in enumerate(profiles):
                    assert search(client, profile, VECTORS[3], 1) == [shift * ROWS + 3]
            time.sleep(1)
            return resident(engine)

        before = rounds(5)
        assert rounds(15) < before + 64 * 1024 * 1024


def test_memory_does_not_grow_however_often_a_dataset_is_replaced() -> None:
    rows, dim = 20_000, 256
    with connected() as (server, client):
        (engine,) = children(server.process.pid)

        def replaced(count: int) -> int:
            for _ in range(count):
                flat = pa.array(RANDOM.standard_normal(rows * dim).astype(np.float32))
                table = pa.table({"id": range(rows), "vector": pa.FixedSizeListArray.from_arrays(flat, dim)})
                put(client, ("profile:user", "docs"), table, mode="replace")
                query = np.array(table["vector"][7].as_py())
                assert search(client, "user", query, 1) == [7]
            return resident(engine)

        before = replaced(4)
        assert replaced(10) < before + 5 * rows * dim * 4


def resident(pid: int) -> int:
    """Return the memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096
