"""Users, API tokens and what they may do once they are in, through the clients of the world."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi
from click.testing import CliRunner

from flight_server.auth.changes import UserChanges
from flight_server.auth.users import UsersFile
from flight_server.cli import main
from flight_server.testing import Server, serve
from tests import flight_sql

PASSWORD = "correct: hörse"
USERS = {
    "ann": {"password": PASSWORD, "grants": ["*=admin"]},
    "reader": {"password": PASSWORD, "grants": ["primary=read"]},
    "service": {},
    **{
        name: {"password": PASSWORD, "grants": ["primary=read,write"]}
        for name in ("gone", "changed", "tokened", "runner", "limited")
    },
    "guessed": {"password": PASSWORD},
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server on which everybody has to log in."""
    with serve(users=USERS, auth={"failed_logins": 3}) as running:
        yield running


@pytest.fixture
def changes(guarded: Server) -> UserChanges:
    """What changes its users."""
    return UserChanges(UsersFile(guarded.data_dir / "users.json"))


def adbc(server: Server, username: str, password: str = PASSWORD) -> dbapi.Connection:
    return dbapi.connect(server.uri, {"username": username, "password": password}, autocommit=True)


def bearer(server: Server, token: str) -> dbapi.Connection:
    options = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    return dbapi.connect(server.uri, options, autocommit=True)


def one(connection: dbapi.Connection, sql: str) -> object:
    """Run a query without preparing it: there is nothing to close when it is refused."""
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query(sql)
        stream, _ = cursor.adbc_statement.execute_query()
        return pa.RecordBatchReader.from_stream(stream).read_all()[0][0].as_py()


def eventually(connection: dbapi.Connection, sql: str) -> object:
    """Return what a query gives as soon as it is let in."""
    for _ in range(100):
        try:
            return one(connection, sql)
        except dbapi.ProgrammingError:
            time.sleep(0.1)
    return one(connection, sql)


def eventually_refused(connection: dbapi.Connection, within: float = 10) -> float:
    """Query until the server refuses to; return after how many seconds that was."""
    started = time.monotonic()
    while time.monotonic() - started < within:
        try:
            one(connection, "SELECT 1")
        except (dbapi.ProgrammingError, OSError) as error:  # of a call, of a stream
            if "unauthenticated" not in str(error).lower():
                raise
            return time.monotonic() - started
        time.sleep(0.1)
    raise AssertionError("it is still let in")


class _Legacy(flight.ClientAuthHandler):
    """Logs in by the payload of a handshake, as older clients do."""

    def __init__(self, username: str, password: str) -> None:
        super().__init__()
        self._basic = flight.BasicAuth(username, password)
        self._token = b""

    def authenticate(self, outgoing, incoming):
        outgoing.write(self._basic.serialize())
        self._token = incoming.read()

    def get_token(self):
        return self._token


def test_every_client_logs_in_its_own_way(guarded: Server) -> None:
    with adbc(guarded, "ann") as connection:
        assert one(connection, "SELECT 1") == 1
    with flight.connect(guarded.uri) as client:
        token = client.authenticate_basic_token("ann", PASSWORD)
        options = flight.FlightCallOptions(headers=[token])
        assert flight_sql.query(client, "SELECT 1", options).num_rows == 1
    with flight.connect(guarded.uri) as client:
        client.authenticate(_Legacy("ann", PASSWORD))
        assert flight_sql.query(client, "SELECT 1").num_rows == 1


@pytest.mark.parametrize(
    ("username", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("service", ""), ("", "")]
)
def test_wrong_credentials_are_refused_alike(guarded: Server, username: str, password: str) -> None:
    with flight.connect(guarded.uri) as client, pytest.raises(flight.FlightUnauthenticatedError) as caught:
        client.authenticate_basic_token(username, password)
    assert "not logged in: a user name with its password, or a token" in str(caught.value)
    refused = pytest.raises(dbapi.ProgrammingError, match="UNAUTHENTICATED")
    with dbapi.connect(guarded.uri, autocommit=True) as nobody, refused:
        one(nobody, "SELECT 1")


def test_basic_on_every_call_is_cheap_and_keeps_one_session(guarded: Server) -> None:
    encoded = "cmVhZGVyOmNvcnJlY3Q6IGjDtnJzZQ"  # without padding
    options = {"adbc.flight.sql.authorization_header": f"Basic {encoded}"}
    with dbapi.connect(guarded.uri, options, autocommit=True) as connection:
        one(connection, "SELECT 1")
        started = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE kept AS SELECT 7 AS x")
        assert one(connection, "SELECT x FROM kept") == 7
        assert time.monotonic() - started < 1


