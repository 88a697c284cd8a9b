"""Stock clients against the service."""

import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import duckdb
import grpc
import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions

from flight_server.domain.dataset import IngestMode
from flight_server.errors import BY_NAME
from flight_server.flight.wire import messages

TABLE = pa.table({"x": pa.array([1, 2, 3], pa.int64())})


@pytest.fixture
def client(wire_server):
    with pyarrow.flight.connect(wire_server.uri) as connection:
        yield connection


@pytest.fixture
def connection(wire_server):
    credentials = {"username": "u", "password": "p"}
    with flightsql.connect(wire_server.uri, db_kwargs=credentials, autocommit=True) as adbc:
        yield adbc


def with_headers(**named):
    pairs = [(f"x-lakehouse-{name}".encode(), value.encode()) for name, value in named.items()]
    return pyarrow.flight.FlightCallOptions(headers=pairs, timeout=10)


def query(sql):
    return pyarrow.flight.FlightDescriptor.for_command(messages.pack("CommandStatementQuery", query=sql))


def wait_until(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


class LegacyAuth(pyarrow.flight.ClientAuthHandler):
    """Sends BasicAuth as the handshake's payload and waits for the token."""

    def __init__(self, payload):
        super().__init__()
        self.payload, self.token = payload, b""

    def authenticate(self, outgoing, incoming):
        outgoing.write(self.payload)
        self.token = incoming.read()

    def get_token(self):
        return self.token


class ReplyHeaders(pyarrow.flight.ClientMiddlewareFactory):
    """Collects the headers of replies."""

    def __init__(self):
        super().__init__()
        self.received = {}

    def start_call(self, info):
        collector = self

        class Collect(pyarrow.flight.ClientMiddleware):
            def received_headers(self, headers):
                collector.received.update(headers)

        return Collect()


def test_basic_handshake_gives_a_session_that_later_calls_find(wire_server, client):
    header = client.authenticate_basic_token("u", "p")
    assert header[1].startswith(b"Bearer ")
    options = pyarrow.flight.FlightCallOptions(headers=[header])
    for _ in range(2):
        client.get_flight_info(query("select"), options)
    first, second = wire_server.query.calls[-2:]
    assert first.session_id == second.session_id


def test_legacy_handshake_answers_the_payload(wire_server, client):
    handler = LegacyAuth(pyarrow.flight.BasicAuth("u", "p").serialize())
    client.authenticate(handler)
    session = wire_server.sessions.resume(handler.token.decode(), None, "", "local")
    client.get_flight_info(query("select"))
    assert wire_server.query.calls[-1].session_id == session.id


def test_legacy_handshake_with_garbage_is_unauthenticated(client):
    with pytest.raises(pyarrow.flight.FlightUnauthenticatedError):
        client.authenticate(LegacyAuth(b"\xff\xff"))


@pytest.mark.parametrize(("sent", "shown"), [("data", "primary"), ("testing", "testing"), (" ", "primary")])
def test_replies_show_the_canonical_bucket(wire_server, sent, shown):
    collector = ReplyHeaders()
    with pyarrow.flight.connect(wire_server.uri, middleware=[collector]) as client:
        client.get_flight_info(query("select"), with_headers(bucket=sent))
    assert wire_server.query.calls[-1].bucket == shown
    if sent.strip():
        assert collector.received["x-lakehouse-bucket"] == [shown]


def test_an_unknown_bucket_names_the_valid_ones(client):
    with pytest.raises(pa.ArrowKeyError, match="primary, testing, profile:user"):
        client.get_flight_info(query("select"), with_headers(bucket="nope"))


def test_a_wrong_mode_names_the_valid_ones(client):
    with pytest.raises(pa.ArrowInvalid, match="create, append, replace, create_append"):
        list(client.list_actions(with_headers(mode="upsert")))


def test_query_by_command_and_by_path(client):
    for descriptor in (query("select"), pyarrow.flight.FlightDescriptor.for_path("testing", "t")):
        info = client.get_flight_info(descriptor)
        assert info.schema == client.get_schema(descriptor).schema == TABLE.schema
        assert client.do_get(info.endpoints[0].ticket).read_all() == TABLE


def test_put_by_path_takes_the_mode_from_its_header(wire_server, client):
    descriptor = pyarrow.flight.FlightDescriptor.for_path("testing", "t")
    writer, reader = client.do_put(descriptor, TABLE.schema, with_headers(mode="replace"))
    with writer:
        writer.write_table(TABLE)
        writer.done_writing()
        assert b'"dataset": "t", "bucket": "testing"' in reader.read().to_pybytes()
    target = wire_server.ingest.targets[-1]
    assert (target.dataset, target.schema, target.mode) == ("t", "testing", IngestMode.REPLACE)


@pytest.mark.parametrize("path", [(), ("a", "b", "c"), ("", "t"), ("t", "")])
def test_other_paths_are_invalid(client, path):
    with pytest.raises(pa.ArrowInvalid, match="path"):
        client.get_flight_info(pyarrow.flight.FlightDescriptor.for_path(*path))


def test_an_early_refusal_reaches_a_client_that_still_sends(client):
    batch = pa.record_batch({"x": pa.array(range(100_000), pa.int64())})
    descriptor = pyarrow.flight.FlightDescriptor.for_path("refused")
    writer, _ = client.do_put(descriptor, batch.schema, with_headers())

    def send_for_ever():
        with writer:
            while True:
                writer.write_batch(batch)

    with pytest.raises(pa.ArrowInvalid, match="refused at once"):
        send_for_ever()


def test_a_killed_upload_is_seen(wire_server):
    wire_server.ingest.ended.clear()
    descriptor = pyarrow.flight.FlightDescriptor.for_path("t").serialize()
    first = b"\x0a" + bytes([len(descriptor)]) + descriptor
    more = threading.Event()

    def upload():
        yield first
        more.wait(5)

    with grpc.insecure_channel(f"127.0.0.1:{wire_server.port}") as channel:
        call = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")(upload())
        wait_until(lambda: wire_server.ingest.targets[-1:] and wire_server.ingest.targets[-1].dataset == "t")
        call.cancel()
    more.set()
    wait_until(wire_server.ingest.ended.is_set)
    assert wire_server.ingest.outcome == "cancelled"


def test_a_reader_that_goes_away_closes_the_stream(wire_server, client):
    wire_server.query.ended.clear()
    reader = client.do_get(client.get_flight_info(query("endless")).endpoints[0].ticket)
    reader.read_chunk()
    reader.cancel()
    del reader
    wait_until(wire_server.query.ended.is_set)


def test_a_deadline_cancels_the_statement(wire_server, client):
    wire_server.query.ended.clear()
    with pytest.raises(pyarrow.flight.FlightTimedOutError):
        client.get_flight_info(query("sleep"), pyarrow.flight.FlightCallOptions(timeout=0.2))
    wait_until(wire_server.query.ended.is_set)


def test_list_actions_lists_what_is_served(client):
    actions = {action.type: action.description for action in client.list_actions()}
    assert {"CreatePreparedStatement", "EndTransaction", "CloseSession", "migrate"} <= actions.keys()
    assert all(actions.values())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"dry_run": 1}', "true or false"),
        (b'{"dry": true}', "'dry'"),
        (b"[]", "list"),
        (b"{", "JSON"),
        (b'{"dry": "%s"}' % bytes(1024 * 1024), "at most 1048576 are read"),
    ],
)
def test_migrate_refuses_other_bodies(client, body, error):
    with pytest.raises(pa.ArrowInvalid, match=error):
        list(client.do_action(pyarrow.flight.Action("migrate", body)))


