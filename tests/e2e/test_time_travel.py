"""Versions of datasets by number, moment and name, checked against the states recorded on the way."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests.conftest import CLIENTS

RunQuery = Callable[[str], pa.Table]
STATES = [[1], [1, 2], [1, 2, 3], [9]]
MODES = ["create", "append", "append", "replace"]
ADDED = [[1], [2], [3], [9]]


@pytest.fixture(scope="module")
def history() -> Iterator[tuple[Server, list[datetime]]]:
    """A server whose table `testing.people` has four versions, and a moment after each was committed."""
    moments = []
    with serve() as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for mode, added in zip(MODES, ADDED, strict=True):
                cursor.adbc_ingest("people", pa.table({"id": added}), mode=mode, db_schema_name="testing")
                moments.append(datetime.now(UTC))
        yield running, moments


@pytest.fixture(params=sorted(CLIENTS))
def ask(request: pytest.FixtureRequest, history: tuple[Server, list[datetime]]) -> RunQuery:
    run = CLIENTS[request.param]
    return lambda sql: run(history[0].uri, sql)


@pytest.fixture
def execute(history: tuple[Server, list[datetime]]) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    with dbapi.connect(history[0].uri, autocommit=True) as connection, connection.cursor() as cursor:

        def run(sql: str) -> list[tuple[object, ...]]:
            cursor.execute(sql)
            return cursor.fetchall()

        yield run


def ids(table: pa.Table) -> list[int]:
    return sorted(table["id"].to_pylist())


def test_every_version_reads_as_it_was(ask: RunQuery, history: tuple[Server, list[datetime]]) -> None:
    for number, (state, moment) in enumerate(zip(STATES, history[1], strict=True), 1):
        assert ids(ask(f"FROM testing.people AT (VERSION => {number})")) == state
        assert ids(ask(f'SELECT id FROM "people@{number}"')) == state
        assert ids(ask(f"FROM people AT (TIMESTAMP => TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S.%f}')")) == state
        zoned = moment.astimezone(tz=None).isoformat()
        assert ids(ask(f"FROM people p AT (TIMESTAMP => '{zoned}'::TIMESTAMPTZ)")) == state
    assert ids(ask("FROM people AT (TIMESTAMP => DATE '9999-01-01')")) == STATES[-1]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT p.id FROM people AS p AT (VERSION => '1'::INT) WHERE p.id = 1", [(1,)]),
        ("SELECT x FROM people p(x) AT /* a ) */ (version => (1)) TABLESAMPLE 100% -- x", [(1,)]),
        ("SELECT testing.people.id FROM testing.people AT (VERSION => 1), range(1)", [(1,)]),
        (
            "SELECT new.id FROM people new AT (VERSION => 3) ANTI JOIN people old AT (VERSION => 2) "
            "ON old.id = new.id",
            [(3,)],
        ),
        (
            'SELECT people.id, "people@1".id FROM people JOIN people AT (VERSION => 1) ON true',
            [(9, 1)],
        ),
        ("SELECT (SELECT max(id) FROM people AT (VERSION => 2)), (SELECT max(id) FROM people)", [(2, 9)]),
        ("SELECT column_name FROM (DESCRIBE (FROM people AT (VERSION => 1)))", [("id",)]),
        ('SELECT column_name FROM (DESCRIBE "people@2")', [("id",)]),
        ("WITH old AS (FROM people AT (VERSION => 1)) SELECT count(*) FROM old, old o", [(1,)]),
    ],
)
def test_versions_stand_where_tables_stand(
    execute: Callable[[str], list[tuple[object, ...]]], sql: str, rows: list[tuple[object, ...]]
) -> None:
    assert execute(sql) == rows


@pytest.mark.parametrize(
    ("sql", "status", "message"),
    [
        ("FROM people AT (VERSION => 5)", "NOT_FOUND", r"no version 5; there are versions 1 \(.* to 4 "),
        ("FROM people AT (VERSION => -1)", "NOT_FOUND", "no version -1"),
        ('FROM "people@77"', "NOT_FOUND", "no version 77"),
        ("FROM people AT (TIMESTAMP => '2001-01-01')", "NOT_FOUND", "no version at 2001-01-01 00:00:00"),
        ("FROM nobody AT (VERSION => 1)", "NOT_FOUND", "no table 'nobody'"),
        ('FROM "people@1" AT (VERSION => 1)', "INVALID_ARGUMENT", "names a version already"),
        ("FROM sys.buckets AT (VERSION => 1)", "INVALID_ARGUMENT", "system tables show the present"),
        *(
            (f"FROM people AT ({clause})", "INVALID_ARGUMENT", r"AT takes a literal, or a cast of one")
            for clause in (
                "VERSION => 1 + 1", "VERSION => 'x'", "VERSION => NULL", "VERSION => ?",
                "TIMESTAMP => now()", "TIMESTAMP => 'yesterday'", "TIMESTAMP => 'x'::BLOB",
                "VERSION => (SELECT 1)",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_constant_is_explained(
    execute: Callable[[str], list[tuple[object, ...]]], sql: str, status: str, message: str
) -> None:
    with pytest.raises(dbapi.Error) as raised:
        execute(sql)
    assert re.search(status, str(raised.value))
    assert re.search(message, str(raised.value))


def test_a_moment_between_two_commits_belongs_to_the_earlier(
    execute: Callable[[str], list[tuple[object, ...]]],
) -> None:
    ((at,),) = execute('SELECT "at" FROM sys.commits ORDER BY id LIMIT 1 OFFSET 1')
    assert isinstance(at, datetime)
    for moment, count in ((at, 2), (at - timedelta(microseconds=1), 1)):
        assert execute(f"SELECT count(*) FROM people AT (TIMESTAMP => '{moment.isoformat()}')") == [(count,)]


def test_paths_name_versions_too(history: tuple[Server, list[datetime]]) -> None:
    with pyarrow.flight.connect(history[0].uri) as client:
        info = client.get_flight_info(pyarrow.flight.FlightDescriptor.for_path("testing", "people@2"))
        assert info.total_records == 2
        assert ids(client.do_get(info.endpoints[0].ticket).read_all()) == [1, 2]
