"""Queries through every client: names, joins over buckets, results, errors."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.conftest import CLIENTS

MUST_NOT_SHOW = re.compile(r"Traceback|File \"|/tmp|\.py\b|_v\b|[0-9a-f]{8}-[0-9a-f]{4}-")

RunQuery = Callable[[str], pa.Table]


@pytest.fixture(scope="module")
def zoo() -> Iterator[Server]:
    """A server of its own, whose tables are known: unqualified names search all buckets."""
    with serve() as running:
        load(running, "primary", "animals", {"species": ["cat", "dog"], "legs": [4, 4]})
        load(running, "testing", "people_test", {"name": ["Ada", "Bob"], "role": ["vet", "owner"]})
        load(running, "testing", "animals", {"species": ["unicorn"], "legs": [4]})
        load(running, "profile:user", "notes", {"about": ["cat"], "Note": ["purrs"]})
        load(running, "primary", "numbers", {"i": list(range(100_000))})
        yield running


def load(server: Server, bucket: str, name: str, columns: dict[str, Any]) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(name, pa.table(columns), mode="create", db_schema_name=bucket)


@pytest.fixture(params=sorted(CLIENTS))
def ask(request: pytest.FixtureRequest, zoo: Server) -> RunQuery:
    run = CLIENTS[request.param]
    return lambda sql: run(zoo.uri, sql)


JOINED = {
    "name": ["Ada", "Ada", "Bob", "Bob"],
    "role": ["vet", "vet", "owner", "owner"],
    "species": ["cat", "dog", "cat", "dog"],
}


@pytest.mark.parametrize(
    "tables",
    [
        "people_test p CROSS JOIN animals a",
        'testing.people_test p CROSS JOIN "primary".animals a',
        'lakehouse.testing.people_test p CROSS JOIN lakehouse."primary".animals AS a',
        'TESTING.People_Test p CROSS JOIN "Primary".ANIMALS a',
    ],
)
def test_tables_of_different_buckets_join_as_plain_sql(ask: RunQuery, tables: str) -> None:
    found = ask(f"SELECT p.name, p.role, a.species FROM {tables} LIMIT 5")
    assert found.sort_by([("name", "ascending"), ("species", "ascending")]).to_pydict() == JOINED


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ('SELECT "Note" FROM "profile:user".notes', [{"Note": "purrs"}]),
        ("SELECT count(*) AS n FROM numbers", [{"n": 100_000}]),
        ("SELECT animals.legs FROM testing.animals", [{"legs": 4}]),
        ("SELECT testing.animals.species FROM testing.animals", [{"species": "unicorn"}]),
        (
            'SELECT testing.animals.species AS t, "primary".animals.species AS p '
            'FROM testing.animals, "primary".animals ORDER BY p LIMIT 1',
            [{"t": "unicorn", "p": "cat"}],
        ),
        (
            "SELECT animals.species FROM testing.animals WHERE NOT EXISTS "
            '(FROM "primary".animals WHERE "primary".animals.species = testing.animals.species)',
            [{"species": "unicorn"}],
        ),
        (
            'SELECT (SELECT sum(testing.animals.legs + "primary".animals.legs)::int '
            "FROM testing.animals) AS s FROM \"primary\".animals WHERE animals.species = 'cat'",
            [{"s": 8}],
        ),
        (
            'SELECT animals.* FROM testing.animals WHERE 4 = (SELECT max(legs) FROM "primary".animals)',
            [{"species": "unicorn", "legs": 4}],
        ),
        ("SELECT lakehouse.testing.animals.legs FROM testing.animals", [{"legs": 4}]),
        ("SELECT legs FROM testing /* and */ . -- on\n animals", [{"legs": 4}]),
        ("SELECT p.species FROM p: testing.animals", [{"species": "unicorn"}]),
        ("SELECT NULL AS n, NULL AS n, MAP {} AS m", [{"n": None, "n_1": None, "m": []}]),
        ("WITH animals AS (SELECT 1 AS x) SELECT * FROM animals", [{"x": 1}]),
        (
            "WITH animals AS (FROM animals WHERE species = 'cat') SELECT species FROM animals",
            [{"species": "cat"}],
        ),
        ("SELECT (SELECT max(i) FROM numbers)", [{"(SELECT max(i) FROM numbers)": 99_999}]),
        ("SELECT 'animals -- é' AS \"é\" FROM animals LIMIT 1", [{"é": "animals -- é"}]),
        ("SELECT a.species FROM animals a JOIN notes ON about = species -- animals", [{"species": "cat"}]),
        ("SELECT column_name FROM (DESCRIBE notes)", [{"column_name": "about"}, {"column_name": "Note"}]),
        ("FROM range(2) t(i)", [{"i": 0}, {"i": 1}]),
        ("TABLE notes", [{"about": "cat", "Note": "purrs"}]),
        ("SELECT a, a FROM (SELECT 1 AS a)", [{"a": 1, "a_1": 1}]),
    ],
)
def test_names_mean_what_they_mean_in_duckdb(ask: RunQuery, sql: str, rows: list[dict[str, Any]]) -> None:
    assert ask(sql).to_pylist() == rows


@pytest.mark.parametrize("statement", ["DESCRIBE animals", "SUMMARIZE testing.animals"])
def test_tables_can_be_looked_at(ask: RunQuery, statement: str) -> None:
    assert ask(statement)["column_name"].to_pylist() == ["species", "legs"]


def test_the_header_chooses_the_bucket_that_unqualified_names_mean(zoo: Server) -> None:
    headers = pyarrow.flight.FlightCallOptions(headers=[(b"x-lakehouse-bucket", b"testing")])
    with pyarrow.flight.connect(zoo.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query("SELECT species FROM animals"), headers)
        # A ticket keeps the meaning of its statement, whatever the next call's header says.
        assert client.do_get(info.endpoints[0].ticket).read_all()["species"].to_pylist() == ["unicorn"]


@pytest.mark.parametrize(
    ("sql", "status", "message"),
    [
        ("SELECT * FROM animal", "NOT_FOUND", "did you mean animals"),
        ("SELECT * FROM testing.people", "NOT_FOUND", r"did you mean testing\.people_test"),
        ("SELECT * FROM test.animals", "NOT_FOUND", "primary, testing, profile:user"),
        ("SELECT * FROM nothing_like_it", "NOT_FOUND", "the tables here are: animals, numbers, "),
        ('SELECT * FROM _v."x@1"', "NOT_FOUND", "no schema '_v'"),
        ("SELECT *\nFROM animals\nWHER legs = 4", "INVALID_ARGUMENT", r"line 3, column 6"),
        ("SELECT leg FROM animals", "INVALID_ARGUMENT", 'Candidate bindings: "legs"'),
        ("SELECT species::int FROM animals", "INVALID_ARGUMENT", "Could not convert string 'cat'"),
        ("SELECT * FROM animals ORDER BY ?", "INVALID_ARGUMENT", "not supported in ORDER BY"),
        ("FROM (SHOW testing.animals)", "NOT_IMPLEMENTED", "DESCRIBE"),
        ("SELECT " + "1+" * 2_000 + "1", "INVALID_ARGUMENT", "nested too deeply"),
        ("SELECT (1$)\u200b1", "INVALID_ARGUMENT", r"syntax error at or near \"\$\""),
        (
            "SELECT array_to_string_comma_default(['a'], (SELECT species FROM animals))",
            "NOT_IMPL",
            "Cannot copy",
        ),
        ("SELECT 1; SELECT 2", "INVALID_ARGUMENT", "one statement at a time"),
        ("-- nothing", "INVALID_ARGUMENT", "the statement is empty"),
        ("SELECT * FROM '/etc/passwd'", "NOT_FOUND", "no table"),
        ("SELECT * FROM read_csv('/etc/passwd')", "INVALID_ARGUMENT", r"read_csv\(\) is not served"),
        ("SELECT * FROM read_parquet('x')", "INVALID_ARGUMENT", "is not served"),
        ("SELECT current_setting('temp_directory')", "INVALID_ARGUMENT", "takes the name of"),
        ("SELECT main.current_setting('x')", "INVALID_ARGUMENT", "without a schema"),
        ("FROM query('SELECT 1')", "INVALID_ARGUMENT", "is not served"),
        ("COPY animals TO '/tmp/x'", "NOT_IMPLEMENTED", "ingest"),
        ("ATTACH '/tmp/x'", "NOT_IMPLEMENTED", "ATTACH"),
        ("SET threads = 1", "INVALID_ARGUMENT", "TimeZone, bucket"),
    ],
)
def test_errors_have_a_status_and_teach(zoo: Server, sql: str, status: str, message: str) -> None:
    with dbapi.connect(zoo.uri, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(dbapi.Error) as raised:
            cursor.execute(sql)
            cursor.fetchall()
        assert re.search(status, str(raised.value))
        assert re.search(message, str(raised.value))
        assert not MUST_NOT_SHOW.search(str(raised.value).replace(sql, "").replace("_v", "", sql.count("_v")))


@pytest.mark.parametrize(
    ("sql", "values", "row"),
    [
        ("SELECT ? AS s, ?::int + 1 AS i", ["a", 2], ("a", 3)),
        ("SELECT $2 AS b, $1 AS a", [1, "x"], ("x", 1)),
        ("SELECT count(*) FROM numbers WHERE i < ?", [10], (10,)),
        ("SELECT species FROM animals WHERE species = $name", ["dog"], ("dog",)),
        ("SELECT ? AS n", [None], (None,)),
        ("SELECT length(?) AS n", ["x" * 200_000], (200_000,)),
        ("SELECT length(?) AS n /*" + "x" * 200_000 + "*/", ["abc"], (3,)),
    ],
)
def test_parameters_are_bound(zoo: Server, sql: str, values: Any, row: tuple[Any, ...]) -> None:
    with dbapi.connect(zoo.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        assert cursor.fetchall() == [row]


def test_a_prepared_statement_runs_again_with_other_parameters(zoo: Server) -> None:
    with dbapi.connect(zoo.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for limit in (3, 7):
            cursor.execute("SELECT count(*) FROM numbers WHERE i < ?", [limit])
            assert cursor.fetchall() == [(limit,)]


def test_unbound_and_surplus_parameters_are_refused(zoo: Server) -> None:
    with dbapi.connect(zoo.uri, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(dbapi.ProgrammingError, match="takes 1 parameters, none are bound"):
            cursor.execute("SELECT ?::int")
            cursor.fetchall()
        with pytest.raises(dbapi.ProgrammingError, match=r"takes 1 parameter.*, 2 are bound"):
            cursor.execute("SELECT ?::int", [1, 2])


TYPES = """
    SELECT true AS b, 1::tinyint AS i8, 1::ubigint AS u64, 1::hugeint AS huge, 1.5::float AS f,
        2.5::double AS d, 1.23::decimal(10, 2) AS dec, 'x' AS s, 'x'::blob AS bin,
        date '2026-01-01' AS dt, time '10:00' AS t,
        timestamp '2026-01-01 10:00' AS ts, timestamptz '2026-01-01 10:00+00' AS tz, interval 1 day AS iv,
        uuid '00000000-0000-0000-0000-000000000001' AS u, [1, 2] AS l, {'a': 1} AS st, map {'k': 1} AS m,
        'a'::enum('a', 'b') AS e, [1.0, 2.0]::float[2] AS arr, NULL AS n