def test_migrate_answers_json(client):
    (result,) = client.do_action(pyarrow.flight.Action("migrate", b'{"dry_run": true}'))
    assert result.body.to_pybytes() == b'{"total": 0, "dry_run": true}'


@pytest.mark.parametrize("action", [0, 3])
def test_end_transaction_must_say_what(client, action):
    body = messages.pack("ActionEndTransactionRequest", transaction_id=b"tx", action=action)
    with pytest.raises(pa.ArrowInvalid, match="commit"):
        list(client.do_action(pyarrow.flight.Action("EndTransaction", body)))


ADBC_ERRORS = {
    "InvalidArgumentError": adbc_driver_manager.ProgrammingError,
    "SchemaMismatchError": adbc_driver_manager.ProgrammingError,
    "NotFoundError": adbc_driver_manager.ProgrammingError,
    "AlreadyExistsError": adbc_driver_manager.ProgrammingError,
    "PermissionDeniedError": adbc_driver_manager.ProgrammingError,
    "UnauthenticatedError": adbc_driver_manager.ProgrammingError,
    "FailedPreconditionError": adbc_driver_manager.OperationalError,
    "ConflictError": adbc_driver_manager.OperationalError,
    "StateLostError": adbc_driver_manager.OperationalError,
    "ResourceExhaustedError": adbc_driver_manager.InternalError,
    "UnavailableError": adbc_driver_manager.OperationalError,
    "DeadlineExceededError": adbc_driver_manager.OperationalError,
    "CallCancelledError": adbc_driver_manager.OperationalError,
    "UnimplementedError": adbc_driver_manager.NotSupportedError,
    "InternalError": adbc_driver_manager.InternalError,
}