def test_grants_and_api_tokens_of_part_of_them(guarded: Server, changes: UserChanges) -> None:
    with adbc(guarded, "ann") as ann, ann.cursor() as cursor:
        cursor.adbc_ingest("auth_t", pa.table({"x": [1, 2]}), mode="replace")
    token = changes.add_token("ann", ["primary=read"])
    with bearer(guarded, token) as connection:
        eventually(connection, "SELECT 1")
    listing = ["profiles", "list", "--uri", guarded.uri]
    assert "not logged in" in CliRunner().invoke(main, listing).output
    assert CliRunner(env={"FLIGHT_SERVER_TOKEN": token}).invoke(main, listing).exit_code == 0
    for log_in in (partial(adbc, guarded, "reader"), partial(bearer, guarded, token)):
        with log_in() as connection:
            assert one(connection, "SELECT count(*) FROM auth_t") == 2
            assert one(connection, "SELECT count(*) FROM sys.buckets") == 1
            with pytest.raises(dbapi.Error, match="may be read by you but not written"):
                one(connection, "DELETE FROM auth_t")


def test_every_way_in_which_commands_talk_to_a_server_takes_the_token(
    guarded: Server, changes: UserChanges
) -> None:
    token = changes.add_token("ann", None)
    with bearer(guarded, token) as connection:
        eventually(connection, "SELECT 1")
    said = [
        CliRunner(env={"FLIGHT_SERVER_TOKEN": token}).invoke(main, ["profiles", *words, "--uri", guarded.uri])
        for words in (["create", "ann"], ["report", "ann"])
    ]
    assert said[0].output == "profile ann has bucket profile:ann\n"
    assert "no trial of profile ann has ended well" in said[1].output  # which SQL has told


def test_revoked_and_changed_credentials_cut_sessions(guarded: Server, changes: UserChanges) -> None:
    token = changes.add_token("tokened", None)
    with (
        adbc(guarded, "gone") as gone,
        adbc(guarded, "changed") as changed,
        bearer(guarded, token) as tokened,
    ):
        for connection in (gone, changed, tokened):
            assert eventually(connection, "SELECT 1") == 1
        changes.revoke_user("gone")
        changes.change_password("changed", "another password")
        changes.revoke_token(token)
        assert max(map(eventually_refused, (gone, changed, tokened))) < 5
    with adbc(guarded, "changed", "another password") as changed:
        assert one(changed, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("runner", lambda changes: changes.revoke_user("runner"), "expired or was revoked"),
        ("limited", lambda changes: changes.grant("limited", ["primary=read"]), "grants of this identity"),
    ],
)
def test_a_change_cuts_what_runs(
    guarded: Server, changes: UserChanges, name: str, change: Callable[[UserChanges], None], said: str
) -> None:
    with flight.connect(guarded.uri) as client:
        options = flight.FlightCallOptions(headers=[client.authenticate_basic_token(name, PASSWORD)])
        rows = "SELECT range AS x, repeat('x', 1000) AS y FROM range(100000000)"
        info = client.get_flight_info(flight_sql.statement_query(rows), options)
        stalled, stream = (client.do_get(info.endpoints[0].ticket, options) for _ in range(2))
        stalled.read_chunk()
        target = flight.FlightDescriptor.for_path("runners")
        writer, _ = client.do_put(target, pa.schema([("x", pa.int64())]), options)
        started = time.monotonic()
        change(changes)
        for ended in (stream, stalled):
            with pytest.raises(
                (flight.FlightUnauthenticatedError, flight.FlightUnauthorizedError), match=said
            ):
                ended.read_all()
        assert time.monotonic() - started < 5
        with pytest.raises((flight.FlightUnauthenticatedError, flight.FlightUnauthorizedError), match=said):
            for _ in range(50):
                writer.write_batch(pa.record_batch({"x": [1]}))
                time.sleep(0.1)
            writer.close()


def test_guessing_has_to_wait(guarded: Server) -> None:
    with flight.connect(guarded.uri) as client:
        for _ in range(3):
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.authenticate_basic_token("guessed", "wrong")
        with pytest.raises(pa.ArrowException, match=r"too many failed logins; try again in \d+ s"):
            client.authenticate_basic_token("guessed", PASSWORD)
        client.authenticate_basic_token("ann", PASSWORD)


def test_names_that_nobody_can_have_are_not_remembered(guarded: Server) -> None:
    with flight.connect(guarded.uri) as client:
        for _ in range(5):  # one that counted as a failure would have to wait after the third
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.authenticate_basic_token("n" * 5_000, PASSWORD)