"""


def test_the_schema_announced_is_the_schema_streamed(zoo: Server) -> None:
    with pyarrow.flight.connect(zoo.uri) as client:
        info = client.get_flight_info(flight_sql.statement_query(TYPES))
        reader = client.do_get(info.endpoints[0].ticket)
        assert info.schema == reader.schema
        assert reader.read_all().num_rows == 1
        assert client.get_schema(flight_sql.statement_query(TYPES)).schema == info.schema


def test_large_results_come_in_messages_below_4_mib(zoo: Server) -> None:
    sql = "SELECT repeat('x', 1000) AS wide, i FROM range(50000) r(i)"
    small = [("grpc.max_receive_message_length", 4 * 1024 * 1024)]
    with pyarrow.flight.connect(zoo.uri, generic_options=small) as client:
        info = client.get_flight_info(flight_sql.statement_query(sql))
        assert sum(chunk.data.num_rows for chunk in client.do_get(info.endpoints[0].ticket)) == 50_000


def test_paths_read_with_the_schema_of_sql(zoo: Server) -> None:
    path = pyarrow.flight.FlightDescriptor.for_path("profile:user", "notes")
    with pyarrow.flight.connect(zoo.uri) as client:
        info = client.get_flight_info(path)
        assert client.get_schema(path).schema == info.schema
        assert client.do_get(info.endpoints[0].ticket).read_all().to_pylist() == [
            {"about": "cat", "Note": "purrs"}
        ]
        with pytest.raises(KeyError, match="no table 'nope'"):
            client.get_flight_info(pyarrow.flight.FlightDescriptor.for_path("nope"))


def test_altered_and_foreign_tickets_are_not_found(zoo: Server) -> None:
    with pyarrow.flight.connect(zoo.uri) as client:
        ticket = client.get_flight_info(flight_sql.statement_query("SELECT 1")).endpoints[0].ticket.ticket
        altered = ticket.replace(b"SELECT 1", b"SELECT 2")
        assert altered != ticket
        with pytest.raises(pa.ArrowKeyError, match="unknown statement handle"):
            client.do_get(pyarrow.flight.Ticket(altered)).read_all()


def test_statements_that_change_something_may_stand_together(
    connect: Callable[..., dbapi.Connection], unique_name: str
) -> None:
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {unique_name} (a INT); INSERT INTO {unique_name} VALUES (1), (2); "
            f"-- of a table that is new; here\nUPDATE {unique_name} SET a = a + 10 WHERE a = 2;"
        )
        assert cursor.rowcount == 1
        cursor.execute(f"BEGIN; DELETE FROM {unique_name}; ROLLBACK")
        for text, said in (
            (f"DELETE FROM {unique_name}; FROM {unique_name}", "a query among them"),
            (f"DELETE FROM {unique_name}; DELETE FORM {unique_name}", "syntax error"),
        ):
            with pytest.raises(dbapi.Error, match=said):
                cursor.execute(text)
        with pytest.raises(dbapi.Error, match="together take no parameters"):
            cursor.execute(f"INSERT INTO {unique_name} VALUES (?); DELETE FROM {unique_name}", [1])
        with pytest.raises(dbapi.Error, match="nowhere"):
            cursor.execute(f"INSERT INTO {unique_name} VALUES (5); DELETE FROM nowhere")
        cursor.execute(f"FROM {unique_name} ORDER BY a")
        assert cursor.fetchall() == [(1,), (5,), (12,)]
