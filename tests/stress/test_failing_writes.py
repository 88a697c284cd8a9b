"""Storage or the catalog fails while statements write: each is there or not, and an error says why."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.domain import faults
from flight_server.testing import Server, serve
from tests.stress.test_crash_safety import sweep
from tests.stress.test_killed_writes import named_keys, stored_keys
from tests.stress.workload import Writer, connected, read, run

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

UNITS = 60
LOCKED_SECONDS = 1.5
EXPECTED = {
    "storage-eio:every-31": "bucket {} cannot be used: Input/output error",
    "storage-enospc:every-23": "bucket {} has no space left",
    f"{faults.FULL_DISK}:20": "bucket {} has no space left",
}
GONE = ("bucket testing", "an object of a dataset is missing from its bucket: bring it back")


@pytest.fixture
def writer() -> Writer:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return Writer("a_", random.Random(seed))


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    yield lambda value: monkeypatch.setenv(faults.VARIABLE, value)
    monkeypatch.delenv(faults.VARIABLE, raising=False)


def write(server: Server, writer: Writer, units: int) -> None:
    """Do units of work; after each failure compare all that there is."""
    with connected(server) as client:
        for _ in range(units):
            refused = writer.refused.total()
            writer.unit(server, client)
            if writer.refused.total() > refused:
                writer.check(client)
        writer.check(client)


def check_swept(server: Server, writer: Writer) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        sweep(client)
    assert stored_keys(server.data_dir) == named_keys(server.data_dir)
    with connected(server) as client:
        writer.check(client)


@pytest.mark.parametrize("place", EXPECTED)
def test_a_write_whose_storage_fails_is_whole_or_absent(
    tmp_path: Path, writer: Writer, fault: Callable[[str], None], place: str
) -> None:
    with serve(data_dir=tmp_path) as server:
        write(server, writer, UNITS // 4)
    fault(place)
    with serve(data_dir=tmp_path) as server:
        write(server, writer, UNITS)
    fault("")
    texts = {EXPECTED[place].format(bucket) for bucket in ("primary", "testing")}
    assert writer.refused
    assert all(any(text in refused for text in texts) for refused in writer.refused), writer.refused
    with serve(data_dir=tmp_path) as server:
        check_swept(server, writer)
        writer.refused.clear()
        write(server, writer, UNITS // 4)
        assert not writer.refused


def test_a_write_waits_for_a_catalog_that_is_locked(tmp_path: Path, writer: Writer) -> None:
    with serve(data_dir=tmp_path) as server, connected(server) as client:
        for _ in range(5):
            writer.unit(server, client)
        for _ in range(3):
            lock = sqlite3.connect(tmp_path / "catalog.db", check_same_thread=False, isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(LOCKED_SECONDS, lock.close)
            timer.start()
            began = time.monotonic()
            run(client.alone, "CREATE OR REPLACE TABLE a_locked AS SELECT 1 AS k")
            assert time.monotonic() - began > LOCKED_SECONDS / 2
            timer.join()
        writer.reference.execute('CREATE TABLE "primary".a_locked AS SELECT 1 AS k')
        writer.check(client)


@pytest.mark.parametrize(("leaves", "reason"), [(None, "No such file"), (Path.touch, "Not a directory")])
def test_a_write_into_a_bucket_whose_root_is_gone_changes_nothing(
    tmp_path: Path, writer: Writer, leaves: Callable[[Path], None] | None, reason: str
) -> None:
    root, away = tmp_path / "_testing", tmp_path / "away"
    with serve(data_dir=tmp_path) as server, connected(server) as client:
        run(client.alone, "CREATE TABLE testing.t AS SELECT 1 AS k")
        write(server, writer, UNITS // 4)
        root.rename(away)
        if leaves is not None:
            leaves(root)
        for sql in ("INSERT INTO testing.t VALUES (2)", "CREATE TABLE testing.u AS SELECT 1 AS k"):
            with pytest.raises(dbapi.Error, match=f"bucket testing cannot be used: {reason}"):
                run(client.alone, sql)
        for _ in range(UNITS // 4):
            writer.unit(server, client)
        if leaves is not None:
            root.unlink()
        away.rename(root)
        assert all(any(text in refused for text in GONE) for refused in writer.refused), writer.refused
        assert read(client.alone, "FROM testing.t") == (["k"], [(1,)])
        check_swept(server, writer)
