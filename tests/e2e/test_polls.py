"""PollFlightInfo: queries in the background, their progress, their results, their end."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight
import pytest

from flight_server.flight.wire import messages
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.e2e.test_cancel import is_working, states
from tests.e2e.test_lifecycle import eventually

A_SECOND = "SELECT count(*) AS n FROM range(150000000) t(i) WHERE i % 3 = 0"
FOR_EVER = "SELECT count(*) AS n FROM range(300000000000) t(i) WHERE i % 3 = 0"
LARGE = "SELECT i, i * 7 AS j, md5(i::varchar) AS k FROM range(200000) t(i)"
SERVICE = "/arrow.flight.protocol.FlightService"


@dataclass(frozen=True)
class Poller:
    """A client of PollFlightInfo, which pyarrow does not have, and of everything else."""

    server: Server
    channel: grpc.Channel
    flight: pyarrow.flight.FlightClient

    def poll(self, descriptor: bytes) -> Any:
        request = self.channel.unary_unary(f"{SERVICE}/PollFlightInfo")
        return messages.parse("PollInfo", request(descriptor, timeout=20))

    def start(self, sql: str) -> Any:
        return self.poll(flight_sql.statement_query(sql).serialize())

    def finish(self, info: Any) -> pyarrow.flight.FlightInfo:
        while info.flight_descriptor:
            info = self.poll(info.flight_descriptor)
        return pyarrow.flight.FlightInfo.deserialize(info.info)

    def fetch(self, info: pyarrow.flight.FlightInfo) -> pa.Table:
        return self.flight.do_get(info.endpoints[0].ticket).read_all()

    def fails(self, descriptor: bytes) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as raised:
            self.finish(self.poll(descriptor))
        return raised.value.code(), raised.value.details() or ""


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    """A server of its own that holds a megabyte and expires polls after two seconds."""
    with serve(limits={"held_results_bytes": 1024 * 1024, "session_idle": 2}) as running:
        yield running


@pytest.fixture
def poller(patient: Server) -> Iterator[Poller]:
    with (
        grpc.insecure_channel(f"127.0.0.1:{patient.port}") as channel,
        pyarrow.flight.connect(patient.uri) as flight,
    ):
        yield Poller(patient, channel, flight)


def query_of(info: pyarrow.flight.FlightInfo) -> str:
    return str(json.loads(info.app_metadata)["query_id"])


def test_a_long_query_tells_its_progress_then_its_result(poller: Poller) -> None:
    began = time.monotonic()
    first = poller.start(A_SECOND)
    assert time.monotonic() - began < 0.5
    partial = pyarrow.flight.FlightInfo.deserialize(first.info)
    assert (partial.schema, partial.endpoints) == (pa.schema({"n": pa.int64()}), [])
    assert 0 < first.expiration_time.seconds - time.time() < 3
    seen, info = [], first
    while info.flight_descriptor:
        seen.append(info.progress)
        info = poller.poll(info.flight_descriptor)
    assert len(seen) <= time.monotonic() - began + 2  # each later poll waits a second for news
    assert all(0 <= progress <= 1 for progress in seen)
    assert sorted(seen) == seen
    assert len(seen) == 1 or seen[-1] > 0
    complete = poller.finish(info)
    began = time.monotonic()
    assert poller.fetch(complete)["n"].to_pylist() == [50_000_000]
    assert time.monotonic() - began < 0.3
    assert states(poller.flight, f"id = '{query_of(complete)}'")[0]["state"] == "finished"


def test_a_prepared_query_is_polled(poller: Poller) -> None:
    body = messages.pack("ActionCreatePreparedStatementRequest", query=A_SECOND)
    (result,) = poller.flight.do_action(pyarrow.flight.Action("CreatePreparedStatement", body))
    _, prepared = messages.unpack(result.body.to_pybytes())
    handle = messages.parse("ActionCreatePreparedStatementResult", prepared).prepared_statement_handle
    command = messages.pack("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    first = poller.poll(messages.encode("FlightDescriptor", type=2, cmd=command))
    assert poller.fetch(poller.finish(first))["n"].to_pylist() == [50_000_000]


def test_what_has_effects_has_had_them_when_it_answers(poller: Poller) -> None:
    info = poller.start("CREATE TEMP TABLE polled AS SELECT 5 AS x")
    assert not info.flight_descriptor
    assert poller.finish(info).endpoints == []
    assert poller.finish(poller.start("SELECT count(*) AS n FROM sys.sessions")).total_records == -1


@pytest.mark.parametrize(
    "descriptor",
    [
        flight_sql.statement_query("SELECT 42 AS x"),
        flight_sql.command("GetTableTypes"),
        flight_sql.command("GetSqlInfo"),
    ],
)
def test_what_takes_no_time_is_complete_at_once(poller: Poller, descriptor: Any) -> None:
    info = poller.poll(descriptor.serialize())
    assert not info.flight_descriptor
    assert poller.fetch(poller.finish(info)).num_rows > 0


def test_a_result_that_is_too_large_to_be_held_comes_from_its_ticket(poller: Poller) -> None:
    info = poller.finish(poller.start(LARGE))
    for _ in range(2):
        assert poller.fetch(info).equals(flight_sql.query(poller.flight, LARGE))


def test_held_results_are_what_was_computed_then(poller: Poller) -> None:
    infos = [poller.finish(poller.start("SELECT random() AS x, i FROM range(10000) t(i)")) for _ in range(9)]
    tables = [poller.fetch(info) for info in infos[-3:]]
    assert [poller.fetch(info) for info in infos[-3:]] == tables
    assert not poller.fetch(infos[0]).equals(poller.fetch(infos[0]))  # made room for the others


def test_a_query_that_fails_tells_whoever_polls(poller: Poller) -> None:
    failing = "SELECT sum(CASE WHEN i = 99999999 THEN error('oh no') ELSE i END) FROM range(100000000) t(i)"
    descriptor = flight_sql.statement_query(failing).serialize()
    assert poller.fails(descriptor) == (grpc.StatusCode.INVALID_ARGUMENT, "oh no")


@pytest.mark.parametrize("by", ["info", "id"])
def test_a_polled_query_is_cancelled(poller: Poller, by: str) -> None:
    first = poller.start(FOR_EVER)
    eventually(lambda: is_working(poller.server))
    request = messages.encode("CancelFlightInfoRequest", info=messages.parse("FlightInfo", first.info))
    id_body = pyarrow.flight.FlightInfo.deserialize(first.info).app_metadata
    action = {"info": ("CancelFlightInfo", request), "id": ("cancel_query", id_body)}[by]
    list(poller.flight.do_action(pyarrow.flight.Action(*action)))
    eventually(lambda: not is_working(poller.server))
    code, message = poller.fails(first.flight_descriptor)
    assert (code, message) == (grpc.StatusCode.CANCELLED, "the statement was cancelled; plan it again")


@pytest.mark.slow
def test_a_poll_that_nobody_asks_for_expires(poller: Poller) -> None:
    first = poller.start(FOR_EVER)
    eventually(lambda: is_working(poller.server))
    eventually(lambda: not is_working(poller.server))
    code, message = poller.fails(first.flight_descriptor)
    assert code is grpc.StatusCode.NOT_FOUND
    assert "expired" in message


def test_tickets_say_when_they_expire_and_can_be_renewed(poller: Poller) -> None:
    info = poller.flight.get_flight_info(flight_sql.statement_query("SELECT 7 AS x"))
    parsed = messages.parse("FlightInfo", info.serialize()).endpoint[0]
    assert 3600 < parsed.expiration_time.seconds - time.time() < 24 * 3600
    body = messages.encode("RenewFlightEndpointRequest", endpoint=parsed)
    (result,) = poller.flight.do_action(pyarrow.flight.Action("RenewFlightEndpoint", body))
    renewed = messages.parse("FlightEndpoint", result.body.to_pybytes())
    assert moment(renewed) > moment(parsed)
    ticket = pyarrow.flight.Ticket(renewed.ticket.ticket)
    assert poller.flight.do_get(ticket).read_all().to_pydict() == {"x": [7]}


def moment(endpoint: Any) -> tuple[int, int]:
    return endpoint.expiration_time.seconds, endpoint.expiration_time.nanos


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("CreatePreparedSubstraitPlan", "Substrait"),
        ("BeginSavepoint", "savepoints are not served"),
        ("EndSavepoint", "savepoints are not served"),
    ],
)
def test_what_is_not_served_is_said_and_not_listed(poller: Poller, action: str, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        list(poller.flight.do_action(pyarrow.flight.Action(action, b"")))
    assert action not in [listed.type for listed in poller.flight.list_actions()]


def test_substrait_is_said_not_to_be_served(poller: Poller) -> None:
    descriptor = flight_sql.command("StatementSubstraitPlan").serialize()
    assert poller.fails(descriptor)[0] is grpc.StatusCode.UNIMPLEMENTED
    assert "Substrait" in poller.fails(descriptor)[1]
