"""What callers, statements and buckets may use, and what they are told when they want more."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql

pytestmark = pytest.mark.slow

PASSWORD = "limited"
LIMITS = {"heavy_statements": 1, "heavy_wait": 0.3, "read_idle": 1, "write_idle": 1}
QUOTA = 4_000_000
ROWS = 250_000
"""Of random numbers, which take about two megabytes."""

FULL = r"has room for \d+ bytes more \(its quota_bytes\), older versions.*drop what is not needed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def small(folder: Path) -> Iterator[Server]:
    """A server with two buckets that may hold 4 MB each."""
    buckets: dict[str, dict[str, object]] = {
        "primary": {"uri": str(folder / "primary")},
        "testing": {"uri": str(folder / "testing"), "quota_bytes": QUOTA},
        "staging": {"uri": str(folder / "staging"), "quota_bytes": QUOTA},
    }
    users = {name: {"password": PASSWORD, "grants": ["*=write"]} for name in ("ann", "bob")}
    with serve(buckets, users=users, limits=LIMITS) as running:
        yield running


def connect(server: Server, name: str = "ann", *, autocommit: bool = True) -> dbapi.Connection:
    options = {"username": name, "password": PASSWORD}
    return dbapi.connect(server.uri, options, autocommit=autocommit)


@contextmanager
def caller(server: Server) -> Iterator[tuple[flight.FlightClient, flight.FlightCallOptions]]:
    with flight.connect(server.uri) as client:
        token = client.authenticate_basic_token("ann", PASSWORD)
        yield client, flight.FlightCallOptions(headers=[token])


def put(server: Server, name: str, rows: int = ROWS, bucket: str = "testing") -> None:
    table = pa.table({"x": np.random.default_rng(rows).random(rows)})
    with caller(server) as (client, options):
        writer, _ = client.do_put(flight.FlightDescriptor.for_path(bucket, name), table.schema, options)
        with writer:
            writer.write_table(table, 10_000)


def run(cursor: dbapi.Cursor, *statements: str) -> None:
    for sql in statements:
        cursor.execute(sql)
        cursor.fetchall()


def objects(folder: Path) -> int:
    """Return the bytes of the objects below a folder."""
    return sum(os.stat(file).st_size for file in folder.rglob("*.parquet"))


def test_a_bucket_takes_what_its_quota_has_room_for(small: Server, folder: Path) -> None:
    put(small, "first")
    put(small, "elsewhere", 3 * ROWS, "primary")
    with pytest.raises(pa.ArrowException, match=FULL):
        put(small, "second", 3 * ROWS)
    with connect(small) as connection, connection.cursor() as cursor:
        for refused in (
            'CREATE TABLE testing.second AS FROM "primary".elsewhere',
            'INSERT INTO testing.first FROM "primary".elsewhere',
        ):
            with pytest.raises(dbapi.Error, match=FULL):
                run(cursor, refused)
        cursor.execute("SELECT name, used_bytes, quota_bytes FROM sys.buckets ORDER BY name")
        (_, *primary), _, (_, *testing) = cursor.fetchall()
        assert testing == [objects(folder / "testing"), QUOTA]
        assert primary == [objects(folder / "primary"), None]
        # Nothing is written of it, and what is dropped can be read for a while and takes room.
        run(cursor, "TRUNCATE testing.first", "DROP TABLE testing.first")
        with pytest.raises(dbapi.Error, match=FULL):
            run(cursor, 'CREATE TABLE testing.second AS FROM "primary".elsewhere')


def test_what_a_transaction_has_staged_takes_room(small: Server, folder: Path) -> None:
    put(small, "some", ROWS, "primary")
    fill = 'CREATE TABLE staging.{} AS FROM "primary".some'
    with (
        connect(small, autocommit=False) as one,
        connect(small, autocommit=False) as other,
        one.cursor() as cursor,
        other.cursor() as second,
    ):
        run(cursor, fill.format("staged"))
        put(small, "own", ROWS - 20_000, "staging")
        with pytest.raises(dbapi.Error, match=FULL):
            run(second, fill.format("more"))
        one.rollback()
        run(second, fill.format("late"))
        other.commit()
    assert 0 < objects(folder / "staging") < QUOTA


def test_statements_that_take_long_wait_for_their_turn(small: Server) -> None:
    slow = "SELECT count(*) FROM range(1000000000000) t(i) WHERE i % 7 = 3"

    def overdue(name: str) -> str:
        with connect(small, name) as connection, connection.cursor() as cursor:
            run(cursor, "SET statement_timeout = '1300ms'")
            with pytest.raises(dbapi.Error) as raised:
                run(cursor, slow)
            return str(raised.value)

    assert "longer than 1.3 s" in overdue("ann")
    with ThreadPoolExecutor(2) as pool, connect(small, "bob") as connection, connection.cursor() as cursor:
        ends = [pool.submit(overdue, name) for name in ("ann", "ann")]
        run(cursor, "SELECT 1")
        said = sorted(end.result() for end in ends)
    assert "works on 1 statements that take long (limits.heavy_statements)" in said[0]
    assert "longer than 1.3 s" in said[1]


def test_clients_that_stand_still_are_cut_off(small: Server) -> None:
    many = flight_sql.statement_query("SELECT repeat('x', 1000) || i AS s FROM range(1000000) t(i)")
    with caller(small) as (client, options):
        reader = client.do_get(client.get_flight_info(many, options).endpoints[0].ticket, options)
        schema = pa.schema([("x", pa.int64())])
        writer, _ = client.do_put(flight.FlightDescriptor.for_path("testing", "still"), schema, options)
        writer.write_batch(pa.record_batch({"x": [1]}))
        time.sleep(1.3)
        with pytest.raises(
            flight.FlightTimedOutError, match=r"nothing was read for 1 s \(limits.read_idle\)"
        ):
            reader.read_all()
        with pytest.raises(
            flight.FlightTimedOutError, match=r"nothing was sent for 1 s \(limits.write_idle\)"
        ):
            writer.close()
        with connect(small) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM sys.datasets WHERE name = 'still'")
            assert cursor.fetchall() == [(0,)]
