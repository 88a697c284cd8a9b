"""Temporary tables, views and variables at their edges: odd names, what broke, bounds, many threads."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server
from tests import flight_sql


@pytest.fixture
def cursor(connect: Callable[..., dbapi.Connection]) -> Iterator[dbapi.Cursor]:
    with connect() as connection, connection.cursor() as opened:
        yield opened


def rows(cursor: dbapi.Cursor, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return cursor.fetchall()


def test_a_transaction_keeps_generated_columns_and_any_name(cursor: dbapi.Cursor):
    cursor.execute(
        'CREATE TEMP TABLE "a(b" (i INTEGER, twice INTEGER GENERATED ALWAYS AS (i * 2), "x)y" INTEGER)'
    )
    cursor.execute('INSERT INTO "a(b" VALUES (1, 0)')
    cursor.execute("BEGIN")
    cursor.execute('INSERT INTO "a(b" VALUES (2, 0)')
    assert rows(cursor, 'FROM "a(b"') == [(1, 2, 0), (2, 4, 0)]
    cursor.execute("ROLLBACK")
    assert rows(cursor, 'FROM "a(b"') == [(1, 2, 0)]


def test_views_follow_variables_and_one_that_broke_breaks_nothing_else(cursor: dbapi.Cursor):
    cursor.execute("CREATE TEMP VIEW chosen AS SELECT getvariable('choice') AS choice")
    for choice in (1, 2):
        cursor.execute(f"SET VARIABLE choice = {choice}")
        assert rows(cursor, "FROM chosen") == [(choice,)]
    with pytest.raises(dbapi.ProgrammingError, match="a view reads itself"):
        cursor.execute("CREATE OR REPLACE TEMP VIEW chosen AS FROM chosen")
    assert rows(cursor, "FROM chosen") == [(2,)]
    cursor.execute("CREATE TEMP TABLE gone (i INTEGER)")
    cursor.execute("CREATE TEMP VIEW stale AS FROM gone")
    cursor.execute("DROP TABLE gone")
    with pytest.raises(dbapi.ProgrammingError, match=r"NOT_FOUND.*no temporary table 'gone'"):
        cursor.execute("FROM stale")
    shown = "SELECT table_name FROM information_schema.columns WHERE table_schema = 'main'"
    assert rows(cursor, shown) == [("chosen",)]


@pytest.mark.slow
def test_what_a_session_keeps_is_bounded(cursor: dbapi.Cursor):
    cursor.execute("CREATE TEMP VIEW v0 AS SELECT 1 AS i")
    with pytest.raises(dbapi.ProgrammingError, match="more than 1000 places"):
        for depth in range(1, 16):
            cursor.execute(f"CREATE TEMP VIEW v{depth} AS FROM v{depth - 1} a JOIN v{depth - 1} b USING (i)")
    with pytest.raises(dbapi.Error, match="keeps at most 1000"):
        for name in "abc":
            cursor.execute(f"PREPARE {name} AS SELECT '{'x' * 12_000_000}'")


def test_explain_takes_every_query(cursor: dbapi.Cursor):
    for query in ("VALUES (1)", "DESCRIBE SELECT 1", "(PIVOT range(2) r ON range)", "(SELECT 1)"):
        assert rows(cursor, f"EXPLAIN ANALYZE {query}")[0][0] == "analyzed_plan"
        assert rows(cursor, f"EXPLAIN (ANALYZE, FORMAT json) {query}")[0][1].strip()
    cursor.execute("CREATE TEMP TABLE wide AS PIVOT range(2) r ON range")
    assert len(rows(cursor, "FROM wide")) == 2


def test_a_stored_query_declares_and_takes_parameters(cursor: dbapi.Cursor):
    for sql in ("CREATE TEMP TABLE stored AS SELECT ?::INTEGER AS i", "SET VARIABLE stored = ?::INTEGER"):
        assert cursor.adbc_prepare(sql).types == [pa.int32()]
        cursor.execute(sql, [7])
    assert rows(cursor, "SELECT i, getvariable('stored') FROM stored") == [(7, 7)]


def test_statements_of_one_session_at_once_fail_clearly_if_at_all(server: Server):
    """Many threads change and read one temporary table: no internal errors, no hidden names."""
    with pyarrow.flight.connect(server.uri) as client:
        options = pyarrow.flight.FlightCallOptions(headers=[client.authenticate_basic_token("local", "")])
    statements = (
        "CREATE OR REPLACE TEMP TABLE shared AS FROM range(100) t(i)",
        "INSERT INTO shared VALUES (1)",
        "DROP TABLE shared",
        "FROM shared",
        "SET VARIABLE shared = 1",
        "SELECT getvariable('shared')",
        "FROM duckdb_columns()",
    )

    def run(seed: int) -> set[str]:
        chosen, said = random.Random(seed), set()
        with pyarrow.flight.connect(server.uri) as client:
            for _ in range(25):
                try:
                    flight_sql.query(client, chosen.choice(statements), options)
                except (pa.ArrowException, pa.ArrowKeyError, IndexError) as error:  # no rows: no endpoint
                    said.add(str(error))
        return said

    with ThreadPoolExecutor(6) as threads:
        said = set().union(*threads.map(run, range(6)))
    assert not [text for text in said if "INTERNAL" in text or "~" in text or "_t." in text]


def test_waiting_for_another_statement_of_the_session_can_be_ended(server: Server):
    """A statement that waits until its deadline must not take its engine process with it."""
    with (
        dbapi.connect(server.uri, autocommit=True) as connection,
        dbapi.connect(server.uri, autocommit=True) as bystander,
        connection.cursor() as busy,
        connection.cursor() as waiting,
        bystander.cursor() as other,
        ThreadPoolExecutor(1) as threads,
    ):
        other.execute("CREATE TEMP TABLE kept AS SELECT 1 AS i")
        waiting.execute("SELECT 1")  # the session is there
        running = threads.submit(
            busy.execute, "CREATE TEMP TABLE slow AS SELECT count(*) FROM range(100000000000)"
        )
        time.sleep(0.3)
        waiting.execute("SET statement_timeout = '200ms'")
        with pytest.raises(dbapi.Error, match="took longer than"):
            waiting.execute("SET VARIABLE a = 1")
        time.sleep(1.3)  # past the second after which an engine process is ended
        busy.adbc_cancel()
        with pytest.raises(dbapi.Error, match=r"(?i)cancel"):
            running.result()
        assert rows(other, "FROM kept") == [(1,)]


def test_show_tells_the_options_of_a_session(connect: Callable[..., dbapi.Connection]):
    with connect("testing").cursor() as cursor:
        assert rows(cursor, "SHOW bucket") == [("testing",)]
        assert rows(cursor, "SHOW statement_timeout") == [(None,)]
        cursor.execute("SET statement_timeout = '5min'")
        cursor.execute("SET profile = user")
        assert rows(cursor, "SHOW statement_timeout") == [("300000ms",)]
        assert rows(cursor, "SHOW profile") == [("user",)]


def test_variables_are_read_by_names_that_are_constants_or_not(connect: Callable[..., dbapi.Connection]):
    with connect().cursor() as cursor:
        for name in ("one", "two"):
            cursor.execute(f"SET VARIABLE {name} = '{name}'")
        assert rows(cursor, "SELECT getvariable('ONE'), getvariable('none')") == [("one", None)]
        assert rows(cursor, "SELECT getvariable('o' || 'ne') || getvariable('two')") == [("onetwo",)]
        cursor.execute("CREATE TEMP VIEW seen AS SELECT getvariable('two') AS v")
        assert rows(cursor, "FROM seen") == [("two",)]
        assert rows(cursor, "SELECT count(*) FROM duckdb_variables()") == [(2,)]
        with pytest.raises(dbapi.Error, match="cannot read tables or variables"):
            cursor.execute("CREATE TEMP TABLE d (a VARCHAR DEFAULT getvariable('one'))")


def test_temporary_tables_and_views_are_told_apart(connect: Callable[..., dbapi.Connection]):
    with connect().cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE empty AS SELECT 1 AS i WITH NO DATA")
        assert rows(cursor, "FROM empty") == []
        cursor.execute("CREATE TEMP VIEW seen AS FROM empty")
        for statement in ("INSERT INTO seen VALUES (1)", "DELETE FROM seen"):
            with pytest.raises(dbapi.Error, match="seen is a temporary view: write to the tables"):
                cursor.execute(statement)
        plan = "EXPLAIN (ANALYZE false) SELECT getvariable('q')"
        assert "_carried_" not in rows(cursor, plan)[0][1]
        with pytest.raises(dbapi.Error, match=r"INVALID_ARGUMENT.*Cannot combine types"):
            cursor.execute("VALUES ('x'), (2)")