def test_every_error_class_has_its_exception():
    assert ADBC_ERRORS.keys() == BY_NAME.keys() - {"LakehouseError"}


@pytest.mark.parametrize("name", ADBC_ERRORS)
def test_errors_reach_adbc_as_their_class(connection, name):
    with connection.cursor() as cursor, pytest.raises(ADBC_ERRORS[name], match="what was wrong"):
        cursor.execute(f"fail {name} what was wrong")


def test_a_bug_is_internal_without_a_path_or_traceback(connection):
    with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.InternalError) as raised:
        cursor.execute("bug")
    assert "reference" in str(raised.value)
    assert "/srv" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


def test_a_very_long_message_still_arrives(connection):
    with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.ProgrammingError, match="ééé …"):
        cursor.execute("fail NotFoundError " + "é" * 50_000)


def test_adbc_queries_binds_updates_and_ingests(wire_server, connection):
    with connection.cursor() as cursor:
        cursor.execute("select")
        assert cursor.fetch_arrow_table() == TABLE
        cursor.execute("select ?", (1,))
        assert cursor.fetch_arrow_table() == TABLE
        assert cursor.executemany("insert ?", [(1,), (2,)]) is None
        assert cursor.adbc_ingest("t", TABLE, mode="create_append", db_schema_name="testing") == 3
    target = wire_server.ingest.targets[-1]
    assert (target.dataset, target.schema, target.mode) == ("t", "testing", IngestMode.CREATE_APPEND)


def test_adbc_transactions(wire_server):
    with flightsql.connect(wire_server.uri) as connection, connection.cursor() as cursor:
        cursor.execute("select")
        connection.rollback()
        cursor.execute("select")
        connection.commit()


def test_adbc_reads_what_the_server_is(connection):
    info = connection.adbc_get_info()
    assert info["vendor_version"] == f"duckdb v{duckdb.__version__}"


def test_adbc_sends_a_bucket_that_is_no_text(wire_server):
    name = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "x-lakehouse-bucket"
    with (
        pytest.raises(adbc_driver_manager.Error) as raised,
        flightsql.connect(wire_server.uri, db_kwargs={name: "é"}, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select")
    assert "Traceback" not in str(raised.value)


def test_adbc_selects_a_bucket_by_its_call_header(wire_server):
    name = ConnectionOptions.RPC_CALL_HEADER_PREFIX.value + "x-lakehouse-bucket"
    with flightsql.connect(wire_server.uri, conn_kwargs={name: "profile:user"}) as connection:
        with connection.cursor() as cursor:
            cursor.execute("select")
            cursor.fetchall()
        assert connection.adbc_get_info()


def test_sql_info_has_every_code_and_no_other(client):
    ask = pyarrow.flight.FlightDescriptor.for_command(messages.pack("CommandGetSqlInfo"))
    info = client.get_flight_info(ask)
    rows = client.do_get(info.endpoints[0].ticket).read_all()
    assert rows.schema == info.schema
    assert rows["info_name"].to_pylist() == [*range(12), 100, 101, *range(500, 577)]
    rows["value"].validate(full=True)


def test_unknown_sql_info_codes_give_no_row(client):
    ask = pyarrow.flight.FlightDescriptor.for_command(messages.pack("CommandGetSqlInfo", info=[8, 9_999]))
    rows = client.do_get(client.get_flight_info(ask).endpoints[0].ticket).read_all()
    assert rows.to_pylist() == [{"info_name": 8, "value": 1}]
    assert rows["value"].chunk(0).type_codes.to_pylist() == [3]


class Cookies(pyarrow.flight.ClientMiddlewareFactory, pyarrow.flight.ClientMiddleware):
    """Keeps the server's cookies and sends them again, as drivers do."""

    def __init__(self):
        self.kept = []

    def start_call(self, info):
        return self

    def received_headers(self, headers):
        self.kept += [value.partition(";")[0] for value in headers.get("set-cookie", [])]

    def sending_headers(self):
        return {"cookie": "theirs=1; " + self.kept[-1]} if self.kept else {}


def test_callers_without_token_or_local_address_keep_a_session_by_cookie(wire_server, monkeypatch):
    monkeypatch.setattr("flight_server.services.sessions._LOOPBACK_PEERS", ("nobody:",))
    cookies = Cookies()
    with pyarrow.flight.connect(wire_server.uri, middleware=[cookies]) as client:
        for _ in range(3):
            client.get_flight_info(query("select"))
    assert len(cookies.kept) == 1
    assert len({call.session_id for call in wire_server.query.calls[-3:]}) == 1
    with pyarrow.flight.connect(wire_server.uri) as stranger:
        stranger.get_flight_info(query("select"))
    assert wire_server.query.calls[-1].session_id != wire_server.query.calls[-2].session_id
