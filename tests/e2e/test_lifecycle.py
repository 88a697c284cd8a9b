"""Cancellation and ends: clients that go away, servers that stop, engine processes without a gateway."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql

ENDLESS = "SELECT count(*) FROM range(10000000000000) a(i) WHERE i % 7 = 3"
BOUND = 10.0


def children(pid: int) -> list[int]:
    """Return the engine processes of a server."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_idle(server: Server) -> bool:
    """Tell whether the engine processes have stopped working."""
    engines = children(server.process.pid)
    before = sum(map(processor_seconds, engines))
    time.sleep(0.2)
    return sum(map(processor_seconds, engines)) - before < 0.1


def test_a_cancelled_query_stops_working(server: Server) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        timer = threading.Timer(0.5, cursor.adbc_cancel)
        timer.start()
        with pytest.raises(dbapi.OperationalError, match="CANCELLED"):
            cursor.execute(ENDLESS)
            cursor.fetchall()
        timer.join()
        eventually(lambda: is_idle(server))
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def test_a_deadline_of_the_client_stops_the_query(server: Server) -> None:
    short = pyarrow.flight.FlightCallOptions(timeout=0.5)
    with pyarrow.flight.connect(server.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query(ENDLESS))
        with pytest.raises(pyarrow.flight.FlightTimedOutError):
            client.do_get(info.endpoints[0].ticket, short).read_all()
    eventually(lambda: is_idle(server))


def test_a_reader_that_leaves_stops_the_query(server: Server) -> None:
    rows = "SELECT i, i * 2.5 AS x FROM range(100000000000) r(i)"
    with pyarrow.flight.connect(server.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query(rows))
        reader = client.do_get(info.endpoints[0].ticket)
        assert reader.read_chunk().data.num_rows > 0
        reader.cancel()
    eventually(lambda: is_idle(server))


@pytest.mark.slow
def test_the_statement_timeout_ends_a_query(tmp_path: Path) -> None:
    with (
        serve(data_dir=tmp_path, limits={"statement_timeout": 0.5}) as server,
        dbapi.connect(server.uri, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        with pytest.raises(dbapi.OperationalError, match=r"TIMEOUT.*longer than 0\.5 s"):
            cursor.execute(ENDLESS)
            cursor.fetchall()
        eventually(lambda: is_idle(server))
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


UPLOADER = """
import sys, time, pyarrow as pa, pyarrow.flight as flight
batch = pa.record_batch({"i": pa.array(range(100_000))})
writer, _ = flight.connect(sys.argv[1]).do_put(flight.FlightDescriptor.for_path(sys.argv[2]), batch.schema)
for n in range(10_000):
    writer.write_batch(batch)
    print(n, flush=True)
"""


def test_a_killed_uploader_leaves_nothing(server: Server, unique_name: str) -> None:
    before = set(server.data_dir.rglob("*.parquet"))
    for killed_after in (0, 5, 20):
        command = [sys.executable, "-c", UPLOADER, server.uri, unique_name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as uploader:
            assert uploader.stdout is not None
            for _ in range(killed_after):
                uploader.stdout.readline()
            uploader.kill()
    eventually(lambda: set(server.data_dir.rglob("*.parquet")) == before)
    with pyarrow.flight.connect(server.uri) as client, pytest.raises(pa.ArrowKeyError, match="no table"):
        client.get_flight_info(pyarrow.flight.FlightDescriptor.for_path(unique_name))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_server_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "flight_server", "serve", "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        uri = process.stdout.readline().split()[-1]
        engines = children(process.pid)
        with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        process.send_signal(number)
        _, said = process.communicate(timeout=BOUND)
    assert process.returncode == 0
    assert not [line for line in said.splitlines() if " INFO " not in line]
    assert not [engine for engine in engines if Path(f"/proc/{engine}").exists()]


@pytest.mark.slow
def test_an_engine_process_ends_with_its_gateway(tmp_path: Path) -> None:
    with serve(data_dir=tmp_path, engine={"spares": 1}) as server:
        temporary = Path(tempfile.gettempdir())
        eventually(lambda: [d.parent for d in directories(server.process.pid)] == [temporary] * 2)
        engines, folders = children(server.process.pid), directories(server.process.pid)
        server.process.kill()
        eventually(lambda: not any(map(is_alive, engines)))
    with serve(data_dir=tmp_path):  # the next server clears up behind one that could not
        eventually(lambda: not any(folder.exists() for folder in folders))


def directories(gateway: int) -> list[Path]:
    """Return the working directories of a gateway's engine processes, which are their temporary ones."""
    return [Path(os.readlink(f"/proc/{engine}/cwd")) for engine in children(gateway)]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(") ", 1)[1][0] != "Z"


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    with serve(data_dir=tmp_path) as server:
        with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("kept", pa.table({"i": range(1_000)}), mode="create")
        server.process.kill()
    with (
        serve(data_dir=tmp_path) as server,
        dbapi.connect(server.uri, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*), sum(i)::bigint FROM kept")
        assert cursor.fetchall() == [(1_000, 499_500)]


@pytest.mark.slow
def test_a_killed_local_client_leaves_no_session_behind(server: Server) -> None:
    dying = """
import sys, time
from adbc_driver_flightsql import dbapi
connection = dbapi.connect(sys.argv[1], autocommit=True)
connection.cursor().execute("CREATE TEMP TABLE left_behind AS SELECT 1 AS i")
print("ready", flush=True)
time.sleep(60)
"""
    client = subprocess.Popen([sys.executable, "-c", dying, server.uri], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:

        def left() -> int:
            cursor.execute("SELECT * FROM sys.sessions WHERE 'temporary table left_behind' IN holds")
            return len(cursor.fetchall())

        assert left() == 1
        client.kill()
        client.communicate()
        eventually(lambda: left() == 0)
