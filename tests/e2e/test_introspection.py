"""What SQL tells of the catalog: information_schema, pg_catalog, duckdb_…(), SHOW, DESCRIBE, PRAGMA."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.engine.functions import METADATA_FUNCTIONS, SYSTEM_VIEWS
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.conftest import BUCKET_HEADER, CLIENTS
from tests.e2e.introspection_questions import QUESTIONS

RunQuery = Callable[[str], pa.Table]

REFERENCE = (Path(__file__).parents[2] / "docs/reference/introspection.md").read_text()

PEOPLE = pa.schema(
    {
        "id": pa.int64(),
        "name": pa.utf8(),
        "vector": pa.list_(pa.float32(), 2),
        "at": pa.timestamp("us", "UTC"),
        "price": pa.decimal128(9, 2),
    }
)
HIDDEN = re.compile(r"_v\b|_t\b|\b_(session|namespaces|relations|columns|types|extensions)\b")


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    """A server of its own: people in two buckets, notes in a profile's."""
    with serve() as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for bucket, name in (("primary", "people"), ("testing", "people"), ("profile:user", "notes")):
                rows = pa.Table.from_pylist([{"id": 1}, {"id": 2}], PEOPLE)
                cursor.adbc_ingest(name, rows, mode="create", db_schema_name=bucket)
        yield running


@pytest.fixture
def connect(shop: Server) -> Iterator[Callable[..., dbapi.Cursor]]:
    """Open a connection of its own and return its cursor: `connect(bucket="testing")`."""
    opened: list[Any] = []

    def open_cursor(bucket: str | None = None) -> dbapi.Cursor:
        options = {} if bucket is None else {BUCKET_HEADER: bucket}
        connection = dbapi.connect(shop.uri, db_kwargs=options, autocommit=True)
        cursor = connection.cursor()
        opened.extend((connection, cursor))
        return cursor

    yield open_cursor
    for item in reversed(opened):
        item.close()


@pytest.fixture
def ask(shop: Server) -> Callable[..., list[tuple[Any, ...]]]:
    """Run SQL through a plain client, which compares the announced schema with the stream's."""

    def run(sql: str, *headers: tuple[bytes, bytes]) -> list[tuple[Any, ...]]:
        with pyarrow.flight.connect(shop.uri) as client:
            options = pyarrow.flight.FlightCallOptions(headers=list(headers))
            return [tuple(row.values()) for row in flight_sql.query(client, sql, options).to_pylist()]

    return run


def test_sql_and_the_metadata_commands_tell_the_same(shop: Server, ask: Callable[..., Any]) -> None:
    kinds = {"TABLE": "BASE TABLE", "SYSTEM TABLE": "VIEW"}
    with pyarrow.flight.connect(shop.uri) as client:
        info = client.get_flight_info(flight_sql.command("GetTables", include_schema=True))
        tables = client.do_get(info.endpoints[0].ticket).read_all().to_pylist()
        info = client.get_flight_info(flight_sql.command("GetDbSchemas"))
        schemas = client.do_get(info.endpoints[0].ticket).read_all().to_pylist()
    told = ask("SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables")
    assert sorted(told) == sorted(
        (row["catalog_name"], row["db_schema_name"], row["table_name"], kinds[row["table_type"]])
        for row in tables
    )
    columns = ask(
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
        "ORDER BY table_schema, table_name, ordinal_position"
    )
    key = b"ARROW:FLIGHT:SQL:TYPE_NAME"
    assert columns == [
        (row["db_schema_name"], row["table_name"], field.name, (field.metadata or {})[key].decode())
        for row in tables
        for field in pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))
    ]
    told = ask("SELECT catalog_name, schema_name FROM information_schema.schemata ORDER BY ALL")
    assert told == [(row["catalog_name"], row["db_schema_name"]) for row in schemas]


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_every_client_asks_sql_what_there_is(shop: Server, client: str) -> None:
    sql = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'people' ORDER BY 1"
    assert CLIENTS[client](shop.uri, sql).column(0).to_pylist() == ["primary", "testing"]
    assert CLIENTS[client](shop.uri, "SHOW TABLES").to_pylist() == [{"name": "people"}]
    assert CLIENTS[client](shop.uri, "EXPLAIN SELECT 1").column_names == ["explain_key", "explain_value"]


