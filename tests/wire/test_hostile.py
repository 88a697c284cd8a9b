"""Any bytes to any method of a real server: refused politely, never INTERNAL or UNKNOWN."""

from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.flight.wire import messages
from flight_server.testing import Server
from tests import flight_sql

POLITE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
}
UNARY = ["GetFlightInfo", "PollFlightInfo", "GetSchema"]
STREAMS = ["DoGet", "DoAction", "ListActions", "ListFlights"]
EXCHANGES = ["Handshake", "DoPut", "DoExchange"]
SERVICE = "/arrow.flight.protocol.FlightService"

ACTIONS = [
    *("CreatePreparedStatement", "CreatePreparedSubstraitPlan", "ClosePreparedStatement", "BeginTransaction"),
    *("EndTransaction", "BeginSavepoint", "EndSavepoint", "CancelQuery", "CancelFlightInfo"),
    *("RenewFlightEndpoint", "SetSessionOptions", "GetSessionOptions", "CloseSession"),
    *("migrate", "register", "sweep", "cancel_query", "Nonsense", ""),
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.one_of(st.binary(max_size=40), texts.map(str.encode))
packed = st.builds(
    lambda prefix, name, value: messages.encode("Any", type_url=f"x/{prefix}{name}", value=value),
    st.sampled_from([messages.SQL_PREFIX, messages.SQL_PREFIX, "google.protobuf."]),
    st.sampled_from([*messages._FLIGHT_SQL, "CommandStatementSubstraitPlan", "Nonsense"]),
    values,
)
bodies = st.one_of(st.binary(max_size=60), packed)
descriptors = st.builds(
    lambda kind, cmd, path: messages.encode("FlightDescriptor", type=kind, cmd=cmd, path=path),
    st.integers(0, 3),
    bodies,
    st.lists(texts, max_size=3),
)
json_bodies = st.sampled_from([b"{}", b"[]", b"null", b'{"x": 1}', b'{"query_id": []}', b'{"dry_run": 3}'])
actions = st.builds(
    lambda name, body: messages.encode("Action", type=name, body=body),
    st.sampled_from(ACTIONS),
    st.one_of(bodies, bodies, json_bodies),
)
uploads = st.builds(
    lambda data: b"\x0a" + bytes([len(data)]) + data, descriptors.filter(lambda d: len(d) < 128)
)
tickets = st.builds(lambda body: messages.encode("Ticket", ticket=body), bodies)
REQUESTS = {
    "GetFlightInfo": descriptors,
    "PollFlightInfo": descriptors,
    "GetSchema": descriptors,
    "DoGet": tickets,
    "DoAction": actions,
    "DoPut": uploads,
}


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


def answer_of(channel: grpc.Channel, method: str, sent: list[bytes]) -> tuple[grpc.StatusCode, str]:
    path = f"{SERVICE}/{method}"
    try:
        if method in UNARY:
            channel.unary_unary(path)(sent[0], timeout=10)
        elif method in STREAMS:
            list(channel.unary_stream(path)(sent[0], timeout=10))
        else:
            list(channel.stream_stream(path)(iter(sent), timeout=10))
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def check_any_bytes(channel: grpc.Channel, method: str, examples: int) -> None:
    """Send what the method takes, damaged or not, and what others take."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True)
    @given(
        sent=st.lists(
            st.one_of(REQUESTS.get(method, bodies), bodies, *REQUESTS.values()), min_size=1, max_size=3
        )
    )
    def check(sent: list[bytes]) -> None:
        code, details = answer_of(channel, method, sent)
        assert code in POLITE, details
        assert "Traceback" not in details

    check()


@pytest.mark.parametrize("method", [*UNARY, *STREAMS, *EXCHANGES])
def test_any_bytes_are_refused_politely(channel: grpc.Channel, method: str) -> None:
    check_any_bytes(channel, method, 40)


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", [*UNARY, *STREAMS, *EXCHANGES])
def test_many_more_bytes_are_refused_politely(channel: grpc.Channel, method: str) -> None:
    check_any_bytes(channel, method, 2_000)


def well_formed(channel: grpc.Channel) -> dict[str, bytes]:
    """Return a good request of each kind, with handles of this server."""
    descriptor = flight_sql.statement_query("SELECT 1 AS x").serialize()
    plan = channel.unary_unary(f"{SERVICE}/GetFlightInfo")
    info, doomed = (messages.parse("FlightInfo", plan(descriptor)) for _ in range(2))
    body = messages.pack("ActionCreatePreparedStatementRequest", query="SELECT ? + 1 AS x")
    create = messages.encode("Action", type="CreatePreparedStatement", body=body)
    (result,) = channel.unary_stream(f"{SERVICE}/DoAction")(create)
    name, value = messages.unpack(messages.parse("Result", result).body)
    handle = messages.parse(name, value).prepared_statement_handle
    prepared = messages.pack("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    cancel = messages.encode("CancelFlightInfoRequest", info=doomed)
    renew = messages.encode("RenewFlightEndpointRequest", endpoint=info.endpoint[0])
    return {
        "GetFlightInfo": descriptor,
        "PollFlightInfo": messages.encode("FlightDescriptor", type=2, cmd=prepared),
        "GetSchema": messages.encode("FlightDescriptor", type=2, cmd=prepared),
        "DoGet": info.endpoint[0].ticket.SerializeToString(),
        "DoAction": messages.encode("Action", type="CancelFlightInfo", body=cancel),
        "DoAction ": messages.encode("Action", type="RenewFlightEndpoint", body=renew),
        "DoAction  ": create,
    }


def check_damage(channel: grpc.Channel, examples: int) -> None:
    """Cut and change good requests anywhere, handles of this server included."""
    good = well_formed(channel)

    @settings(max_examples=examples, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True)
    @given(st.sampled_from(sorted(good)), st.floats(0, 1), st.integers(0, 255), st.booleans())
    def check(kind: str, place: float, byte: int, is_cut: bool) -> None:
        request = bytearray(good[kind])
        at = int(place * (len(request) - 1))
        if is_cut:
            del request[at:]
        else:
            request[at] = byte
        code, details = answer_of(channel, kind.strip(), [bytes(request)])
        assert code in POLITE, details
        assert "Traceback" not in details

    check()


def test_damaged_requests_are_refused_politely(channel: grpc.Channel) -> None:
    check_damage(channel, 150)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_many_damaged_requests_are_refused_politely(channel: grpc.Channel) -> None:
    check_damage(channel, 10_000)


def test_a_put_without_any_message_is_invalid(channel: grpc.Channel) -> None:
    assert answer_of(channel, "DoPut", [])[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_an_exchange_needs_a_descriptor(channel: grpc.Channel) -> None:
    assert answer_of(channel, "DoExchange", [b""])[0] is grpc.StatusCode.INVALID_ARGUMENT