def test_audit_log_tells_of_logins_and_changes_but_no_secret(guarded: Server, changes: UserChanges) -> None:
    changes.add_user("audited", ["primary=read"], PASSWORD)
    with adbc(guarded, "reader") as connection, pytest.raises(dbapi.Error):
        one(connection, "CREATE TABLE t (x INTEGER)")
    with flight.connect(guarded.uri) as client:
        token = client.authenticate_basic_token("ann", PASSWORD)
        list(client.do_action(flight.Action("sweep", b"{}"), flight.FlightCallOptions(headers=[token])))
    for _ in range(50):
        if "user_added" in guarded.logged():
            break
        time.sleep(0.1)
    log = guarded.logged()
    lines = [
        json.loads(line.partition("flight_server.audit ")[2])
        for line in log.splitlines()
        if ".audit " in line
    ]
    told = {(line["event"], line.get("name")) for line in lines}
    assert {("user_added", "audited"), ("login", "reader"), ("denied", "reader"), ("action", "ann")} <= told
    assert PASSWORD not in log
    assert token[1].decode().removeprefix("Bearer ") not in log


@pytest.mark.slow
def test_right_passwords_of_many_at_once_are_no_failures() -> None:
    names = [f"user{number}" for number in range(12)]

    def log_in(server: Server, name: str) -> None:
        with flight.connect(server.uri) as client:
            client.authenticate_basic_token(name, PASSWORD)

    users = {name: {"password": PASSWORD} for name in names}
    with serve(users=users, auth={"failed_logins": 1}) as server, ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(partial(log_in, server), names))


@pytest.mark.slow
def test_limits_of_sessions_streams_and_headers_of_one_identity() -> None:
    limits = {"sessions_per_identity": 3, "streams_per_identity": 2, "header_bytes": 8192}
    with serve(users={"ann": {"password": PASSWORD, "grants": ["*=read"]}}, limits=limits) as server:
        with flight.connect(server.uri) as client:
            tokens = [client.authenticate_basic_token("ann", PASSWORD) for _ in range(6)]
            options = [flight.FlightCallOptions(headers=[token]) for token in tokens]
            assert all(flight_sql.query(client, "SELECT 1", each).num_rows == 1 for each in options)
            sessions = flight_sql.query(client, "SELECT count(*) AS n FROM sys.sessions", options[0])
            assert sessions["n"].to_pylist() == [3]
            rows = flight_sql.descriptor(
                "CommandStatementQuery", query="SELECT repeat('x', 1000) FROM range(9000000)"
            )
            tickets = [client.get_flight_info(rows, options[0]).endpoints[0].ticket for _ in range(2)]
            streams = [client.do_get(ticket, options[0]) for ticket in tickets]
            for stream in streams:
                stream.read_chunk()
            with pytest.raises(pa.ArrowException, match="the maximum of 2 calls at one time"):
                flight_sql.query(client, "SELECT 1", options[1])
            for stream in streams:
                stream.cancel()
        with flight.connect(server.uri) as client, pytest.raises(pa.ArrowException):
            long = flight.FlightCallOptions(headers=[(b"x-long", b"y" * 20_000)])
            list(client.list_actions(long))


def test_commands_manage_users_and_tokens(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f"[auth]\nusers_file = '{tmp_path}/users.json'")

    def run(*words: str, said: str = "") -> str:
        return CliRunner().invoke(main, [*words, "--config", str(config)], input=said).output

    assert (
        run("users", "add", "ann", "--grant", "*=admin", "--password-stdin", said="long enough\n")
        == "added ann\n"
    )
    assert "there is a user 'ann' already" in run("users", "add", "ann", "--no-password")
    assert "has at least 8 characters" in run("users", "add", "bob", "--password-stdin", said="short\n")
    assert "is no grant" in run("users", "add", "bob", "--no-password", "--grant", "x=fly")
    token = run("tokens", "add", "ann", "--grant", "testing=read", "--label", "nightly").strip()
    assert token.startswith("fst_")
    listed = run("users", "list") + run("tokens", "list")
    assert "ann (password): *=read,write,admin" in listed
    assert f"{token.split('_')[1]} of ann (good until " in listed
    assert (tmp_path / "users.json").stat().st_mode & 0o777 == 0o600
    kept = (tmp_path / "users.json").read_text()
    assert "long enough" not in kept
    assert token.split("_", 2)[2] not in kept
    run("tokens", "revoke", token)
    run("users", "revoke", "ann")
    assert "(revoked)" in run("users", "list")
    assert "(revoked)" in run("tokens", "list")
