"""kill -9 at random moments: what was acknowledged is there once, the rest wholly or not at all."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.stress.test_crash_safety import stored, sweep

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(300),
    # The driver leaves connections open whose server died while they were made.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KILLS = 50
COMMAND_KILLS = 5
ROWS = 200
PAUSE_SECONDS = 0.01
FAILURES = (pa.ArrowException, OSError, dbapi.Error, dbapi.Warning)


@dataclass(slots=True)
class Written:
    """What the server has acknowledged so far; every upload holds one number of its own."""

    numbers: Iterator[int] = field(default_factory=count)
    single: set[int] = field(default_factory=set)
    double: set[int] = field(default_factory=set)


def rows(number: int) -> pa.Table:
    return pa.table({"x": [number] * ROWS})


def by_path(server: Server, written: Written) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        while True:
            number = next(written.numbers)
            path = pyarrow.flight.FlightDescriptor.for_path("t")
            writer, reader = client.do_put(path, rows(number).schema)
            with writer:
                writer.write_table(rows(number))
                writer.done_writing()
                if reader.read() is not None:
                    written.single.add(number)
            time.sleep(PAUSE_SECONDS)


def by_adbc(server: Server, written: Written) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        while True:
            number = next(written.numbers)
            cursor.adbc_ingest("t", rows(number), mode="create_append")
            written.single.add(number)
            time.sleep(PAUSE_SECONDS)


def by_transaction(server: Server, written: Written) -> None:
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        while True:
            number = next(written.numbers)
            for name in ("a", "b"):
                cursor.adbc_ingest(name, rows(number), mode="create_append")
            connection.commit()
            written.double.add(number)
            time.sleep(PAUSE_SECONDS)


def by_sweep(server: Server, _: Written) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        while True:
            with suppress(pa.ArrowException):
                sweep(client)
            if server.process.poll() is not None:
                return


def work(write: Callable[[Server, Written], None], server: Server, written: Written) -> None:
    """Write until the server is gone; what a sweep of age 0 refused meanwhile is not acknowledged."""
    while server.process.poll() is None:
        with suppress(*FAILURES):
            write(server, written)


def kill_while_they_write(server: Server, written: Written, choice: random.Random) -> None:
    writers = [by_path, by_path, by_adbc, by_transaction]
    if choice.random() < 0.3:
        writers.append(by_sweep)
    with ThreadPoolExecutor(len(writers)) as threads:
        done = [threads.submit(work, write, server, written) for write in writers]
        time.sleep(choice.uniform(0.05, 0.6))
        server.process.kill()
        for one in done:
            one.result()


def numbers_of(client: Any, name: str) -> set[int]:
    found = flight_sql.query(client, f"SELECT x, count(*) AS n FROM {name} GROUP BY x").to_pylist()
    assert {row["n"] for row in found} <= {ROWS}, f"{name} has torn or repeated rows"
    return {row["x"] for row in found}


def check(server: Server, written: Written) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        assert written.single <= numbers_of(client, "t")
        pairs = numbers_of(client, "a")
        assert pairs == numbers_of(client, "b")
        assert written.double <= pairs


def check_swept(server: Server, written: Written) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        sweep(client)
        refs = flight_sql.query(client, "SELECT count(DISTINCT key) AS n FROM sys.object_refs")
        assert stored(server.data_dir) == refs["n"][0].as_py()
    check(server, written)


def seeded() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


def test_a_gateway_killed_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    choice, written = seeded(), Written()
    with serve(data_dir=tmp_path) as server, dbapi.connect(server.uri, autocommit=True) as connection:
        for name in ("t", "a", "b"):
            with connection.cursor() as cursor:
                cursor.adbc_ingest(name, rows(next(written.numbers) if name == "t" else -1), mode="create")
    for kill in range(KILLS):
        with serve(data_dir=tmp_path, engine={"spares": 0}, telemetry={"log_level": "error"}) as server:
            check(server, written)
            if kill % 5 == 4:
                check_swept(server, written)
            kill_while_they_write(server, written, choice)
    with serve(data_dir=tmp_path) as server:
        check_swept(server, written)
    assert min(len(written.single), len(written.double)) > KILLS


def test_commands_killed_at_any_moment_do_all_or_nothing(tmp_path: Path) -> None:
    choice = seeded()
    refs = [{"bucket": "data", "key": f"lakehouse://elsewhere/{at}", "size_bytes": 1} for at in range(20_000)]
    fields = {"name": "n", "created_at": "2024-05-01T00:00:00Z"}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"datasets": [{"id": "i", **fields, "objects": refs}]}))
    for words, key in ((["catalog", "import", str(manifest)], "objects"), (["migrate"], "urls_rewritten")):
        command = [sys.executable, "-m", "flight_server", *words, "--data-dir", str(tmp_path / "data")]
        began = time.monotonic()
        if key == "objects":
            subprocess.run([*command[:-1], str(tmp_path / "other")], check=True, capture_output=True)
        seconds = max(2.0, time.monotonic() - began)
        for _ in range(COMMAND_KILLS):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(choice.uniform(0.2, seconds))
                process.kill()
        with serve(data_dir=tmp_path / "data") as server, pyarrow.flight.connect(server.uri) as client:
            found = flight_sql.query(client, "SELECT count(*) AS n FROM sys.object_refs")["n"][0].as_py()
            assert found in (0, len(refs))
        subprocess.run(command, check=True, capture_output=True)
    with serve(data_dir=tmp_path / "data") as server, pyarrow.flight.connect(server.uri) as client:
        found = flight_sql.query(client, "SELECT count(*) AS n FROM sys.object_refs")["n"][0].as_py()
        assert found == len(refs)
