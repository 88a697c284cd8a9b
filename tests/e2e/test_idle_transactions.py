"""Transactions that nobody uses for long: one that has written nothing goes on, another is aborted."""

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve

pytestmark = pytest.mark.slow

IDLE_SECONDS = 0.4
COUNT = "SELECT count(*) FROM t"


@pytest.fixture(
    scope="module", params=["transaction_idle", pytest.param("session_idle", marks=pytest.mark.slow)]
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Servers on which transactions end soon: by themselves, or with their sessions."""
    with serve(limits={request.param: IDLE_SECONDS}) as running:
        yield running


@pytest.fixture(params=["protocol", "sql"])
def cursor(request: pytest.FixtureRequest, server: Server) -> Iterator[dbapi.Cursor]:
    """A cursor in a transaction, begun by the driver or in SQL, and a table `t` of one row."""
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as opened:
        opened.adbc_ingest("t", pa.table({"x": [1]}), mode="replace")
        if request.param == "sql":
            opened.execute("BEGIN")
        else:
            connection.adbc_connection.set_autocommit(False)
        assert count(opened) == 1
        yield opened


def count(cursor: dbapi.Cursor) -> int:
    cursor.execute(COUNT)
    ((found,),) = cursor.fetchall()
    return int(found)


def add(server: Server) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (2)")


def idle(server: Server) -> None:
    """Wait until the transaction was idle for too long; sessions end when others call."""
    time.sleep(1.5 * IDLE_SECONDS)
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        assert count(cursor) > 0


def test_one_that_has_written_nothing_goes_on_with_a_new_snapshot(
    server: Server, cursor: dbapi.Cursor
) -> None:
    add(server)
    assert count(cursor) == 1
    idle(server)
    assert count(cursor) == 2
    add(server)
    assert count(cursor) == 2
    cursor.execute("INSERT INTO t VALUES (3)")  # it is still a transaction
    cursor.execute("ROLLBACK")
    assert count(cursor) == 3


def test_one_that_has_written_is_aborted_until_its_client_ends_it(
    server: Server, cursor: dbapi.Cursor
) -> None:
    before = set(Path(server.data_dir).rglob("*.parquet"))
    cursor.execute("INSERT INTO t VALUES (2)")
    idle(server)
    for statement in ("INSERT INTO t VALUES (3)", COUNT):
        with pytest.raises(dbapi.Error, match="ROLLBACK, begin anew"):
            cursor.execute(statement)
    with pytest.raises(dbapi.Error, match="ROLLBACK, begin anew"):
        cursor.adbc_ingest("t", pa.table({"x": [3]}), mode="append")
    cursor.execute("ROLLBACK")
    assert count(cursor) == 1
    assert set(Path(server.data_dir).rglob("*.parquet")) == before


def test_the_commit_of_an_aborted_one_says_so(server: Server, cursor: dbapi.Cursor) -> None:
    cursor.execute("INSERT INTO t VALUES (2)")
    idle(server)
    with pytest.raises(dbapi.Error, match="ROLLBACK, begin anew"):
        cursor.execute("COMMIT")
    assert count(cursor) == 1