@pytest.mark.parametrize(("sql", "rows"), [pytest.param(*rest, id=name) for name, *rest in QUESTIONS])
def test_what_clients_ask_is_answered(ask: Callable[..., Any], sql: str, rows: list[tuple[Any, ...]]) -> None:
    assert ask(sql) == rows


def test_the_version_is_that_of_duckdb(ask: Callable[..., Any]) -> None:
    version = f"v{duckdb.__version__}"
    assert ask("SELECT version()") == [(version,)]
    assert ask("PRAGMA version")[0][0] == version


def test_two_callers_of_one_engine_are_told_of_their_own_session(ask: Callable[..., Any]) -> None:
    for bucket, tables in (
        ("testing", [("people",)]),
        ("profile:user", [("notes",)]),
        ("primary", [("people",)]),
    ):
        header = (b"x-lakehouse-bucket", bucket.encode())
        assert ask("SELECT current_schema", header) == [(bucket,)]
        assert ask("SHOW TABLES", header) == tables


def test_settings_are_those_of_the_session(connect: Callable[..., dbapi.Cursor]) -> None:
    cursor = connect()
    cursor.execute("SET timezone = 'Asia/Tokyo'")
    for sql in (
        "SELECT value FROM duckdb_settings()",
        "SELECT setting FROM pg_settings WHERE name = 'TimeZone'",
        "SELECT current_setting('timezone')",
        "SHOW TimeZone",
    ):
        cursor.execute(sql)
        assert cursor.fetchall() == [("Asia/Tokyo",)]


def test_temporary_tables_are_told_to_their_own_session(connect: Callable[..., dbapi.Cursor]) -> None:
    own, other = connect(), connect()
    own.execute("CREATE TEMP TABLE basket (id INTEGER NOT NULL DEFAULT 7, word VARCHAR)")
    own.execute("CREATE TEMP VIEW few AS SELECT id, table_name FROM basket, information_schema.tables")
    sql = (
        "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables "
        "WHERE table_catalog <> 'lakehouse' ORDER BY 3"
    )
    own.execute(sql)
    assert own.fetchall() == [
        ("temp", "main", "basket", "LOCAL TEMPORARY"),
        ("temp", "main", "few", "VIEW"),
    ]
    own.execute(
        "SELECT table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_catalog = 'temp' ORDER BY table_name, ordinal_position"
    )
    assert own.fetchall() == [
        ("basket", "id", "INTEGER", "NO", "7"),
        ("basket", "word", "VARCHAR", "YES", None),
        ("few", "id", "INTEGER", "YES", None),
        ("few", "table_name", "VARCHAR", "YES", None),
    ]
    own.execute("SHOW TABLES")
    assert own.fetchall() == [("basket",), ("few",), ("people",)]
    other.execute(sql)
    assert other.fetchall() == []


def test_it_is_asked_with_parameters_by_views_and_in_writes(connect: Callable[..., dbapi.Cursor]) -> None:
    cursor = connect(bucket="testing")
    cursor.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = ?", ["testing"])
    assert cursor.fetchall() == [(1,)]
    cursor.execute("CREATE TEMP VIEW mine AS SELECT table_name, user AS who FROM information_schema.tables")
    cursor.execute(
        "CREATE TEMP TABLE seen AS SELECT who, current_schema AS place FROM mine WHERE table_name = 'notes'"
    )
    cursor.execute("FROM seen")
    assert cursor.fetchall() == [("local", "testing")]
    cursor.execute("""SELECT "user", current_schema FROM (SELECT 'a' AS "user", 'b' AS current_schema)""")
    assert cursor.fetchall() == [("a", "b")]
    cursor.execute("SET VARIABLE size = 5")
    cursor.execute("SHOW VARIABLES")
    assert cursor.fetchall() == [("size", "5", "INTEGER")]


