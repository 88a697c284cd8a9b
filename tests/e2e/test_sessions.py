"""What a session keeps: options, transactions in SQL, temporary tables and views, variables, statements."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server
from tests import flight_sql

Connect = Callable[..., dbapi.Connection]
Rows = list[tuple[Any, ...]]


@pytest.fixture
def cursor(connect: Connect) -> Iterator[dbapi.Cursor]:
    with connect() as connection, connection.cursor() as opened:
        yield opened


def rows(cursor: dbapi.Cursor, sql: str, values: Any = None) -> Rows:
    cursor.execute(sql, values)
    return cursor.fetchall()


def test_temporary_tables_take_every_write_and_are_the_sessions_own(connect: Connect):
    with connect() as mine, connect() as other, mine.cursor() as cursor, other.cursor() as stranger:
        cursor.execute("CREATE TEMP TABLE x (a INTEGER DEFAULT 5, b VARCHAR NOT NULL)")
        cursor.execute("INSERT INTO x VALUES (1, 'one'), (2, 'two')")
        assert cursor.rowcount == 2
        assert rows(cursor, "INSERT INTO x (b) VALUES ('five') RETURNING a, b") == [(5, "five")]
        cursor.execute("UPDATE x SET a = x.a * 10 WHERE x.b = 'two'")
        assert cursor.rowcount == 1
        cursor.execute("DELETE FROM x USING (SELECT 1 AS k) k WHERE x.a = k.k")
        assert rows(cursor, "FROM temp.x ORDER BY a") == [(5, "five"), (20, "two")]
        with pytest.raises(dbapi.ProgrammingError, match=r"NOT NULL constraint failed: x\.b"):
            cursor.execute("INSERT INTO x VALUES (1, NULL)")
        with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
            stranger.execute("SELECT * FROM x")
        cursor.execute("TRUNCATE x")
        assert rows(cursor, "SELECT count(*) FROM x") == [(0,)]
        cursor.execute("DROP TABLE x")
        with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
            cursor.execute("SELECT * FROM x")


def test_executemany_is_one_atomic_unit(cursor: dbapi.Cursor):
    cursor.execute("CREATE TEMP TABLE many (i BIGINT PRIMARY KEY, s VARCHAR)")
    cursor.executemany("INSERT INTO many VALUES (?, ?)", [(i, str(i)) for i in range(5_000)])
    assert cursor.rowcount == 5_000
    cursor.executemany("UPDATE many SET s = $2 WHERE i = $1", [(i, "new") for i in range(10)])
    assert cursor.rowcount == 10
    for repeated in ("INSERT INTO many VALUES (?, ?)", "INSERT INTO many SELECT ?, ?"):
        with pytest.raises(dbapi.ProgrammingError, match=r"INVALID_ARGUMENT.*[Dd]uplicate key"):
            cursor.executemany(repeated, [(6_000, "a"), (6_001, "b"), (6_000, "c")])
    assert rows(cursor, "SELECT count(*), count(*) FILTER (s = 'new') FROM many") == [(5_000, 10)]


def test_temporary_tables_shadow_datasets_and_views_follow_them(connect: Connect, unique_name: str):
    with connect() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, pa.table({"a": [1, 2, 3]}))
        cursor.execute(f"CREATE TEMP VIEW seen (total) AS SELECT sum(a) FROM {unique_name}")
        assert rows(cursor, "SELECT total FROM seen") == [(6,)]
        cursor.adbc_ingest(unique_name, pa.table({"a": [4]}), mode="append")
        assert rows(cursor, "SELECT seen.total FROM seen") == [(10,)]
        cursor.execute(f"CREATE TEMP TABLE {unique_name} AS SELECT 100 AS a")
        assert rows(cursor, f"SELECT * FROM {unique_name}") == [(100,)]
        # The view was bound to the dataset when it was made.
        assert rows(cursor, "SELECT total FROM seen") == [(10,)]
        assert rows(cursor, f'SELECT count(*) FROM "primary".{unique_name}') == [(4,)]
        with pytest.raises(dbapi.ProgrammingError, match="ALREADY_EXISTS"):
            cursor.execute("CREATE TEMP VIEW seen AS SELECT 1")
        cursor.execute("CREATE OR REPLACE TEMP VIEW seen AS SELECT 1 AS one")
        assert rows(cursor, "DESCRIBE seen")[0][:2] == ("one", "INTEGER")
        cursor.execute("DROP VIEW seen")


def test_an_unread_stream_never_blocks_the_next_statement(server: Server):
    with (
        dbapi.connect(server.uri, autocommit=True) as connection,
        connection.cursor() as first,
        connection.cursor() as second,
    ):
        first.execute("CREATE TEMP TABLE big AS SELECT range AS i, repeat('x', 100) AS s FROM range(500000)")
        first.execute("SELECT * FROM big")
        reader = first.fetch_record_batch()
        seen = reader.read_next_batch().num_rows
        second.execute("DELETE FROM big")
        second.execute("DROP TABLE big")
        assert rows(second, "SELECT 1") == [(1,)]
        assert seen + sum(batch.num_rows for batch in reader) == 500_000


def test_sql_transactions_hold_ingests_and_temporary_tables(connect: Connect, unique_name: str):
    with (
        connect() as connection,
        connect() as other,
        connection.cursor() as cursor,
        other.cursor() as watcher,
    ):
        cursor.execute("CREATE TEMP TABLE kept AS SELECT 1 AS i")
        for ending, count in (("ROLLBACK", 1), ("COMMIT", 2)):
            cursor.execute("BEGIN TRANSACTION")
            cursor.adbc_ingest(unique_name, pa.table({"a": [1]}), mode="create_append")
            cursor.execute("INSERT INTO kept VALUES (2)")
            cursor.execute("CREATE TEMP TABLE made AS SELECT 1 AS i")
            assert rows(cursor, f"SELECT count(*) FROM {unique_name}") == [(1,)]
            with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
                watcher.execute(f"SELECT * FROM {unique_name}")
            cursor.execute(ending)
            assert rows(cursor, "SELECT count(*) FROM kept") == [(count,)]
        assert rows(watcher, f"SELECT count(*) FROM {unique_name}") == [(1,)]
        assert rows(cursor, "FROM made") == [(1,)]


def test_a_sql_transaction_reads_at_its_snapshot(connect: Connect, unique_name: str):
    with (
        connect() as connection,
        connect() as other,
        connection.cursor() as cursor,
        other.cursor() as writer,
    ):
        writer.adbc_ingest(unique_name, pa.table({"a": [1]}))
        cursor.execute("BEGIN")
        assert rows(cursor, f"SELECT count(*) FROM {unique_name}") == [(1,)]
        writer.adbc_ingest(unique_name, pa.table({"a": [2]}), mode="append")
        assert rows(cursor, f"SELECT count(*) FROM {unique_name}") == [(1,)]
        cursor.execute("COMMIT")
        assert rows(cursor, f"SELECT count(*) FROM {unique_name}") == [(2,)]


def test_sql_and_protocol_transactions_mix(server: Server, unique_name: str):
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:  # autocommit is off
        for statement in ("ROLLBACK", "BEGIN"):
            cursor.execute(statement)
        cursor.adbc_ingest(unique_name, pa.table({"a": [1]}), mode="create")
        cursor.execute("COMMIT")
        cursor.adbc_ingest(unique_name, pa.table({"a": [2]}), mode="append")
        cursor.execute("ROLLBACK")
        cursor.adbc_ingest(unique_name, pa.table({"a": [3]}), mode="append")
        connection.commit()
        cursor.execute("COMMIT")
        assert rows(cursor, f"SELECT a FROM {unique_name} ORDER BY a") == [(1,), (3,)]
        connection.rollback()


def test_sql_begins_no_transaction_beside_that_of_the_protocol(server: Server):
    request = flight_sql.packed("ActionBeginTransactionRequest")
    with pyarrow.flight.connect(server.uri) as client:
        (begun,) = client.do_action(pyarrow.flight.Action("BeginTransaction", request))
        with pytest.raises(pa.ArrowInvalid, match="send its id with each statement, or end it"):
            client.get_flight_info(flight_sql.statement_query("BEGIN"))
        (transaction,) = flight_sql.unpacked(begun.body.to_pybytes())[1]
        ended = flight_sql.packed("ActionEndTransactionRequest", transaction_id=transaction, action=2)
        assert not list(client.do_action(pyarrow.flight.Action("EndTransaction", ended)))
        client.get_flight_info(flight_sql.statement_query("BEGIN"))


def test_ending_what_is_not_open_is_no_error(cursor: dbapi.Cursor):
    for statement in ("COMMIT", "ROLLBACK", "END", "ABORT", "BEGIN", "BEGIN", "COMMIT"):
        cursor.execute(statement)


def test_settings_variables_and_prepared_statements(cursor: dbapi.Cursor):
    instant = "SELECT (TIMESTAMPTZ '2026-01-01 00:00:00+00')::VARCHAR AS t"
    cursor.execute("SET TimeZone = 'America/New_York'")
    assert rows(cursor, instant) == [("2025-12-31 19:00:00-05",)]
    cursor.execute("RESET timezone")
    assert rows(cursor, instant) == [("2026-01-01 00:00:00+00",)]
    cursor.execute("SET VARIABLE bound = (SELECT 40::TINYINT)")
    assert rows(cursor, "SELECT getvariable('bound') + 2 AS x, typeof(getvariable('bound'))") == [
        (42, "TINYINT")
    ]
    cursor.execute("RESET VARIABLE bound")
    assert rows(cursor, "SELECT getvariable('bound')") == [(None,)]
    cursor.execute("PREPARE p AS SELECT $1 + 1 AS i, $2 AS s")
    assert rows(cursor, "EXECUTE p(41, 'x, y')") == [(42, "x, y")]
    with pytest.raises(dbapi.ProgrammingError, match="takes the parameters 1, 2, given are 1"):
        cursor.execute("EXECUTE p(1)")
    cursor.execute("PREPARE named AS SELECT $low AS low, $high AS high")
    assert rows(cursor, "EXECUTE named(high := 2, low := 1)") == [(1, 2)]
    cursor.execute("DEALLOCATE p")
    with pytest.raises(dbapi.ProgrammingError, match=r"NOT_FOUND.*PREPARE it first"):
        cursor.execute("EXECUTE p(1, 2)")


def test_use_and_set_say_where_names_are_looked_for(connect: Connect, unique_name: str):
    with connect(bucket="testing") as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, pa.table({"a": ["testing"]}))
    with connect() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, pa.table({"a": ["primary"]}))
        for choose, expected in (
            ("USE testing", "testing"),
            ("USE lakehouse", "primary"),
            ("USE lakehouse.testing", "testing"),
            ("RESET schema", "primary"),
            ("SET search_path = 'testing, primary'", "testing"),
            ("SET schema = 'primary'", "primary"),
            ("RESET search_path", "primary"),
            ("SET bucket = 'testing'", "testing"),
            ("SET bucket = DEFAULT", "primary"),
        ):
            cursor.execute(choose)
            assert rows(cursor, f"SELECT a FROM {unique_name}") == [(expected,)], choose
            assert rows(cursor, "SELECT current_schema()") == [(expected,)], choose
        for wrong, message in (
            ("USE nowhere", "NOT_FOUND.*primary, testing"),
            ("SET profile = 'nobody'", "NOT_FOUND.*user"),
            ("SET threads = 1", "INVALID_ARGUMENT.*TimeZone, bucket"),
            ("SET TimeZone = 'Moon/Crater'", "INVALID_ARGUMENT.*TimeZone cannot be set"),
            ("SET statement_timeout = 'soon'", "INVALID_ARGUMENT.*30s"),
            ("SET GLOBAL TimeZone = 'UTC'", "INVALID_ARGUMENT.*leave out GLOBAL"),
            (
                f"SET search_path = '{','.join(f's{at}' for at in range(101))}'",
                "INVALID_ARGUMENT.*at most 100",
            ),
        ):
            with pytest.raises(dbapi.Error, match=f"(?s){message}"):
                cursor.execute(wrong)


def test_new_tables_go_where_the_session_is(connect: Connect, unique_name: str):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("USE testing")
        cursor.adbc_ingest(unique_name, pa.table({"a": [1]}))
        cursor.execute("SET profile = 'user'")
        cursor.execute("RESET schema")
        assert rows(cursor, "SELECT current_schema()") == [("profile:user",)]
        cursor.adbc_ingest(unique_name, pa.table({"a": [2]}))
        found = rows(cursor, f"SELECT namespace FROM sys.datasets WHERE name = '{unique_name}' ORDER BY 1")
        assert found == [("profile:user",), ("testing",)]


def test_driver_options_are_the_sessions(server: Server):
    with dbapi.connect(server.uri, autocommit=True) as connection:
        connection.adbc_connection.set_options(
            **{
                "adbc.connection.db_schema": "testing",
                "adbc.flight.sql.session.option.statement_timeout": "9s",
            }
        )
        assert connection.adbc_current_catalog == "lakehouse"
        assert connection.adbc_current_db_schema == "testing"
        with connection.cursor() as cursor:
            assert rows(cursor, "SELECT current_schema()") == [("testing",)]
        with pytest.raises(dbapi.Error, match=r"nowhere|INVALID"):
            connection.adbc_connection.set_options(**{"adbc.connection.db_schema": "nowhere"})


def test_a_statement_stops_at_the_sessions_timeout(cursor: dbapi.Cursor):
    cursor.execute("SET statement_timeout = '300ms'")
    began = time.monotonic()
    with pytest.raises(dbapi.OperationalError, match=r"TIMEOUT.*0\.3 s"):
        rows(cursor, "SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000) b")
    assert time.monotonic() - began < 5


def test_a_changed_table_refuses_a_statement_prepared_before(connect: Connect, unique_name: str):
    with connect() as connection, connection.cursor() as cursor, connection.cursor() as other:
        cursor.adbc_ingest(unique_name, pa.table({"a": [1]}))
        statement = cursor.adbc_statement
        statement.set_sql_query(f"SELECT * FROM {unique_name}")
        statement.prepare()
        other.adbc_ingest(unique_name, pa.table({"a": [1], "b": ["x"]}), mode="replace")
        with pytest.raises(dbapi.Error, match="has changed since it was prepared: prepare it again"):
            statement.execute_query()
        statement.prepare()
        stream, _ = statement.execute_query()
        assert pa.RecordBatchReader.from_stream(stream).schema.names == ["a", "b"]


@pytest.mark.parametrize(
    ("sql", "status", "message"),
    [
        (
            "CREATE TEMP TABLE t (a VARCHAR DEFAULT (current_setting('temp_directory')))",
            "INVALID",
            "takes the name",
        ),
        ("CREATE TEMP TABLE t (a INTEGER CHECK (a IN (FROM x)))", "INVALID", "[Ss]ubquer"),
        ("CREATE TEMP TABLE t AS FROM read_csv('/etc/passwd')", "INVALID", "is not served"),
        ("CREATE TEMP VIEW t AS FROM read_csv('/etc/passwd')", "INVALID", "is not served"),
        ("SET VARIABLE v = (FROM read_text('/etc/passwd'))", "INVALID", "is not served"),
        ("PREPARE p AS FROM read_text('/etc/passwd')", "INVALID", "is not served"),
        ("CREATE TEMP TABLE testing.t (a INTEGER)", "INVALID", "no schema"),
        ("CREATE TEMP MACRO m() AS 1", "IMPLEMENTED", "tables, views and schemas"),
        ('INSERT INTO _t."~0" VALUES (1)', "NOT_FOUND", "no schema '_t'"),
        ("WITH w AS (INSERT INTO x VALUES (1) RETURNING *) FROM w", "IMPLEMENTED", "send it alone"),
        ("EXPLAIN INSERT INTO x VALUES (1)", "INVALID", "EXPLAIN takes a query"),
    ],
)
def test_what_a_session_may_not_do(cursor: dbapi.Cursor, sql: str, status: str, message: str):
    with pytest.raises(dbapi.Error, match=f"(?s)({status}).*{message}") as raised:
        cursor.execute(sql)
        cursor.fetchall()
    assert "/etc" not in str(raised.value).replace(sql, "")


def test_pivot_makes_columns_of_what_the_rows_hold(cursor: dbapi.Cursor):
    cursor.execute(
        "CREATE TEMP TABLE sales AS FROM (VALUES ('o''x', 'b', 1), ('p', 'b', 2), ('p', 'c', 3)) t(k, g, v)"
    )
    for sql, names, result in (
        (
            "PIVOT sales ON k USING sum(v) GROUP BY g ORDER BY g",
            ["g", "o'x", "p"],
            [("b", 1, 2), ("c", None, 3)],
        ),
        ("FROM (PIVOT sales ON k || g USING count(*)) SELECT count(*)", ["count_star()"], [(3,)]),
        (
            "WITH s AS (FROM sales) PIVOT s ON k, g USING max(v)",
            ["o'x_b", "o'x_c", "p_b", "p_c"],
            [(1, None, 2, 3)],
        ),
        ("PIVOT sales ON v USING count(*) GROUP BY k LIMIT 0", ["k", "1", "2", "3"], []),
    ):
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
        assert table.column_names == names, sql
        assert [tuple(row.values()) for row in table.to_pylist()] == result, sql


def test_a_session_ends_with_all_it_keeps(server: Server):
    def holdings(cursor: dbapi.Cursor) -> Rows:
        return rows(cursor, "SELECT holds, in_transaction FROM sys.sessions WHERE 'variable mine' IN holds")

    with dbapi.connect(server.uri, autocommit=True) as watcher, watcher.cursor() as seen:
        with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE t AS SELECT 1 AS i")
            cursor.execute("SET VARIABLE mine = 1")
            cursor.execute("BEGIN")
            assert holdings(seen) == [(["temporary table t", "variable mine"], True)]
        assert holdings(seen) == []
