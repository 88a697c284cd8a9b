"""One real server for the whole run, and real clients of every kind."""

import gc
import os
import uuid
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.config import ENVIRONMENT_PREFIX
from flight_server.testing import Server, serve
from tests import flight_sql

RunQuery = Callable[[str], pa.Table]

BUCKET_HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-bucket"


LEFT_TO_THE_FULL_SUITE = {
    "slow", "stress", "s3", "postgres", "jdbc", "go", "npm", "ibis", "sqlalchemy", "dbt",
}  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the conformance suite run against any Flight SQL server."""
    group = parser.getgroup("conformance", "the server of tests/conformance, if not one of our own")
    group.addoption("--flight-sql-uri", help="grpc://host:port")
    group.addoption("--flight-sql-username")
    group.addoption("--flight-sql-password", default="")
    group.addoption("--flight-sql-extensions", action="store_true", help="run the extensions of ours too")


def pytest_configure() -> None:
    """Keep the settings of a server that is used on this machine out of the tests."""
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        del os.environ[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set apart what `make test` leaves out and `make test-full` runs, before `-m` selects."""
    for item in items:
        if any(mark.name in LEFT_TO_THE_FULL_SUITE for mark in item.iter_markers()):
            item.add_marker("full")


def pytest_unconfigure() -> None:
    """Free what would outlive the interpreter: DuckDB complains of it at exit, after pytest's last line.

    Failed statements leave reference cycles, and a callback of hypothesis keeps all modules alive.
    """
    gc.callbacks.clear()
    gc.collect()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with the default buckets: primary, testing, profile:user."""
    with serve() as running:
        yield running


@pytest.fixture
def unique_name() -> str:
    """The name of a dataset that no other test uses."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., dbapi.Connection]]:
    """Connect through ADBC: `connect()` or `connect(bucket="testing")`; closed at the end."""
    opened: list[dbapi.Connection] = []

    def open_connection(bucket: str | None = None) -> dbapi.Connection:
        options = {} if bucket is None else {BUCKET_HEADER: bucket}
        opened.append(dbapi.connect(server.uri, db_kwargs=options, autocommit=True))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def flight(server: Server) -> Iterator[pyarrow.flight.FlightClient]:
    """A plain `pyarrow.flight` client."""
    with pyarrow.flight.connect(server.uri) as client:
        yield client


def _by_adbc(uri: str, sql: str) -> pa.Table:
    """Send CommandStatementQuery through the driver, without preparing."""
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query(sql)
        stream, _ = cursor.adbc_statement.execute_query()
        return pa.RecordBatchReader.from_stream(stream).read_all()


def _by_adbc_prepared(uri: str, sql: str) -> pa.Table:
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def _by_flight(uri: str, sql: str) -> pa.Table:
    with pyarrow.flight.connect(uri) as client:
        return flight_sql.query(client, sql)


CLIENTS: dict[str, Callable[[str, str], pa.Table]] = {
    "adbc": _by_adbc,
    "adbc_prepared": _by_adbc_prepared,
    "pyarrow.flight": _by_flight,
}


@pytest.fixture(params=sorted(CLIENTS))
def run_query(request: pytest.FixtureRequest, server: Server) -> RunQuery:
    """Run SQL through each client in turn: `run_query(sql)` returns a table."""
    run = CLIENTS[request.param]
    return lambda sql: run(server.uri, sql)
