"""A thousand statements that nobody reads to their end leave nothing behind."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.flight.wire import messages
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.e2e.test_cancel import is_working
from tests.e2e.test_lifecycle import children

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]

ROUND = 1_000
AT_ONCE = 8
SQL = "SELECT i, repeat('x', 100) AS s FROM range(20000000) t(i)"
MAX_GROWTH_BYTES = 48 * 1024 * 1024


@dataclass(frozen=True)
class Footprint:
    """What gateway and engine process have open, and their resident memory in bytes."""

    descriptors: tuple[int, int]
    threads: int
    memory: tuple[int, int]


def footprint(server: Server) -> Footprint:
    pids = (server.process.pid, children(server.process.pid)[0])
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    size = os.sysconf("SC_PAGE_SIZE")
    return Footprint(
        (len(os.listdir(f"/proc/{pids[0]}/fd")), len(os.listdir(f"/proc/{pids[1]}/fd"))),
        len(os.listdir(f"/proc/{pids[1]}/task")),
        (pages[0] * size, pages[1] * size),
    )


def settled(server: Server) -> Footprint:
    """Return the footprint once nothing works any more and closed connections are gone."""
    deadline = time.monotonic() + 30
    while is_working(server):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2)
    return footprint(server)


def planned_only(server: Server) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        client.get_flight_info(flight_sql.statement_query(SQL))


def half_read(server: Server) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query(SQL))
        client.do_get(info.endpoints[0].ticket).read_chunk()


def reset(server: Server) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query(SQL))
        client.do_get(info.endpoints[0].ticket).cancel()


def timed_out(server: Server) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query(SQL))
        options = pyarrow.flight.FlightCallOptions(timeout=0.02)
        with contextlib.suppress(pyarrow.flight.FlightTimedOutError):
            client.do_get(info.endpoints[0].ticket, options).read_all()


def half_read_by_adbc(server: Server) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(SQL)
        cursor.fetchone()


def cut_off(server: Server) -> None:
    """Ask for rows on a raw channel that is closed under the call."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        service = "/arrow.flight.protocol.FlightService"
        descriptor = flight_sql.statement_query(SQL).serialize()
        info = messages.parse("FlightInfo", channel.unary_unary(f"{service}/GetFlightInfo")(descriptor))
        ticket = info.endpoint[0].ticket.SerializeToString()
        for _ in channel.unary_stream(f"{service}/DoGet")(ticket):
            break


def polled_once(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        descriptor = flight_sql.statement_query(SQL).serialize()
        channel.unary_unary("/arrow.flight.protocol.FlightService/PollFlightInfo")(descriptor)


WAYS = [planned_only, half_read, reset, timed_out, half_read_by_adbc, cut_off, polled_once]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(limits={"session_idle": 2, "held_results_bytes": 8 * 1024 * 1024}) as running:
        yield running


def abandon(server: Server, ways: list[Callable[[Server], None]], times: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(ways[turn % len(ways)], server) for turn in range(times)]:
            done.result()


def test_a_thousand_abandoned_statements_leave_nothing(server: Server) -> None:
    abandon(server, WAYS, ROUND // 2)  # whatever grows to its full size does so here
    before = settled(server)
    abandon(server, WAYS, ROUND)
    after = settled(server)
    logging.getLogger(__name__).info("before: %s\nafter: %s", before, after)
    assert after.descriptors <= tuple(count + AT_ONCE for count in before.descriptors)
    assert after.threads <= before.threads + AT_ONCE
    growth = [now - then for now, then in zip(after.memory, before.memory, strict=True)]
    assert max(growth) < MAX_GROWTH_BYTES
    with pyarrow.flight.connect(server.uri) as client:
        running = flight_sql.query(client, "SELECT sql FROM sys.queries WHERE state = 'running'")
        assert running.num_rows == 1  # this one
