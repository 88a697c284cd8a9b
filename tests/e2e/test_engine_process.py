"""Engine processes that end: the gateway goes on, statements that only read are run again."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.e2e.test_lifecycle import children, eventually, is_alive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fragile() -> Iterator[Server]:
    """A server whose engine processes are killed."""
    with serve(engine={"spares": 1}) as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("numbers", pa.table({"i": range(1_000)}), mode="create")
        eventually(lambda: len(children(running.process.pid)) == 2)
        yield running


def kill_engines(server: Server) -> None:
    for engine in children(server.process.pid):
        os.kill(engine, signal.SIGKILL)


def total(uri: str) -> int:
    with pyarrow.flight.connect(uri) as client:
        return int(flight_sql.query(client, "SELECT sum(i)::bigint AS s FROM numbers")["s"][0].as_py())


def test_the_next_statement_is_answered_by_another_process(fragile: Server) -> None:
    for _ in range(2):
        killed = children(fragile.process.pid)
        kill_engines(fragile)
        assert total(fragile.uri) == 499_500
        eventually(lambda: len([pid for pid in children(fragile.process.pid) if is_alive(pid)]) == 2)
        assert not set(killed) & {pid for pid in children(fragile.process.pid) if is_alive(pid)}


def test_a_commit_stands_when_the_engine_process_is_gone(fragile: Server) -> None:
    with dbapi.connect(fragile.uri) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE brief AS SELECT 1 AS x")
        cursor.execute("CREATE TABLE lasting AS SELECT 1 AS x")
        cursor.execute("UPDATE lasting SET x = 2")
        kill_engines(fragile)
        connection.commit()
        with pytest.raises(dbapi.Error, match=r"an engine process ended, and with it .* brief"):
            cursor.execute("FROM brief")
        cursor.execute("FROM lasting")
        assert cursor.fetchall() == [(2,)]


@pytest.mark.slow
def test_a_statement_that_lost_its_engine_before_it_answered_is_run_again(fragile: Server) -> None:
    slow = "SELECT count(*) AS n FROM range(1000000000) r(i) WHERE i % 3 = 0"
    with pyarrow.flight.connect(fragile.uri) as client:
        timer = threading.Timer(0.3, kill_engines, [fragile])
        timer.start()
        assert flight_sql.query(client, slow)["n"].to_pylist() == [333_333_334]
        timer.join()


def test_a_stream_that_lost_its_engine_says_so(fragile: Server) -> None:
    with pyarrow.flight.connect(fragile.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query("FROM range(1000000000)"))
        reader = client.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        kill_engines(fragile)
        with pytest.raises(pyarrow.flight.FlightUnavailableError, match=r"engine process ended.*try again"):
            reader.read_all()


def test_an_upload_that_lost_its_engine_fails_and_the_next_one_lands(
    fragile: Server, unique_name: str
) -> None:
    before = set(fragile.data_dir.rglob("*.parquet"))
    batch = pa.record_batch({"i": pa.array(range(200_000))})
    path = pyarrow.flight.FlightDescriptor.for_path(unique_name)
    with pyarrow.flight.connect(fragile.uri) as client:
        writer, reader = client.do_put(path, batch.schema)
        writer.write_batch(batch)
        eventually(lambda: set(fragile.data_dir.rglob("*.parquet")) != before)
        kill_engines(fragile)
        with pytest.raises(pyarrow.flight.FlightUnavailableError, match="try again"), writer:
            for _ in range(100):
                writer.write_batch(batch)
            writer.done_writing()
            reader.read()
        with pytest.raises(pa.ArrowKeyError, match="no table"):
            client.get_flight_info(path)
        writer, reader = client.do_put(path, batch.schema)
        with writer:
            writer.write_batch(batch)
            writer.done_writing()
            assert b'"rows": 200000' in reader.read().to_pybytes()


# Runs for half a minute, whatever interrupts it.
BOMB = "SELECT length(lpad('x', 2000000000, 'y')) AS n"


def test_a_statement_that_cannot_be_interrupted_is_ended_at_its_deadline(fragile: Server) -> None:
    with dbapi.connect(fragile.uri, autocommit=True) as connection, connection.cursor() as cursor:
        eventually(lambda: len(children(fragile.process.pid)) == 2)
        engines = children(fragile.process.pid)
        cursor.execute("SET statement_timeout = '500ms'")
        began = time.monotonic()
        with pytest.raises(dbapi.OperationalError, match=r"longer than 0\.5 s"):
            cursor.execute(BOMB)
            cursor.fetchall()
        assert time.monotonic() - began < 3
        eventually(lambda: [is_alive(engine) for engine in engines].count(False) == 1)
        cursor.execute("SELECT 1 AS x")
        assert cursor.fetchall() == [(1,)]


@pytest.mark.stress
def test_random_kills_under_load_never_give_a_wrong_answer(fragile: Server) -> None:
    stop = time.monotonic() + 20
    answers: list[int] = []

    def ask() -> None:
        while time.monotonic() < stop:
            try:
                answers.append(total(fragile.uri))
            except pyarrow.flight.FlightUnavailableError:
                continue

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask) for _ in range(8)]
        while time.monotonic() < stop:
            time.sleep(random.uniform(0.3, 1.5))
            kill_engines(fragile)
        for future in asking:
            future.result()
    assert set(answers) == {499_500}
    assert len(answers) > 100


def test_state_that_is_lost_is_named_once(fragile: Server) -> None:
    with dbapi.connect(fragile.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE gone AS SELECT 1 AS i")
        cursor.execute("SET VARIABLE v = 1")
        kill_engines(fragile)
        with pytest.raises(dbapi.OperationalError, match="temporary table gone, variable v") as raised:
            cursor.execute("SELECT * FROM gone")
        assert "Aborted" in str(raised.value)
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
        with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
            cursor.execute("SELECT * FROM gone")
