"""Trials run, fail, are cancelled and killed while others search: nothing that searches use changes."""

import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.actions import act, act_all, put
from tests.e2e.test_lifecycle import children
from tests.stress.searches import DIM, ROWS, SETTINGS, check_searches, docs, plan, searching

pytestmark = [pytest.mark.stress, pytest.mark.timeout(200)]

QUERIES = 12
TRIAL = {"profile": "user", "table": "docs", "eval_set": "own", "search": [{}], "k": 10}
KINDS = [{"type": "ivf_flat"}, {"type": "hnsw_sq", "ef_construction": 300}, {"type": "ivf_sq"}]
SLOW = {"type": "hnsw_flat", "ef_construction": 400, "m": 24}


def described(data_dir: Path) -> object:
    """Return all that makes the index of searches: its record, its files."""
    with sqlite3.connect(data_dir / "catalog.db") as catalog:
        records = catalog.execute("SELECT * FROM vector_indexes").fetchall()
    files = [path for path in data_dir.glob("**/vectors/**/*") if path.is_file()]
    return records, sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def answers(cursor: Any, numbers: range) -> list[Any]:
    found = []
    for number in numbers:
        query = np.random.default_rng(number).standard_normal(DIM).astype(np.float32).tolist()
        cursor.execute(f"SELECT id, _distance FROM vector_search('docs', '{query}') ORDER BY _distance, id")
        found.append(cursor.fetchall())
    return found


class Beside:
    """Searches and sweeps in the block, and finds what was found before; `counts` tells how often."""

    def __init__(self, uri: str, expected: list[Any]) -> None:
        self.uri, self.expected, self.counts = uri, expected, {"search": 0, "sweep": 0}
        self.over, self.failures = threading.Event(), list[Exception]()
        works = (self.search, self.sweep)
        self.threads = [threading.Thread(target=self.guarded, args=(work,)) for work in works]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.failures.append(error)

    def search(self) -> None:
        with searching(self.uri, "user") as cursor:
            while not self.over.wait(0.02):
                assert answers(cursor, range(QUERIES)) == self.expected
                self.counts["search"] += 1

    def sweep(self) -> None:
        with flight.connect(self.uri) as client:
            while not self.over.wait(0.2):
                act(client, "sweep", older_than_s=0)
                self.counts["sweep"] += 1


def cut_off(server: Server, client: Any, is_killed: bool, choice: random.Random) -> None:
    """Go away from a trial that is being built, or kill the process that builds it."""
    results = client.do_action(flight.Action("run_trial", json.dumps({**TRIAL, "index": SLOW}).encode()))
    for result in results:
        if json.loads(result.body.to_pybytes()).get("progress", {}).get("phase") == "index":
            break
    time.sleep(choice.uniform(0, 0.2))
    if is_killed:
        os.kill(max(children(server.process.pid)), signal.SIGKILL)
        with suppress(pa.ArrowException, flight.FlightError):
            list(results)


def statuses(client: Any, count: int) -> list[str]:
    """Return what became of trials, once there are so many."""
    for _ in range(200):
        found = flight_sql.query(client, "SELECT status FROM sys.trials")["status"].to_pylist()
        if len(found) >= count:
            break
        time.sleep(0.1)
    return sorted(found)


def test_trials_change_nothing_that_searches_see(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    choice = random.Random(seed)
    with serve(data_dir=tmp_path, vectors=SETTINGS) as server, flight.connect(server.uri) as client:
        put(client, ("profile:user", "docs"), docs(0, ROWS))
        act(client, "create_vector_index", profile="user", table="docs", type="hnsw_sq")
        asked = [{"id": str(at), "vector": row.as_py()} for at, row in enumerate(docs(1, 20)["vector"])]
        act(client, "put_eval_set", profile="user", name="own", table="docs", queries=asked)
        with searching(server.uri, "user") as cursor:
            expected = answers(cursor, range(QUERIES))
        check_searches(server.uri, "user", ROWS, choice)
        before, planned = described(tmp_path), plan(server.uri, "user")
        with Beside(server.uri, expected) as beside:
            for kind in choice.sample(KINDS, len(KINDS)):
                act(client, "run_trial", **TRIAL, index=kind)
            with pytest.raises(pa.ArrowException, match="no parameter 'em'"):
                act(client, "run_trial", **TRIAL, index={"type": "hnsw_sq", "em": 1})
            cut_off(server, client, False, choice)
            cut_off(server, client, True, choice)
            ended = statuses(client, 6)
        assert ended == ["cancelled", "failed", "failed", "ok", "ok", "ok"]
        assert beside.failures == []
        assert min(beside.counts.values()) > 0
        act_all(client, "sweep", older_than_s=0)
        assert (described(tmp_path), plan(server.uri, "user")) == (before, planned)
        check_searches(server.uri, "user", ROWS, choice)
