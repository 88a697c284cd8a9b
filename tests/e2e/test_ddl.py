"""CREATE, ALTER, DROP and COMMENT of datasets, views and schemas."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

Connect = Callable[..., dbapi.Connection]
Rows = list[tuple[Any, ...]]


@pytest.fixture
def cursor(connect: Connect) -> Iterator[dbapi.Cursor]:
    with connect() as connection, connection.cursor() as opened:
        yield opened


def rows(cursor: dbapi.Cursor, sql: str, values: Any = None) -> Rows:
    cursor.execute(sql, values)
    return cursor.fetchall()


def refused(cursor: dbapi.Cursor, sql: str, message: str) -> None:
    with pytest.raises(dbapi.Error, match=message):
        cursor.execute(sql)


def test_a_table_is_created_from_columns_or_from_a_query(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(
        f"CREATE TABLE {unique_name} (id BIGINT PRIMARY KEY, name VARCHAR NOT NULL DEFAULT 'none', "
        "price DECIMAL(10, 2) CHECK (price > 0), since TIMESTAMP, tags VARCHAR[], UNIQUE (name, price))"
    )
    refused(cursor, f"CREATE TABLE {unique_name} AS SELECT 1", "ALREADY_EXISTS")
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {unique_name} AS SELECT 1")
    assert [row[:2] for row in rows(cursor, f"DESCRIBE {unique_name}")] == [
        ("id", "BIGINT"),
        ("name", "VARCHAR"),
        ("price", "DECIMAL(10,2)"),
        ("since", "TIMESTAMP"),
        ("tags", "VARCHAR[]"),
    ]
    assert rows(cursor, f"INSERT INTO {unique_name} (id, tags) VALUES (1, ['a']) RETURNING name, tags") == [
        ("none", ["a"])
    ]
    cursor.execute(f"CREATE OR REPLACE TABLE {unique_name} (a, b) AS SELECT ?::INTEGER, 'x'", (7,))
    assert cursor.rowcount == 1
    assert rows(cursor, f"FROM {unique_name}") == [(7, "x")]
    assert rows(cursor, f"SELECT count(*) FROM {unique_name} AT (VERSION => 2)") == [(1,)]
    cursor.execute(f"CREATE OR REPLACE TABLE {unique_name} AS SELECT 1 AS i WITH NO DATA")
    assert rows(cursor, f"FROM {unique_name}") == []
    refused(cursor, f"CREATE TABLE {unique_name}_2 (i INTEGER, j AS (i + 1))", "generated")
    refused(cursor, f"CREATE TABLE {unique_name}_2 (i INTERVAL)", "cannot be stored")
    refused(cursor, f'CREATE TABLE "{unique_name}@3" (i INTEGER)', "is not a table name.* not ending in '@'")


def test_constraints_hold_for_the_batch_and_the_dataset(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(
        f"CREATE TABLE {unique_name} (id INTEGER PRIMARY KEY, a VARCHAR UNIQUE, b INTEGER CHECK (b < 9))"
    )
    cursor.execute(f"INSERT INTO {unique_name} VALUES (1, 'one', 1), (2, NULL, 2)")
    cursor.execute(f"INSERT INTO {unique_name} VALUES (3, NULL, 3)")
    for values, message in (
        ("(4, 'x', 1), (4, 'y', 1)", "[dD]uplicate key"),
        ("(1, 'x', 1)", 'Duplicate key "id: 1" violates primary key'),
        ("(4, 'one', 1)", 'Duplicate key "a: one" violates unique'),
        ("(4, 'x', 9)", "CHECK constraint failed"),
        ("(NULL, 'x', 1)", "NOT NULL constraint failed"),
    ):
        refused(cursor, f"INSERT INTO {unique_name} VALUES {values}", f"INVALID_ARGUMENT.*{message}")
    refused(cursor, f"UPDATE {unique_name} SET id = 1 WHERE id = 3", "Duplicate key")
    refused(cursor, f"UPDATE {unique_name} SET b = b + 6", "CHECK constraint failed")
    refused(
        cursor,
        f"MERGE INTO {unique_name} USING (VALUES (3)) s(k) ON id = k WHEN MATCHED THEN UPDATE SET a = 'one'",
        "Duplicate key",
    )
    upload = pa.table({"id": pa.array([None], pa.int32()), "a": ["z"], "b": pa.array([1], pa.int32())})
    with pytest.raises(dbapi.Error, match="NOT NULL constraint failed: column 'id' holds NULL"):
        cursor.adbc_ingest(unique_name, upload, mode="append")
    cursor.execute(f"CREATE TABLE {unique_name}_2 (k INTEGER REFERENCES {unique_name} (id))")
    cursor.execute(f"INSERT INTO {unique_name}_2 VALUES (99)")  # recorded, and not enforced
    refused(cursor, f"CREATE TABLE {unique_name}_3 (k INTEGER REFERENCES {unique_name}_4 (id))", "NOT_FOUND")
    assert rows(cursor, f"SELECT count(*) FROM {unique_name}") == [(3,)]


def test_alter_changes_columns_and_keeps_what_is_stored(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(
        f"CREATE TABLE {unique_name} AS SELECT range::INTEGER AS i, 'v' || range AS s FROM range(3)"
    )
    for action in (
        "ADD COLUMN j INTEGER DEFAULT 1 + 1",
        "ADD COLUMN IF NOT EXISTS j VARCHAR",
        "RENAME COLUMN j TO k",
        "ADD COLUMN j VARCHAR DEFAULT 'new'",
        "ALTER i TYPE BIGINT",
        "ALTER COLUMN s SET DATA TYPE INTEGER USING CAST(s[2:] AS INTEGER) * 10",
        "ALTER k DROP DEFAULT",
        "ALTER i SET NOT NULL",
        "ADD PRIMARY KEY (i)",
        "ADD CONSTRAINT small CHECK (s < 100)",
    ):
        cursor.execute(f"ALTER TABLE {unique_name} {action}")
    cursor.execute(f"INSERT INTO {unique_name} (i) VALUES (3)")
    assert rows(cursor, f"SELECT i, s, k, j FROM {unique_name} ORDER BY i") == [
        (0, 0, 2, "new"),
        (1, 10, 2, "new"),
        (2, 20, 2, "new"),
        (3, None, None, "new"),
    ]
    cursor.execute(f"ALTER TABLE {unique_name} DROP COLUMN k")
    cursor.execute(f"ALTER TABLE {unique_name} ADD COLUMN k INTEGER")
    assert rows(cursor, f"SELECT DISTINCT k FROM {unique_name}") == [(None,)]
    assert rows(cursor, f"SELECT count(*), min(s) FROM {unique_name} AT (VERSION => 1)") == [(3, "v0")]
    cursor.execute(f"ALTER TABLE {unique_name} DROP CONSTRAINT small")
    cursor.execute(f"ALTER TABLE {unique_name} RENAME TO {unique_name}_moved")
    assert rows(cursor, f"SELECT count(*) FROM {unique_name}_moved") == [(4,)]
    refused(cursor, f"FROM {unique_name}", "NOT_FOUND")
    cursor.execute(f"ALTER TABLE IF EXISTS {unique_name} DROP COLUMN i")


def test_alter_refuses_what_rows_or_constraints_forbid(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(
        f"CREATE TABLE {unique_name} (i INTEGER PRIMARY KEY, s INTEGER CHECK (s < 100), k INTEGER)"
    )
    cursor.execute(f"INSERT INTO {unique_name} VALUES (1, 2, NULL), (2, 2, NULL)")
    for action, message in (
        ("ADD COLUMN n INTEGER NOT NULL", "NOT NULL constraint failed"),
        ("ADD COLUMN n DOUBLE DEFAULT random()", "differs from row to row"),
        ("DROP COLUMN i", "constraint"),
        ("DROP COLUMN nope", "NOT_FOUND.*the columns are: i, s"),
        ("ALTER k SET NOT NULL", "NOT NULL constraint failed"),
        ("ADD CONSTRAINT c CHECK (s > 5)", "CHECK constraint failed"),
        ("ADD UNIQUE (s)", 'Duplicate key "s: 2"'),
        ("RENAME COLUMN k TO I", "exists already"),
        ("ALTER s TYPE BOOLEAN[]", "INVALID_ARGUMENT|UNIMPLEMENTED"),
        ("DROP COLUMN k.i", "k.i is a field of a column"),
        ("RENAME COLUMN k.s TO z", "k.s is a field of a column"),
        ("EXPLODE", "syntax error"),
    ):
        refused(cursor, f"ALTER TABLE {unique_name} {action}", message)


def test_views_are_queries_of_the_catalog(connect: Connect, unique_name: str):
    with connect("testing") as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {unique_name} AS SELECT 1 AS a")
        cursor.execute(f"CREATE VIEW {unique_name}_v (x) AS SELECT a + 1 FROM {unique_name}")
        cursor.execute(f"CREATE VIEW {unique_name}_w AS SELECT x * 10 AS y FROM {unique_name}_v")
    with connect() as connection, connection.cursor() as cursor:
        assert rows(cursor, f"SELECT w.y FROM testing.{unique_name}_w w") == [(20,)]
        cursor.execute(f"INSERT INTO testing.{unique_name} SELECT x FROM testing.{unique_name}_v")
        assert rows(cursor, f"SELECT y FROM testing.{unique_name}_w ORDER BY y") == [(20,), (30,)]
        refused(
            cursor, f"DELETE FROM testing.{unique_name}_v", "is a view: write to the tables that it reads"
        )
        refused(cursor, f"DROP TABLE testing.{unique_name}_v", "is a view: use DROP VIEW")
        refused(cursor, f"CREATE TABLE testing.{unique_name}_v AS SELECT 1", "ALREADY_EXISTS")
        refused(
            cursor,
            f"CREATE OR REPLACE VIEW testing.{unique_name}_v AS FROM testing.{unique_name}_v",
            "itself",
        )
        cursor.execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
        refused(cursor, f"CREATE VIEW {unique_name} AS FROM mine", "is temporary")
        cursor.execute(f"ALTER TABLE testing.{unique_name} ADD COLUMN b INTEGER")
        cursor.execute(f"DROP VIEW testing.{unique_name}_v")
        refused(cursor, f"FROM testing.{unique_name}_w", "NOT_FOUND")
        cursor.execute(f"DROP VIEW IF EXISTS testing.{unique_name}_v")


def test_schemas_are_made_and_dropped(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE SCHEMA {unique_name}")
    refused(cursor, f"CREATE SCHEMA lakehouse.{unique_name}", "ALREADY_EXISTS")
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {unique_name}")
    cursor.execute(f"CREATE TABLE {unique_name}.t (i INTEGER)")
    cursor.execute(f"INSERT INTO {unique_name}.t VALUES (1)")
    refused(cursor, f"DROP SCHEMA {unique_name}", "not empty, it holds t")
    cursor.execute(f"DROP SCHEMA {unique_name} CASCADE")
    refused(cursor, f"FROM {unique_name}.t", "NOT_FOUND")
    refused(cursor, f"DROP SCHEMA {unique_name}", "NOT_FOUND")
    cursor.execute(f"DROP SCHEMA IF EXISTS {unique_name}")


def test_temporary_tables_are_altered_and_merged(cursor: dbapi.Cursor):
    cursor.execute("CREATE TEMP TABLE x (a INTEGER)")
    cursor.execute("INSERT INTO x VALUES (1)")
    cursor.execute("BEGIN")
    for action in ("ADD COLUMN b VARCHAR DEFAULT 'b'", "RENAME a TO c", "ALTER c TYPE BIGINT USING c * 2"):
        cursor.execute(f"ALTER TABLE x {action}")
    cursor.execute("ALTER TABLE temp.x RENAME TO y")
    merged = "MERGE INTO y USING (VALUES (2), (3)) s(k) ON y.c = s.k WHEN MATCHED THEN UPDATE SET b = 'm' "
    assert rows(
        cursor, merged + "WHEN NOT MATCHED THEN INSERT (c) VALUES (s.k) RETURNING merge_action, y.c"
    ) == [
        ("UPDATE", 2),
        ("INSERT", 3),
    ]
    assert rows(cursor, "FROM y ORDER BY c") == [(2, "m"), (3, "b")]
    cursor.execute("ROLLBACK")
    assert rows(cursor, "FROM x") == [(1,)]
    refused(cursor, "ALTER TABLE x ADD COLUMN d VARCHAR DEFAULT write_log('x')", "not served")


def test_comments_are_kept_with_the_dataset(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (a INTEGER)")
    cursor.execute(f"COMMENT ON TABLE {unique_name} IS 'it''s all'")
    cursor.execute(f"COMMENT ON COLUMN {unique_name}.a IS 'first'")
    found = f"SELECT comment FROM duckdb_tables() WHERE table_name = '{unique_name}'"
    assert rows(cursor, found) == [("it's all",)]
    cursor.execute(f"COMMENT ON TABLE {unique_name} IS NULL")
    assert rows(cursor, found) == [(None,)]
    assert rows(cursor, f"SELECT comment FROM duckdb_columns() WHERE table_name = '{unique_name}'") == [
        ("first",)
    ]


def test_a_table_is_described_with_all_that_it_declares(cursor: dbapi.Cursor, unique_name: str):
    definition = "(id INTEGER PRIMARY KEY, a VARCHAR UNIQUE, b INTEGER NOT NULL DEFAULT 7, c DOUBLE)"
    texts = [
        f"CREATE TABLE {unique_name} {definition}",
        f"CREATE VIEW {unique_name}_v AS SELECT b, c FROM {unique_name}",
    ]
    asked = [
        f"DESCRIBE {unique_name}",
        f"SHOW {unique_name}",
        f"SELECT * FROM (DESCRIBE {unique_name}_v)",
        f"DESCRIBE SELECT id, c AS b FROM {unique_name}",
        f"PRAGMA table_info('{unique_name}')",
    ]
    with duckdb.connect() as plain:
        for text in texts:
            cursor.execute(text)
            plain.execute(text)
        for text in asked:
            assert rows(cursor, text) == plain.execute(text).fetchall(), text
    cursor.execute(f"INSERT INTO {unique_name} (id) VALUES (1)")
    both = f"SELECT count(*) FROM {unique_name}, (DESCRIBE {unique_name})"
    assert rows(cursor, both) == [(4,)]


def test_a_check_follows_its_columns_and_its_table(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(
        f"CREATE TABLE {unique_name} "
        f"(a INTEGER, b INTEGER, CHECK (a < b AND {unique_name}.a > 0), CHECK (b < 9))"
    )
    cursor.execute(f"INSERT INTO {unique_name} VALUES (1, 2)")
    cursor.execute(f'ALTER TABLE {unique_name} RENAME COLUMN a TO "A b"')
    cursor.execute(f"ALTER TABLE {unique_name} RENAME TO {unique_name}_r")
    found = f"SELECT constraint_text FROM duckdb_constraints() WHERE table_name = '{unique_name}_r'"
    assert rows(cursor, found) == [('CHECK((("A b" < b) AND ("A b" > 0)))',), ("CHECK((b < 9))",)]
    cursor.execute(f"INSERT INTO {unique_name}_r VALUES (3, 4)")
    for values in ("(4, 3)", "(0, 3)", "(8, 9)"):
        refused(cursor, f"INSERT INTO {unique_name}_r VALUES {values}", "CHECK constraint failed")


def test_comments_on_a_view_and_its_columns_are_kept(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE VIEW {unique_name} AS SELECT 1 AS a, 2 AS b")
    cursor.execute(f"COMMENT ON VIEW {unique_name} IS 'seen'")
    cursor.execute(f"COMMENT ON COLUMN {unique_name}.b IS 'second'")
    assert rows(cursor, f"FROM {unique_name}") == [(1, 2)]
    assert rows(cursor, f"SELECT comment FROM duckdb_views() WHERE view_name = '{unique_name}'") == [
        ("seen",)
    ]
    found = f"SELECT comment FROM duckdb_columns() WHERE table_name = '{unique_name}' ORDER BY column_index"
    assert rows(cursor, found) == [(None,), ("second",)]
    cursor.execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
    refused(cursor, "COMMENT ON TABLE mine IS 'x'", "temporary tables take no comments")
