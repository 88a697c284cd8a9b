"""Compaction, backup and restore beside writers and through kill -9: no row is lost, repeated or torn."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.domain import faults
from flight_server.domain.faults import Place
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.stress.test_crash_safety import stored, sweep

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(300),
    # The driver leaves connections open whose server died while they were made.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROWS = 50
KILLS = 12
SECONDS = 15
COMPACT = (
    Place.COMPACT_STORED,
    Place.COMPACT_COMMITTED,
    Place.OBJECT_WRITTEN,
    Place.WRITE_READY,
    Place.COMMIT_READY,
    Place.COMMIT_MADE,
)
BACKUP = (Place.BACKUP_HELD, Place.RESTORE_READY)
FAILURES = (pa.ArrowException, OSError, dbapi.Error, dbapi.Warning)


def rows(number: int) -> pa.Table:
    return pa.table({"x": [number] * ROWS, "n": range(ROWS)})


def append(client: Any, number: int) -> None:
    path = pyarrow.flight.FlightDescriptor.for_path("t")
    writer, reader = client.do_put(path, rows(number).schema)
    with writer:
        writer.write_table(rows(number))
        writer.done_writing()
        reader.read()


def compact(client: Any) -> dict[str, Any]:
    *_, last = client.do_action(pyarrow.flight.Action("compact", b'{"dataset": "t"}'))
    report: dict[str, Any] = json.loads(last.body.to_pybytes())
    return report


def held(client: Any, name: str = "t") -> dict[int, int]:
    """Return how many rows there are of each number; each upload must be there once and whole."""
    sql = f"SELECT x, count(*) AS n, count(DISTINCT n) AS d FROM {name} GROUP BY x"
    try:
        found = flight_sql.query(client, sql).to_pylist()
    except pa.ArrowKeyError:  # killed before the first append
        return {}
    assert {(row["n"], row["d"]) for row in found} <= {(ROWS, ROWS)}, "torn or repeated rows"
    return {row["x"]: row["n"] for row in found}


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield lambda place: monkeypatch.setenv(faults.VARIABLE, place)
    monkeypatch.delenv(faults.VARIABLE, raising=False)


@pytest.mark.parametrize("place", COMPACT)
def test_a_killed_compaction_changes_no_row(
    tmp_path: Path, killed_at: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with serve(data_dir=tmp_path) as server, pyarrow.flight.connect(server.uri) as client:
        for number in range(6):
            append(client, number)
    killed_at(place)
    with (
        serve(data_dir=tmp_path) as server,
        pyarrow.flight.connect(server.uri) as client,
        suppress(*FAILURES),
    ):
        compact(client)
        pytest.fail("nothing was killed")
    monkeypatch.delenv(faults.VARIABLE)
    with serve(data_dir=tmp_path) as server, pyarrow.flight.connect(server.uri) as client:
        assert held(client) == dict.fromkeys(range(6), ROWS)
        compact(client)
        sweep(client)
        assert held(client) == dict.fromkeys(range(6), ROWS)
        assert stored(tmp_path) == 7  # the older version keeps its six


def write(server: Server, numbers: Iterator[int], done: set[int]) -> None:
    """Append until the server is gone."""
    while server.process.poll() is None:
        with suppress(*FAILURES), pyarrow.flight.connect(server.uri) as client:
            while True:
                number = next(numbers)
                append(client, number)
                done.add(number)


def merge(server: Server, is_over: Event) -> None:
    """Compact until the server is gone, or it is over."""
    while server.process.poll() is None and not is_over.is_set():
        with suppress(*FAILURES), pyarrow.flight.connect(server.uri) as client:
            compact(client)


def test_a_server_killed_while_it_compacts_and_appends_loses_nothing(tmp_path: Path) -> None:
    choice, numbers = random.Random(11), count()
    done: set[int] = set()
    for _ in range(KILLS):
        quiet = {"log_level": "error"}
        with serve(data_dir=tmp_path, telemetry=quiet) as server, ThreadPoolExecutor(3) as threads:
            work = [threads.submit(write, server, numbers, done) for _ in range(2)]
            work.append(threads.submit(merge, server, Event()))
            time.sleep(choice.uniform(0.3, 2.0))
            server.process.kill()
            for one in work:
                one.result()
        with serve(data_dir=tmp_path) as server, pyarrow.flight.connect(server.uri) as client:
            assert done <= held(client).keys()
            sweep(client)
            assert done <= held(client).keys()


def change(server: Server, numbers: Iterator[int], state: dict[int, int | None], is_over: Event) -> None:
    """Append, update and delete uploads of one's own; `state` holds what is acknowledged of each."""
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        while not is_over.is_set():
            number = next(numbers)
            cursor.adbc_ingest("t", rows(number), mode="append")
            state[number] = ROWS
            if number % 3 == 1:
                cursor.execute(f"UPDATE t SET n = n + 1000 WHERE x = {number}")
            elif number % 3 == 2:
                cursor.execute(f"DELETE FROM t WHERE x = {number}")
                del state[number]


def test_compaction_beside_appends_updates_and_deletes_changes_no_row(tmp_path: Path) -> None:
    numbers, is_over = count(1), Event()
    state: dict[int, int | None] = {0: ROWS}
    with serve(data_dir=tmp_path) as server, pyarrow.flight.connect(server.uri) as client:
        append(client, 0)
        with ThreadPoolExecutor(4) as threads:
            work = [threads.submit(change, server, numbers, state, is_over) for _ in range(3)]
            work.append(threads.submit(merge, server, is_over))
            time.sleep(SECONDS)
            is_over.set()
            for one in work:
                one.result()
        assert held(client) == state
        moved = flight_sql.query(client, "SELECT DISTINCT x FROM t WHERE n >= 1000")["x"].to_pylist()
        assert set(moved) == {number for number in state if number % 3 == 1}
        assert compact(client)["given_up"] == []
        assert held(client) == state


@pytest.mark.parametrize("place", BACKUP)
def test_a_killed_backup_or_restore_changed_nothing(tmp_path: Path, place: str) -> None:
    data, file = tmp_path / "data", tmp_path / "backup.db"

    def run(*words: str, fault: str = "") -> int:
        command = [sys.executable, "-m", "flight_server", *words, "--data-dir", str(data)]
        environment = os.environ | {faults.VARIABLE: fault}
        return subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode

    with serve(data_dir=data) as server, pyarrow.flight.connect(server.uri) as client:
        append(client, 1)
    words = ["backup", str(file)]
    if place is Place.RESTORE_READY:
        assert run(*words) == 0
        words = ["restore", str(file), "--force"]
    assert run(*words, fault=place) < 0
    assert run(*words) == 0
    with serve(data_dir=data) as server, pyarrow.flight.connect(server.uri) as client:
        assert held(client) == {1: ROWS}