def test_a_transaction_is_told_what_it_staged(shop: Server) -> None:
    sql = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'staged'"
    with dbapi.connect(shop.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("staged", pa.table({"x": [1], "y": [2]}), mode="create", db_schema_name="testing")
        cursor.execute(sql)
        assert cursor.fetchall() == [(2,)]
        connection.rollback()
        cursor.execute(sql)
        assert cursor.fetchall() == [(0,)]


def test_nothing_hidden_is_told(ask: Callable[..., Any]) -> None:
    ids = [row[0] for row in ask("SELECT id FROM sys.datasets")]
    main, *others = ("main", "information_schema", "pg_catalog")
    views = [*SYSTEM_VIEWS[main], *(f"{schema}.{name}" for schema in others for name in SYSTEM_VIEWS[schema])]
    functions = [f"{name}()" for name in METADATA_FUNCTIONS if name != "pragma_table_info"]
    for source in [*views, *functions]:
        text = repr(ask(f"FROM {source}"))
        assert not HIDDEN.search(text), source
        assert not any(item in text for item in ids), source


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("FROM duckdb_secrets()", "duckdb_secrets.. is not served; those that are"),
        ("FROM duckdb_memory()", "is not served"),
        ("FROM duckdb_logs", "no table 'duckdb_logs'"),
        ("FROM system.main.duckdb_tables()", "without a schema"),
        ("FROM pragma_storage_info('people')", "is not served"),
        ("SELECT current_setting('temp_directory')", "TimeZone"),
        ("SHOW temp_directory", "no table 'temp_directory'"),
        ("SHOW TABLES FROM nope", "no schema nope; SHOW SCHEMAS"),
        ("FROM (SHOW people)", "send it alone"),
        ("PRAGMA storage_info('people')", r"PRAGMA storage_info is not served.*table_info"),
        ("CALL pragma_version()", "CALL statements are not served"),
        ("FROM information_schema.routines", "no table 'routines' in information_schema; there are"),
        ("FROM temp._relations", "no temporary table"),
        ("FROM information_schema.tables AT (VERSION => 1)", "leave out AT"),
    ],
)
def test_the_engines_own_state_is_not_told(
    connect: Callable[..., dbapi.Cursor], sql: str, message: str
) -> None:
    with pytest.raises(dbapi.Error, match=message) as raised:
        cursor = connect()
        cursor.execute(sql)
        cursor.fetchall()
    assert "INTERNAL" not in str(raised.value)


EXPLAINED = "SELECT count(*) FROM testing.people p JOIN sys.buckets b ON p.name = b.name WHERE p.id > 1"


@pytest.mark.parametrize(
    "options", ["", "ANALYZE", "(FORMAT json)", "(ANALYZE, FORMAT JSON)", "ANALYZE (FORMAT TEXT)"]
)
def test_plans_are_explained_without_paths_and_hidden_names(
    shop: Server, ask: Callable[..., Any], options: str
) -> None:
    ((key, plan),) = ask(f"EXPLAIN {options} {EXPLAINED}")
    assert key == ("analyzed_plan" if "ANALYZE" in options else "physical_plan")
    assert "READ_PARQUET" in plan
    assert not HIDDEN.search(plan)
    assert not re.search(r"/\w+/", plan)
    assert plan.lstrip().startswith(("[", "{")) == ("json" in options.lower())


def test_explain_takes_parameters_and_any_query_and_nothing_else(
    connect: Callable[..., dbapi.Cursor],
) -> None:
    cursor = connect()
    cursor.execute("EXPLAIN SELECT id FROM people WHERE id > ?", [1])
    assert "id > 1" in cursor.fetchall()[0][1]
    for sql in ("EXPLAIN SHOW TABLES", "EXPLAIN FROM information_schema.columns", "EXPLAIN (SELECT 1)"):
        cursor.execute(sql)
        assert cursor.fetchall()[0][0] == "physical_plan"
    for sql, message in (
        ("EXPLAIN (FORMAT html) SELECT 1", "TEXT or JSON"),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "EXPLAIN takes a query"),
        ("EXPLAIN FROM read_parquet('/etc/passwd')", "is not served"),
        ("EXPLAIN (COSTS off) SELECT 1", "explain type"),
    ):
        with pytest.raises(dbapi.Error, match=message):
            cursor.execute(sql)


def test_all_that_tells_is_in_the_reference() -> None:
    views = [name for found in SYSTEM_VIEWS.values() for name in found]
    missing = [
        name for name in (*views, *METADATA_FUNCTIONS) if not re.search(rf"`{name}(\(\))?`", REFERENCE)
    ]
    assert missing == []
