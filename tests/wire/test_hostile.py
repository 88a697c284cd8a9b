"""Any bytes to any method: refused politely, never INTERNAL or UNKNOWN."""

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.flight.wire import messages

POLITE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
}
NAMES = [*messages._FLIGHT_SQL, "CommandGetTables", "Nonsense"]
ACTIONS = ["CreatePreparedStatement", "ClosePreparedStatement", "BeginTransaction", "EndTransaction"]

packed = st.builds(
    lambda name, value: messages.encode("Any", type_url=f"x/{messages.SQL_PREFIX}{name}", value=value),
    st.sampled_from(NAMES),
    st.binary(max_size=40),
)
bodies = st.one_of(st.binary(max_size=60), packed)
descriptors = st.builds(
    lambda kind, cmd, path: messages.encode("FlightDescriptor", type=kind, cmd=cmd, path=path),
    st.integers(0, 3),
    bodies,
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
)
actions = st.builds(
    lambda name, body: messages.encode("Action", type=name, body=body),
    st.sampled_from([*ACTIONS, "CloseSession", "migrate", "", "CancelFlightInfo"]),
    bodies,
)
requests = st.one_of(
    bodies,
    descriptors,
    actions,
    st.builds(lambda body: messages.encode("Ticket", ticket=body), bodies),
    st.builds(lambda data: b"\x0a" + bytes([len(data)]) + data, descriptors.filter(lambda d: len(d) < 128)),
)


@pytest.fixture(scope="module")
def channel(wire_server):
    with grpc.insecure_channel(f"127.0.0.1:{wire_server.port}") as opened:
        yield opened


def answer_of(channel, method, sent):
    path = f"/arrow.flight.protocol.FlightService/{method}"
    unary = {"GetFlightInfo", "GetSchema"}
    answers = {"DoGet", "DoAction", "ListActions", "ListFlights"}
    try:
        if method in unary:
            channel.unary_unary(path)(sent[0], timeout=10)
        elif method in answers:
            list(channel.unary_stream(path)(sent[0], timeout=10))
        else:
            list(channel.stream_stream(path)(iter(sent), timeout=10))
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize(
    "method",
    ["Handshake", "GetFlightInfo", "GetSchema", "DoGet", "DoPut", "DoAction", "ListActions", "ListFlights"],
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(requests, min_size=1, max_size=3))
def test_any_bytes_are_refused_politely(channel, method, sent):
    code, details = answer_of(channel, method, sent)
    assert code in POLITE
    assert "Traceback" not in details


def test_a_put_without_any_message_is_invalid(channel):
    assert answer_of(channel, "DoPut", [])[0] is grpc.StatusCode.INVALID_ARGUMENT
