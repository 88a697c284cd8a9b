"""What SQL tells of the catalog: information_schema, pg_catalog, duckdb_…(), SHOW, DESCRIBE, PRAGMA."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.engine.functions import METADATA_FUNCTIONS, SYSTEM_VIEWS
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.conftest import BUCKET_HEADER, CLIENTS

RunQuery = Callable[[str], pa.Table]

PEOPLE = pa.schema(
    {
        "id": pa.int64(),
        "name": pa.utf8(),
        "vector": pa.list_(pa.float32(), 2),
        "at": pa.timestamp("us", "UTC"),
        "price": pa.decimal128(9, 2),
    }
)
TYPES = ["BIGINT", "VARCHAR", "FLOAT[2]", "TIMESTAMP WITH TIME ZONE", "DECIMAL(9,2)"]
BUCKETS = ["primary", "profile:user", "testing"]
HIDDEN = re.compile(
    r"_v\b|_t\b|\b_(session|namespaces|relations|columns|types)\b|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-"
)


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
        (row["db_schema_name"], row["table_name"], field.name, field.metadata[key].decode())
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


CORPUS: list[tuple[str, str, Any]] = [
    # ibis
    ("database", "SELECT current_database()", [("lakehouse",)]),
    ("schema", "SELECT current_schema()", [("primary",)]),
    ("catalogs", "SELECT DISTINCT catalog_name FROM information_schema.schemata", [("lakehouse",)]),
    (
        "tables",
        "SELECT DISTINCT table_name FROM information_schema.tables "
        "WHERE table_catalog IN ('lakehouse', 'temp') AND table_schema = 'profile:user'",
        [("notes",)],
    ),
    (
        "extensions",
        "SELECT unnest(list_intersect(list_append(aliases, extension_name), ['icu', 'parquet'])) AS e, "
        "installed, loaded FROM duckdb_extensions() ORDER BY 1",
        [("icu", True, True), ("parquet", True, True)],
    ),
    ("schema of a table", 'DESCRIBE "lakehouse"."testing"."people"', "columns"),
    ("schema of a query", "DESCRIBE SELECT * FROM testing.people", "columns"),
    # dbt
    ("kind of database", "SELECT type FROM duckdb_databases() WHERE lower(database_name) = 'lakehouse'", [("duckdb",)]),
    (
        "schemas",
        "SELECT schema_name FROM system.information_schema.schemata WHERE lower(catalog_name) = 'lakehouse' ORDER BY 1",
        [("primary",), ("profile:user",), ("sys",), ("testing",)],
    ),
    (
        "relations",
        "SELECT table_name, CASE table_type WHEN 'BASE TABLE' THEN 'table' WHEN 'VIEW' THEN 'view' END "
        "FROM system.information_schema.tables WHERE lower(table_schema) = 'testing' AND lower(table_catalog) = 'lakehouse'",
        [("people", "table")],
    ),
    (
        "columns",
        "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale "
        "FROM system.information_schema.columns WHERE table_name = 'people' AND lower(table_schema) = 'testing' "
        "AND numeric_scale IS NOT NULL ORDER BY ordinal_position",
        [("id", "BIGINT", None, 64, 0), ("price", "DECIMAL(9,2)", None, 9, 2)],
    ),
    ("columns of a relation", 'SELECT column_type FROM (DESCRIBE "lakehouse"."testing"."people")', [(kind,) for kind in TYPES]),
    (
        "catalog",
        "WITH tables AS (SELECT * FROM (SELECT t.database_name AS d, t.schema_name AS s, t.table_name AS n, "
        "'BASE TABLE' AS k, t.comment AS c FROM duckdb_tables() t UNION ALL SELECT v.database_name, "
        "v.schema_name, v.view_name, 'VIEW', v.comment FROM duckdb_views() v) x WHERE upper(s) = 'TESTING'), "
        "columns AS (SELECT c.database_name AS d, c.schema_name AS s, c.table_name AS n, c.column_name, "
        "c.column_index, c.data_type FROM duckdb_columns() c) "
        "SELECT k, column_name, data_type FROM tables JOIN columns USING (d, s, n) ORDER BY column_index LIMIT 2",
        [("BASE TABLE", "id", "BIGINT"), ("BASE TABLE", "name", "VARCHAR")],
    ),
    ("indexes", "SELECT index_name FROM duckdb_indexes() WHERE table_name = 'people'", []),
    # SQLAlchemy
    (
        "schema names",
        "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_catalog = current_catalog() ORDER BY 1",
        [("primary",), ("profile:user",), ("sys",), ("testing",)],
    ),
    (
        "keys",
        "SELECT constraint_name, unnest(constraint_column_names), referenced_table FROM duckdb_constraints() "
        "WHERE constraint_type = 'PRIMARY KEY' AND table_name = 'people'",
        [],
    ),
    (
        "table by its oid",
        "SELECT o.table_name FROM (SELECT table_oid AS oid, table_name, schema_name FROM duckdb_tables() "
        "UNION ALL BY NAME SELECT view_oid AS oid, view_name AS table_name, schema_name FROM duckdb_views()) o "
        "JOIN pg_catalog.pg_class c ON c.oid = o.oid WHERE o.schema_name = 'testing'",
        [("people",)],
    ),
    (
        "names that are visible",
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(c.oid) AND n.nspname <> 'pg_catalog' ORDER BY 1, 2",
        [("primary", "people"), ("profile:user", "notes")],
    ),
    (
        "attributes",
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, "
        "(SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d "
        "WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef) AS dflt, "
        "pgd.description FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_catalog.pg_attribute a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped "
        "LEFT JOIN pg_catalog.pg_description pgd ON pgd.objoid = a.attrelid AND pgd.objsubid = a.attnum "
        "WHERE n.nspname = 'testing' AND c.relname = 'people' ORDER BY a.attnum LIMIT 2",
        [("id", "int8", False, None, None), ("name", "varchar", False, None, None)],
    ),
    (
        "constraints",
        "SELECT r.conname, pg_catalog.pg_get_constraintdef(r.oid, true), i.indisunique FROM pg_catalog.pg_constraint r "
        "LEFT JOIN pg_catalog.pg_index i ON i.indrelid = r.conrelid WHERE r.contype IN ('p', 'f')",
        [],
    ),
    ("enums", "SELECT t.typname, e.enumlabel FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid = e.enumtypid", []),
    ("view", "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname = 'buckets'", [(None,)]),
    ("reserved", "SELECT count(*) > 50 FROM duckdb_keywords() WHERE keyword_category = 'reserved'", [(True,)]),
    # DBeaver, Superset, Grafana, sqlmesh
    ("session", "SELECT current_schema, current_schema(), session_user, current_user, user", [("primary", "primary", "local", "local", "local")]),
    ("search path", "SELECT current_schemas(true), current_catalog", [(["primary", "testing", "profile:user"], "lakehouse")]),
    ("databases", "SELECT datname FROM pg_catalog.pg_database", [("lakehouse",)]),
    ("tables of pg", "SELECT schemaname, tablename FROM pg_catalog.pg_tables WHERE tablename = 'notes'", [("profile:user", "notes")]),
    ("three parts", "SELECT t.table_name FROM lakehouse.information_schema.tables t WHERE t.table_schema = 'testing'", [("people",)]),
    ("own columns", "SELECT information_schema.tables.table_name FROM information_schema.tables WHERE table_name = 'notes'", [("notes",)]),
    ("size", "SELECT estimated_size, column_count, sql FROM duckdb_tables() WHERE table_name = 'notes'",
     [(2, 5, 'CREATE TABLE "profile:user"."notes"("id" BIGINT, "name" VARCHAR, "vector" FLOAT[2], "at" TIMESTAMP WITH TIME ZONE, "price" DECIMAL(9,2));')]),
    ("functions", "SELECT count(*) FROM duckdb_functions() WHERE function_name IN ('read_parquet', 'getenv', 'duckdb_secrets')", [(0,)]),
    ("a name of one's own", "WITH duckdb_tables AS (SELECT 7 AS x) FROM duckdb_tables", [(7,)]),
    # SHOW, DESCRIBE, PRAGMA
    ("SHOW TABLES", "SHOW TABLES", [("people",)]),
    ("SHOW TABLES FROM", 'SHOW TABLES FROM "profile:user"', [("notes",)]),
    ("SHOW SCHEMAS", "SELECT schema_name, current FROM (SHOW SCHEMAS) WHERE current", [("primary", True)]),
    ("SHOW DATABASES", "SHOW DATABASES", [("lakehouse",)]),
    ("SHOW ALL TABLES", "SELECT schema, name, column_types FROM (SHOW ALL TABLES) WHERE name = 'notes'", [("profile:user", "notes", TYPES)]),
    ("DESCRIBE", "SELECT name FROM (DESCRIBE) WHERE schema = 'testing'", [("people",)]),
    ("SHOW table", "SHOW testing.people", "columns"),
    ("SHOW schema", "SHOW schema", [("primary",)]),
    ("SHOW search_path", "SHOW search_path", [("primary,testing,profile:user",)]),
    ("SHOW VARIABLES", "SHOW VARIABLES", []),
    ("SUMMARIZE", "SELECT column_name, min, max FROM (SUMMARIZE testing.people) LIMIT 1", [("id", "1", "2")]),
    ("table_info", "PRAGMA table_info('people')", "info"),
    ("table_info of", 'PRAGMA table_info("testing.people");', "info"),
    ("pragma_table_info", "FROM pragma_table_info('testing.people')", "info"),
    ("show_tables", "PRAGMA show_tables", [("people",)]),
    ("database_list", "SELECT name, file FROM pragma_database_list", [("lakehouse", None)]),
    ("version", "PRAGMA version", "one row"),
]  # fmt: skip
EXPECTED = {
    "columns": [
        (name, kind, "YES", None, None, None) for name, kind in zip(PEOPLE.names, TYPES, strict=True)
    ],
    "info": [
        (at, name, kind, False, None, False)
        for at, (name, kind) in enumerate(zip(PEOPLE.names, TYPES, strict=True))
    ],
}


@pytest.mark.parametrize(("sql", "expected"), [pytest.param(*rest, id=name) for name, *rest in CORPUS])
def test_what_clients_send_is_answered(ask: Callable[..., Any], sql: str, expected: Any) -> None:
    found = ask(sql)
    if expected == "one row":
        assert len(found) == 1
    else:
        assert found == (EXPECTED[expected] if isinstance(expected, str) else expected)


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
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_catalog = 'temp' ORDER BY table_name, ordinal_position"
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


def test_a_transaction_is_told_what_it_staged(shop: Server) -> None:
    sql = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'staged'"
    with dbapi.connect(shop.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("staged", pa.table({"x": [1], "y": [2]}), mode="create", db_schema_name="testing")
        cursor.execute(sql)
        assert cursor.fetchall() == [(2,)]
        connection.rollback()
        cursor.execute(sql)
        assert cursor.fetchall() == [(0,)]


def test_nothing_hidden_is_told(shop: Server, ask: Callable[..., Any]) -> None:
    views = [
        f"{schema}.{name}" for schema, found in SYSTEM_VIEWS.items() for name in found if schema != "main"
    ]
    functions = [f"{name}()" for name in METADATA_FUNCTIONS if name != "pragma_table_info"]
    for source in [*views, *SYSTEM_VIEWS["main"], *functions]:
        text = repr(ask(f"FROM {source}"))
        assert not HIDDEN.search(text), f"{source}: {HIDDEN.search(text)}"
        assert "/" not in text or "parquet'" not in text
    assert {row[0] for row in ask("SELECT database_name FROM duckdb_schemas()")} == {"lakehouse"}


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
        ("FROM temp._relations", "no schema 'temp'"),
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
