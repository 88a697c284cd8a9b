"""Cancelling: every way ends the work at once, and leaves nothing behind."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.flight.wire import messages
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.e2e.test_lifecycle import children, eventually

LONG = "SELECT count(*) AS n FROM range(300000000000) t(i) WHERE i % 3 = 0"
TABLE = "made_in_vain"
WRITING = f"CREATE TEMP TABLE {TABLE} AS {LONG}"
ENDLESS = "SELECT i FROM range(300000000000) t(i)"
SOON = 2.0
"""Seconds within which a cancelled query has ended on the busiest machine; 0.15 is what it should take."""

LOG = logging.getLogger(__name__)
"""Shows the figures with `pytest --log-cli-level=info`."""

Client = pyarrow.flight.FlightClient
Info = pyarrow.flight.FlightInfo
Cancel = Callable[[Client, Info], object]


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server of its own: what it works on is counted."""
    with serve() as running:
        yield running


@pytest.fixture
def client(busy: Server) -> Iterator[Client]:
    with pyarrow.flight.connect(busy.uri) as opened:
        eventually(lambda: not is_working(busy))
        yield opened


def is_working(server: Server) -> bool:
    """Tell whether a thread of the engine process computes, which it does all the time during a query."""
    for _ in range(3):
        tasks = Path(f"/proc/{children(server.process.pid)[0]}/task").glob("*/stat")
        if any(map(is_computing, tasks)):
            return True
        time.sleep(0.004)
    return False


