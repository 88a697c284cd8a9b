"""Callers with different grants, each set of them with an engine process of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests.e2e.test_lifecycle import children, eventually

pytestmark = pytest.mark.slow

PASSWORD = "tenant's"
TENANTS = ("ann", "bob", "eve")
HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-bucket"


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server on which each tenant has a profile, with fewer engine processes than tenants."""
    users: dict[str, dict[str, object]] = {name: {"password": PASSWORD} for name in TENANTS}
    users["friend"] = {"password": PASSWORD, "grants": ["profile:ann=read"]}
    with serve(users=users, engine={"max_processes": 2}) as running:
        for name in TENANTS:
            make_profile(running, name)
        yield running


def make_profile(server: Server, name: str) -> None:
    with pyarrow.flight.connect(server.uri) as client:
        token = client.authenticate_basic_token(name, PASSWORD)
        action = pyarrow.flight.Action("create_profile", b'{"profile": "%s"}' % name.encode())
        list(client.do_action(action, pyarrow.flight.FlightCallOptions(headers=[token])))


def connect(server: Server, name: str, profile: str | None = None) -> dbapi.Connection:
    options = {"username": name, "password": PASSWORD, HEADER: f"profile:{profile or name}"}
    return dbapi.connect(server.uri, options, autocommit=True)


def fill(server: Server, name: str) -> list[tuple[str]]:
    with connect(server, name) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("notes", pa.table({"of": [name]}), mode="replace")
        cursor.execute("UPDATE notes SET of = of || '!' RETURNING of")
        cursor.fetchall()
        cursor.execute("FROM notes")
        found: list[tuple[str]] = cursor.fetchall()
        return found


def test_everybody_is_served_by_fewer_processes_than_there_are_tenants(shared: Server) -> None:
    with ThreadPoolExecutor(len(TENANTS)) as threads:
        assert list(threads.map(lambda name: fill(shared, name), TENANTS)) == [
            [(f"{name}!",)] for name in TENANTS
        ]
    eventually(lambda: len(children(shared.process.pid)) <= 2)
    with connect(shared, "friend", "ann") as connection, connection.cursor() as cursor:
        cursor.execute("FROM notes")
        assert cursor.fetchall() == [("ann!",)]
        with pytest.raises(dbapi.ProgrammingError, match="may be read by you"):
            cursor.execute("DELETE FROM notes")


def test_what_a_session_keeps_is_kept_for_it_until_its_grants_change(shared: Server) -> None:
    with connect(shared, "friend", "ann") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE brief AS SELECT 1 AS x")
        with ThreadPoolExecutor(2) as threads:  # nobody gets the place of one who keeps something
            list(threads.map(lambda name: fill(shared, name), ("ann", "bob")))
        cursor.execute("FROM brief")
        assert cursor.fetchall() == [(1,)]
        make_profile(shared, "friend")
        with pytest.raises(dbapi.Error, match=r"may reach has changed, and with it .* table brief"):
            cursor.execute("FROM brief")
        cursor.execute("CREATE TEMP TABLE brief AS SELECT 2 AS x")
        cursor.execute("FROM brief")
        assert cursor.fetchall() == [(2,)]
