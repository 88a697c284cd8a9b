"""kill -9 while indexes are built, brought up to date, promoted or dropped: what is found stays right."""

import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.domain import faults
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.actions import act, act_all, put
from tests.e2e.test_lifecycle import children
from tests.stress.searches import ROWS, SETTINGS, check_searches, docs, plan

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(500),
    # The driver leaves connections open whose server died while they were made.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MORE = 300
FAILURES = (pa.ArrowException, flight.FlightError, OSError, dbapi.Error)
INDEX = {"table": "docs", "column": "vector", "type": "hnsw_sq", "params": {"ef_construction": 60}}


@dataclass
class Work:
    """One profile, and what its server has acknowledged about it."""

    profile: str
    rows: int = ROWS
    trial: str = ""
    is_done: bool = False

    def check(self, uri: str, choice: random.Random) -> None:
        """Search; rows whose server died before it acknowledged them may be there."""
        self.rows = check_searches(uri, self.profile, self.rows, choice)


def build(client: Any, work: Work) -> None:
    act(client, "create_vector_index", profile=work.profile, **INDEX)


def catch_up(client: Any, work: Work) -> None:
    for start in range(work.rows, work.rows + 3 * MORE, MORE):
        put(client, (f"profile:{work.profile}", "docs"), docs(start, MORE), mode="append")
        work.rows += MORE
        time.sleep(0.1)
    time.sleep(0.5)


def embed(client: Any, work: Work) -> None:
    asked = {"table": "docs", "text_column": "text", "vector_column": "meaning"}
    act(client, "embed_column", profile=work.profile, **asked)


def promote(client: Any, work: Work) -> None:
    act(client, "promote_trial", profile=work.profile, trial_id=work.trial)


def drop(client: Any, work: Work) -> None:
    act(client, "drop_profile", profile=work.profile)


OPERATIONS: dict[str, tuple[Callable[[Any, Work], None], float]] = {
    "build": (build, 0.6),
    "catch up": (catch_up, 2.0),
    "embed": (embed, 0.8),
    "promote": (promote, 0.35),
    "drop": (drop, 0.08),
}
"""What is cut off → how, and how many seconds it takes on a quiet machine."""


CUTS = [(name, is_whole) for name in OPERATIONS for is_whole in (False, True) if is_whole or name != "drop"]


def prepare(client: Any, name: str, operation: str) -> Work:
    """Make a profile with rows, and with what the operation needs."""
    work = Work(name)
    act(client, "create_profile", profile=name)
    put(client, (f"profile:{name}", "docs"), docs(0, ROWS))
    if operation in ("catch up", "drop"):
        build(client, work)
    if operation == "promote":
        queries = [{"id": str(at), "vector": docs(0, 5)["vector"][at].as_py()} for at in range(5)]
        act(client, "put_eval_set", profile=name, name="own", table="docs", queries=queries)
        asked = {"profile": name, "table": "docs", "eval_set": "own"}
        row = act(client, "run_trial", **asked, index={"type": "ivf_flat"}, search=[{}], k=5)
        work.trial = row["trial_id"]
    return work


def operate(uri: str, operation: str, work: Work) -> None:
    with flight.connect(uri) as client, suppress(*FAILURES):
        OPERATIONS[operation][0](client, work)
        work.is_done = True


def expire_leases(data_dir: Path) -> None:
    """Let the minute pass after which what a dead server had begun is anybody's."""
    with sqlite3.connect(data_dir / "catalog.db", timeout=10) as catalog:
        catalog.execute("UPDATE leases SET until = 0")


def kill(server: Server, whole: bool, choice: random.Random) -> None:
    """End the server and its engine processes, or one of these."""
    engines = children(server.process.pid)
    if whole:
        server.process.kill()
        server.process.wait(10)
    elif engines:
        # The youngest is the one in the background, once there is one.
        with suppress(ProcessLookupError):
            os.kill(choice.choice([max(engines), max(engines), min(engines)]), signal.SIGKILL)


def check_folders(client: Any, data_dir: Path, dropped: set[str]) -> None:
    """After a sweep there is a folder for each index that is listed, and nothing of dropped profiles."""
    act_all(client, "sweep", older_than_s=0)
    listed = {row["profile"]: row["indexes"] for row in act_all(client, "list_profiles")}
    for profile, count in listed.items():
        if profile.startswith("p"):
            files = [path.name for path in (data_dir / "profiles" / profile / "vectors").glob("*")]
            assert len({name.partition(".")[0] for name in files}) == count, (profile, files)
    for profile in dropped:
        left = [path for path in (data_dir / "profiles" / profile).rglob("*") if path.is_file()]
        assert profile not in listed
        assert left == [], profile


@pytest.fixture
def choice() -> random.Random:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