def is_computing(stat: Path) -> bool:
    """Tell whether a thread runs; one that has just ended does not."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:
        return False


@contextmanager
def once_working(server: Server, act: Callable[[], object]) -> Iterator[None]:
    """Act in another thread as soon as the server works on what this block does."""

    def wait() -> None:
        eventually(lambda: is_working(server))
        act()

    with ThreadPoolExecutor(1) as threads:
        acting = threads.submit(wait)
        yield
        acting.result()


def descriptors(server: Server) -> int:
    """Return how many files and connections the engine process has open: one for each statement at least."""
    return len(os.listdir(f"/proc/{children(server.process.pid)[0]}/fd"))


def act(client: Client, name: str, body: bytes) -> list[bytes]:
    action = pyarrow.flight.Action(name, body)
    return [result.body.to_pybytes() for result in client.do_action(action)]


def states(client: Client, where: str = "true") -> list[dict[str, Any]]:
    sql = f"FROM sys.queries WHERE sql NOT LIKE '%sys.queries%' AND {where} ORDER BY started_at"
    return flight_sql.query(client, sql).to_pylist()


def cancel_flight_info(client: Client, info: bytes) -> int:
    body = messages.encode("CancelFlightInfoRequest", info=messages.parse("FlightInfo", info))
    (answer,) = act(client, "CancelFlightInfo", body)
    return int(messages.parse("CancelFlightInfoResult", answer).status)


def by_flight_info(client: Client, info: Info) -> None:
    assert cancel_flight_info(client, info.serialize()) == 1


def by_dummy_info(client: Client, info: Info) -> None:
    foreign = messages.create("Ticket", ticket=b"whatever my session runs")
    dummy = messages.encode("FlightInfo", endpoint=[messages.create("FlightEndpoint", ticket=foreign)])
    assert cancel_flight_info(client, dummy) == 1


def by_empty_info(client: Client, info: Info) -> None:
    assert cancel_flight_info(client, b"") == 1


def by_cancel_query(client: Client, info: Info) -> None:
    (answer,) = act(client, "CancelQuery", messages.pack("ActionCancelQueryRequest", info=info.serialize()))
    name, value = messages.unpack(answer)
    assert (name, messages.parse(name, value).result) == ("ActionCancelQueryResult", 1)


def by_id(client: Client, info: Info) -> None:
    (answer,) = act(client, "cancel_query", info.app_metadata)
    assert json.loads(answer) == {**json.loads(info.app_metadata), "status": "cancelled"}


@pytest.mark.parametrize(
    ("cancel", "sql"),
    [
        (by_flight_info, LONG),
        (by_flight_info, ENDLESS),
        (by_dummy_info, LONG),
        (by_empty_info, ENDLESS),
        (by_cancel_query, LONG),
        (by_id, LONG),
    ],
)
def test_a_running_query_is_cancelled(busy: Server, client: Client, cancel: Cancel, sql: str) -> None:
    info = client.get_flight_info(flight_sql.statement_query(sql))
    reader = client.do_get(info.endpoints[0].ticket)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: [None for _ in reader])
        eventually(lambda: is_working(busy))
        began = time.monotonic()
        cancel(client, info)
        with pytest.raises(pyarrow.flight.FlightCancelledError, match="the statement was cancelled"):
            reading.result(SOON)
        answered = time.monotonic() - began
        while is_working(busy):
            assert time.monotonic() - began < SOON
        ended = time.monotonic() - began
    LOG.info("%s: answered after %.0f ms, ended after %.0f ms", cancel.__name__, answered * 1e3, ended * 1e3)
    (query,) = states(client, f"id = '{json.loads(info.app_metadata)['query_id']}'")
    assert (query["state"], query["ended_at"] is not None) == ("cancelled", True)
    with pytest.raises(pyarrow.flight.FlightCancelledError, match="plan it again"):
        client.do_get(info.endpoints[0].ticket).read_all()
    assert cancel_flight_info(client, info.serialize()) == 1


def by_reset(busy: Server, client: Client) -> None:
    info = client.get_flight_info(flight_sql.statement_query(LONG))
    reader = client.do_get(info.endpoints[0].ticket)
    eventually(lambda: is_working(busy))
    reader.cancel()
    with pytest.raises(pyarrow.flight.FlightCancelledError):
        reader.read_chunk()


def by_deadline(busy: Server, client: Client) -> None:
    info = client.get_flight_info(flight_sql.statement_query(LONG))
    options = pyarrow.flight.FlightCallOptions(timeout=0.2)
    with pytest.raises(pyarrow.flight.FlightTimedOutError):
        client.do_get(info.endpoints[0].ticket, options).read_all()


def by_adbc(busy: Server, client: Client) -> None:
    with (
        dbapi.connect(busy.uri, autocommit=True) as connection,
        connection.cursor() as cursor,
        once_working(busy, cursor.adbc_cancel),
        pytest.raises(dbapi.OperationalError, match=r"(?i)cancel"),
    ):
        cursor.execute(LONG)
        cursor.fetchall()


def by_leaving(busy: Server, client: Client) -> None:
    with pyarrow.flight.connect(busy.uri) as leaving:
        info = leaving.get_flight_info(flight_sql.statement_query(ENDLESS))
        leaving.do_get(info.endpoints[0].ticket).read_chunk()


@pytest.mark.parametrize("leave", [by_reset, by_deadline, by_adbc, by_leaving])
def test_a_client_that_goes_away_ends_its_query(
    busy: Server, client: Client, leave: Callable[[Server, Client], None]
) -> None:
    leave(busy, client)
    began = time.monotonic()
    eventually(lambda: not is_working(busy))
    LOG.info("%s: ended after %.0f ms", leave.__name__, (time.monotonic() - began) * 1e3)
    assert time.monotonic() - began < SOON
    eventually(lambda: states(client)[-1]["state"] == "cancelled")


def test_a_query_cancelled_before_it_is_fetched_never_runs(client: Client) -> None:
    info = client.get_flight_info(flight_sql.statement_query("SELECT 1 AS x"))
    assert states(client)[-1]["state"] == "planned"
    by_flight_info(client, info)
    with pytest.raises(pyarrow.flight.FlightCancelledError, match="was cancelled; plan it again"):
        client.do_get(info.endpoints[0].ticket).read_all()


def test_what_has_ended_cannot_be_cancelled(client: Client) -> None:
    info = client.get_flight_info(flight_sql.statement_query("SELECT 1 AS x"))
    assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == 1
    assert cancel_flight_info(client, info.serialize()) == 3
    assert json.loads(act(client, "cancel_query", info.app_metadata)[0])["status"] == "not cancellable"
    (query,) = states(client, f"id = '{json.loads(info.app_metadata)['query_id']}'")
    assert (query["state"], query["rows"], query["progress"], query["bytes"] > 0) == (
        "finished",
        1,
        1.0,
        True,
    )


@pytest.mark.parametrize(
    ("name", "body", "error", "message"),
    [
        ("CancelFlightInfo", b"", KeyError, "this session runs nothing"),
        ("cancel_query", b'{"query_id": "nope"}', KeyError, "no query 'nope'.*sys.queries"),
        ("cancel_query", b"", pa.ArrowInvalid, 'takes {"query_id"'),
        ("cancel_query", b'{"query_id": 7}', pa.ArrowInvalid, 'takes {"query_id"'),
        ("cancel_query", b'{"id": "x"}', pa.ArrowInvalid, "takes only query_id"),
    ],
)
def test_nothing_to_cancel_is_said(
    client: Client, name: str, body: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        act(client, name, body)


def test_a_session_cancels_its_own_only(busy: Server, client: Client) -> None:
    before = descriptors(busy)
    info = client.get_flight_info(flight_sql.statement_query(ENDLESS))
    reader = client.do_get(info.endpoints[0].ticket)
    reader.read_chunk()  # and no more: nobody reads when the query is cancelled
    with pyarrow.flight.connect(busy.uri) as other, pytest.raises(KeyError, match="runs nothing"):
        by_empty_info(other, info)
    by_empty_info(client, info)
    eventually(lambda: descriptors(busy) <= before)
    with pytest.raises(pyarrow.flight.FlightCancelledError, match="the statement was cancelled"):
        while True:  # read_all() in the main thread would make it a KeyboardInterrupt
            reader.read_chunk()


def test_a_session_bounds_the_time_of_its_statements(busy: Server, client: Client) -> None:
    client.get_flight_info(flight_sql.statement_query("SET statement_timeout = '200ms'"))
    began = time.monotonic()
    with pytest.raises(pyarrow.flight.FlightTimedOutError, match=r"longer than 0\.2 s"):
        flight_sql.query(client, LONG)
    while is_working(busy):
        assert time.monotonic() - began < SOON
    assert states(client)[-1]["state"] == "failed"


def seconds_of_planning(client: Client, sql: str) -> float:
    began = time.monotonic()
    client.get_flight_info(flight_sql.statement_query(sql))
    return time.monotonic() - began


def answers(cursor: dbapi.Cursor, sql: str) -> bool:
    with suppress(dbapi.OperationalError):
        cursor.execute(sql)
        return bool(cursor.fetchall())
    return False


def test_planning_takes_of_the_time_of_a_statement(busy: Server, client: Client) -> None:
    """The constant is computed when the statement is planned, and once more when it runs."""
    sql = "SELECT bit_count(bitstring('1', 200000000)) -- {}"
    bound = int(1_700 * min(seconds_of_planning(client, sql.format(attempt)) for attempt in range(3)))
    late = f"longer than {bound / 1_000:g} s"
    client.get_flight_info(flight_sql.statement_query(f"SET statement_timeout = '{bound}ms'"))
    with pytest.raises(pyarrow.flight.FlightTimedOutError, match=late):
        flight_sql.query(client, sql.format("bounded"))
    with dbapi.connect(busy.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{bound}ms'")
        with pytest.raises(dbapi.OperationalError, match=late):
            cursor.execute(sql.format("prepared"))
            cursor.fetchall()
        # The cursor does not prepare it again; a busy machine may make it late all the same.
        assert any(answers(cursor, sql.format("prepared")) for _ in range(5))


def by_info_deadline(sql: str) -> Callable[[Server, Client], None]:
    def leave(busy: Server, client: Client) -> None:
        options = pyarrow.flight.FlightCallOptions(timeout=0.4)
        with pytest.raises(pyarrow.flight.FlightTimedOutError):
            client.get_flight_info(flight_sql.statement_query(sql), options)

    return leave


def by_dummy_during_info(busy: Server, client: Client) -> None:
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(client.get_flight_info, flight_sql.statement_query(WRITING))
        eventually(lambda: is_working(busy))
        assert cancel_flight_info(client, b"") == 1
        with pytest.raises(pyarrow.flight.FlightCancelledError, match="the statement was cancelled"):
            asking.result(SOON)


def by_adbc_during_update(busy: Server, client: Client) -> None:
    with dbapi.connect(busy.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query(WRITING)
        with (
            once_working(busy, cursor.adbc_statement.cancel),
            pytest.raises(dbapi.OperationalError, match=r"(?i)cancel"),
        ):
            cursor.adbc_statement.execute_update()


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(by_info_deadline(WRITING), id="create"),
        pytest.param(by_info_deadline(f"SET VARIABLE v = ({LONG})"), id="set"),
        pytest.param(by_info_deadline(f"PIVOT ({LONG}) ON n USING count(*)"), id="pivot"),
        by_dummy_during_info,
        by_adbc_during_update,
    ],
)
def test_a_statement_with_effects_is_cancelled_while_it_runs(
    busy: Server, client: Client, leave: Callable[[Server, Client], None]
) -> None:
    leave(busy, client)
    began = time.monotonic()
    eventually(lambda: not is_working(busy))
    assert time.monotonic() - began < SOON
    assert states(client)[-1]["state"] == "cancelled"
    client.get_flight_info(flight_sql.statement_query(f"CREATE TEMP TABLE {TABLE} AS SELECT 1 AS n"))
    assert flight_sql.query(client, f"FROM {TABLE}")["n"].to_pylist() == [1]