def test_kills_at_any_moment_leave_searches_right_and_nothing_half(
    tmp_path: Path, choice: random.Random
) -> None:
    buckets = {
        "primary": {"uri": str(tmp_path / "primary")},
        "profile:*": {"uri": str(tmp_path / "profiles" / "{name}")},
    }
    start = partial(serve, buckets, data_dir=tmp_path, vectors=SETTINGS)
    dropped: set[str] = set()
    with ExitStack() as stack:
        server = stack.enter_context(start())
        for number, (operation, whole) in enumerate(CUTS):
            with flight.connect(server.uri) as client:
                work = prepare(client, f"p{number}", operation)
            thread = threading.Thread(target=operate, args=(server.uri, operation, work))
            thread.start()
            seconds = choice.uniform(0, OPERATIONS[operation][1])
            time.sleep(seconds)
            kill(server, whole, choice)
            thread.join()
            outcome = f"{operation}, {'server' if whole else 'engine'}, {seconds:.2f} s, done: {work.is_done}"
            print(outcome)  # noqa: T201 - pytest shows it when the test fails
            if whole:
                server = stack.enter_context(start())
            finish(server.uri, tmp_path, operation, work, choice, dropped)


def finish(
    uri: str, data_dir: Path, operation: str, work: Work, choice: random.Random, dropped: set[str]
) -> None:
    """Check what the killed operation has left, do it again, and check once more."""
    with flight.connect(uri) as client:
        expire_leases(data_dir)
        if operation == "drop":
            if work.profile in [row["profile"] for row in act_all(client, "list_profiles")]:
                assert not work.is_done, "a profile came back"
                work.check(uri, choice)
                drop(client, work)
            dropped.add(work.profile)
        else:
            work.check(uri, choice)
            OPERATIONS[operation][0](client, work)
            work.check(uri, choice)
            assert operation == "embed" or "index" in plan(uri, work.profile)
        check_folders(client, data_dir, dropped)


def test_another_server_builds_what_a_dead_one_has_begun(tmp_path: Path, choice: random.Random) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(serve(data_dir=tmp_path, vectors=SETTINGS)) for _ in range(2))
        client = stack.enter_context(flight.connect(second.uri))
        put(client, ("profile:user", "docs"), docs(0, ROWS))
        work = Work("user")
        is_indexing = threading.Event()
        began = threading.Thread(target=build_slowly, args=(first.uri, is_indexing))
        began.start()
        assert is_indexing.wait(30)
        with pytest.raises(pa.ArrowException, match="being worked on"):
            build(client, work)
        time.sleep(choice.uniform(0, 1))
        engines = children(first.process.pid)
        kill(first, True, choice)
        began.join()
        work.check(second.uri, choice)
        with pytest.raises(pa.ArrowException, match="being worked on"):
            build(client, work)
        expire_leases(tmp_path)
        build(client, work)
        assert "index" in plan(second.uri, "user")
        work.check(second.uri, choice)
        await_end(engines)
        act_all(client, "sweep", older_than_s=0)
        left = {path.name.partition(".")[0] for path in tmp_path.glob("**/vectors/*")}
        assert len(left) == 1, left


def test_a_sweep_ends_the_removal_of_profiles_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faults.VARIABLE, str(faults.Place.OBJECT_DELETED))
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        for name in ("gone", "again"):
            act(client, "create_profile", profile=name)
            for table in ("docs", "more"):
                put(client, (f"profile:{name}", table), docs(0, 10))
            with pytest.raises(FAILURES):
                act(client, "drop_profile", profile=name)
    monkeypatch.delenv(faults.VARIABLE)
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        act(client, "create_profile", profile="again")
        put(client, ("profile:again", "docs"), docs(0, 10))
        expire_leases(tmp_path)
        for number, is_dry in enumerate((True, False, False)):
            before = len([*(tmp_path / "_profiles").rglob("*.parquet")])
            orphans = act(client, "sweep", older_than_s=0, dry_run=is_dry)["orphans"]["objects"]
            assert (before, orphans) == [(3, 2), (3, 2), (1, 0)][number]
        assert flight_sql.query(client, 'SELECT id FROM "profile:again".docs').num_rows == 10
        assert not (tmp_path / "_profiles/gone").exists()


def build_slowly(uri: str, is_indexing: threading.Event) -> None:
    slow = {"profile": "user", **INDEX, "params": {"ef_construction": 2_000, "m": 64}}
    action = flight.Action("create_vector_index", json.dumps(slow).encode())
    with flight.connect(uri) as client, pytest.raises(FAILURES):
        for result in client.do_action(action):
            told = json.loads(result.body.to_pybytes())
            if told.get("progress", {}).get("phase") == "index":
                is_indexing.set()
            assert "done" not in told, "it was built before the server died"


def await_end(processes: list[int]) -> None:
    """Wait until the engine processes of a dead server have noticed."""
    for _ in range(200):
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return
        time.sleep(0.05)
    pytest.fail("an engine process has outlived its server")
