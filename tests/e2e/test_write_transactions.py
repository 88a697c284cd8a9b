"""What statements change, in transactions and between clients that change the same things."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server
from tests import flight_sql

Connect = Callable[..., dbapi.Connection]


def rows(cursor: dbapi.Cursor, sql: str) -> list[tuple[object, ...]]:
    cursor.execute(sql)
    return cursor.fetchall()


@contextmanager
def transaction(server: Server) -> Iterator[dbapi.Cursor]:
    """A cursor in a transaction of the protocol, which ends with the block: rolled back unless committed."""
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.commit = connection.commit
        cursor.rollback = connection.rollback
        yield cursor


def objects(server: Server) -> set[Path]:
    return set(server.data_dir.rglob("*.parquet"))


@pytest.fixture
def outside(connect: Connect) -> Iterator[dbapi.Cursor]:
    """The cursor of another client."""
    with connect().cursor() as cursor:
        yield cursor


@pytest.fixture
def table(outside: dbapi.Cursor, unique_name: str) -> str:
    """A dataset of ten objects with one row each: (id, n) = (0, 0) … (9, 0)."""
    for number in range(10):
        outside.adbc_ingest(unique_name, pa.table({"id": [number], "n": [0]}), mode="create_append")
    return unique_name


def test_a_transaction_sees_its_own_writes_and_others_see_them_at_its_commit(
    server: Server, outside: dbapi.Cursor, table: str
) -> None:
    total = f"SELECT count(*), sum(n) FROM {table}"
    with transaction(server) as own:
        own.execute(f"INSERT INTO {table} VALUES (10, 1)")
        own.execute(f"UPDATE {table} SET n = (SELECT count(*) FROM {table}) WHERE id >= 9")
        own.execute(f"DELETE FROM {table} WHERE id = 0 RETURNING id")
        assert own.fetchall() == [(0,)]
        assert rows(own, total) == [(10, 22)]
        assert rows(outside, total) == [(10, 0)]
        outside.execute(f"INSERT INTO {table} VALUES (11, 100)")
        assert rows(own, total) == [(10, 22)]
        own.commit()
        assert rows(own, total) == rows(outside, total) == [(11, 122)]


def test_rollback_leaves_no_object_and_a_commit_none_that_it_took_away_again(
    server: Server, outside: dbapi.Cursor, table: str
) -> None:
    before = objects(server)
    with transaction(server) as own:
        own.execute(f"INSERT INTO {table} VALUES (10, 1)")
        own.execute(f"UPDATE {table} SET n = 2")
        own.rollback()
        assert objects(server) == before
        for number in range(3):
            own.execute(f"UPDATE {table} SET n = {number} WHERE id = 5")
        own.commit()
    assert len(objects(server) - before) == 1
    assert rows(outside, f"SELECT n FROM {table} WHERE id = 5") == [(2,)]


def test_an_update_of_one_row_writes_one_object(server: Server, outside: dbapi.Cursor, table: str) -> None:
    before = objects(server)
    outside.execute(f"UPDATE {table} SET n = 1 WHERE id = 3")
    assert outside.rowcount == 1
    assert len(objects(server) - before) == 1
    last = f"SELECT max(added_version) AS v FROM sys.object_refs WHERE dataset = '{table}'"
    changed = "count(*) FILTER (added_version = v), count(*) FILTER (removed_version = v)"
    assert rows(outside, f"SELECT {changed} FROM sys.object_refs, ({last}) WHERE dataset = '{table}'") == [
        (1, 1)
    ]


def test_one_of_two_that_change_the_same_rows_is_aborted(
    server: Server, outside: dbapi.Cursor, table: str
) -> None:
    before = objects(server)
    with transaction(server) as one, transaction(server) as two:
        one.execute(f"UPDATE {table} SET n = 1 WHERE id = 4")
        two.execute(f"DELETE FROM {table} WHERE id = 4")
        two.execute(f"UPDATE {table} SET n = 2 WHERE id = 6")
        one.commit()
        with pytest.raises(
            dbapi.Error, match=f"dataset {table} moved: rows .* were changed by another commit"
        ):
            two.commit()
    assert rows(outside, f"SELECT id, n FROM {table} WHERE id IN (4, 6) ORDER BY id") == [(4, 1), (6, 0)]
    assert len(objects(server) - before) == 1
    assert rows(outside, f"SELECT count(*) FROM {table}") == [(10,)]


def test_two_that_change_other_rows_both_land(server: Server, outside: dbapi.Cursor, table: str) -> None:
    with transaction(server) as one, transaction(server) as two:
        one.execute(f"UPDATE {table} SET n = 1 WHERE id = 1")
        two.execute(f"UPDATE {table} SET n = 2 WHERE id = 2")
        outside.execute(f"INSERT INTO {table} VALUES (10, 3)")
        one.commit()
        two.commit()
    assert rows(outside, f"SELECT id, n FROM {table} WHERE n > 0 ORDER BY id") == [(1, 1), (2, 2), (10, 3)]


def test_statements_of_their_own_are_run_again_when_others_came_first(
    server: Server, outside: dbapi.Cursor, table: str
) -> None:
    def count_up(_: int) -> None:
        with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for _ in range(5):
                cursor.execute(f"UPDATE {table} SET n = n + 1 WHERE id = 7")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count_up, range(3)))
    assert rows(outside, f"SELECT n FROM {table} WHERE id = 7") == [(15,)]


def test_one_commit_spans_buckets_and_statements_of_every_kind(
    server: Server, outside: dbapi.Cursor, table: str
) -> None:
    with transaction(server) as own:
        own.execute(f"CREATE TABLE testing.{table}_b AS SELECT id, n + 1 AS n FROM {table} WHERE id < 3")
        own.execute(f"CREATE VIEW {table}_v AS SELECT sum(n) AS total FROM testing.{table}_b")
        own.execute(f"ALTER TABLE testing.{table}_b RENAME TO {table}_c")
        own.execute(f"CREATE TABLE testing.{table}_b(x INTEGER)")
        own.execute(f"INSERT INTO testing.{table}_c VALUES (3, 5)")
        with pytest.raises(dbapi.Error, match='"n" not found'):
            rows(own, f"FROM {table}_v")  # it is another table now, without n
        own.execute(f"DROP TABLE testing.{table}_b")
        own.execute(f"ALTER TABLE testing.{table}_c RENAME TO {table}_b")
        assert rows(own, f"FROM {table}_v") == [(8,)]
        with pytest.raises(dbapi.Error, match="NOT_FOUND"):
            rows(outside, f"FROM testing.{table}_b")
        own.commit()
    assert rows(outside, f"FROM {table}_v") == [(8,)]
    summary = rows(outside, "SELECT summary FROM sys.commits ORDER BY id DESC LIMIT 1")
    assert summary == [("transaction in several buckets",)]


def test_columns_change_without_an_object_and_versions_before_stay(
    server: Server, outside: dbapi.Cursor, table: str
) -> None:
    before = objects(server)
    for text in (
        "ADD COLUMN extra VARCHAR",
        "RENAME COLUMN n TO m",
        "DROP COLUMN id",
        "ADD COLUMN id INTEGER",
    ):
        outside.execute(f"ALTER TABLE {table} {text}")
    assert objects(server) == before
    assert rows(outside, f"SELECT * FROM {table} LIMIT 1") == [(0, None, None)]
    assert [column[0] for column in outside.description] == ["m", "extra", "id"]
    assert rows(outside, f"SELECT sum(id), sum(n) FROM {table} AT (VERSION => 10)") == [(45, 0)]
    outside.execute(f"UPDATE {table} SET id = 1 WHERE m = 0")
    assert rows(outside, f"SELECT sum(id) FROM {table}") == [(10,)]


def test_a_name_may_end_and_begin_again(server: Server, outside: dbapi.Cursor, table: str) -> None:
    with transaction(server) as own:
        assert rows(own, f"SELECT count(*) FROM {table}") == [(10,)]
        outside.execute(f"DROP TABLE {table}")
        outside.execute(f"CREATE TABLE {table}(word VARCHAR)")
        assert rows(own, f"SELECT count(*) FROM {table}") == [(10,)]
        own.execute(f"UPDATE {table} SET n = 1 WHERE id = 1")
        with pytest.raises(dbapi.Error, match="dropped or renamed meanwhile"):
            own.commit()
    assert rows(outside, f"SELECT count(*) FROM {table}") == [(0,)]


def test_schemas_are_made_in_the_current_bucket(server: Server, connect: Connect, unique_name: str) -> None:
    schema = f"s_{unique_name}"
    with connect(bucket="testing").cursor() as own:
        own.execute(f"CREATE SCHEMA {schema}")
        own.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        own.execute(f"CREATE TABLE {schema}.t AS SELECT 1::BIGINT AS x")
        own.adbc_ingest("t", pa.table({"x": [2]}), mode="append", db_schema_name=schema)
    with connect().cursor() as other:
        other.execute(f"USE {schema}")
        assert rows(other, "SELECT sum(x) FROM t") == [(3,)]
        found = f"SELECT bucket FROM sys.datasets WHERE namespace = '{schema}'"
        assert rows(other, found) == [("testing",)]
        assert schema in {
            name for (name,) in rows(other, "SELECT schema_name FROM information_schema.schemata")
        }
        with pytest.raises(dbapi.Error, match=f"schema {schema} is not empty"):
            other.execute(f"DROP SCHEMA {schema}")
        other.execute(f"DROP SCHEMA {schema} CASCADE")
        with pytest.raises(dbapi.Error, match=f"no schema '{schema}'"):
            rows(other, f"FROM {schema}.t")
        with pytest.raises(dbapi.Error, match="that of a bucket"):
            other.execute("DROP SCHEMA testing CASCADE")


def test_what_tables_declare_is_told_alike_by_sql_and_by_the_metadata(
    connect: Connect, unique_name: str
) -> None:
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {unique_name}(a INTEGER PRIMARY KEY, b INTEGER NOT NULL DEFAULT 3)")
        cursor.execute(f"COMMENT ON COLUMN {unique_name}.b IS 'some number'")
        cursor.execute(f"COMMENT ON TABLE {unique_name} IS 'a table'")
        columns = f"FROM duckdb_columns() WHERE table_name = '{unique_name}' ORDER BY column_index"
        assert rows(cursor, f"SELECT column_name, is_nullable, comment {columns}") == [
            ("a", False, None),
            ("b", False, "some number"),
        ]
        of_table = f"FROM duckdb_tables() WHERE table_name = '{unique_name}'"
        assert rows(cursor, f"SELECT comment, has_primary_key {of_table}") == [("a table", True)]
        declared = f"information_schema.table_constraints WHERE table_name = '{unique_name}'"
        assert ("PRIMARY KEY",) in rows(cursor, f"SELECT constraint_type FROM {declared}")
        schema = connection.adbc_get_table_schema(unique_name)
        assert [field.nullable for field in schema] == [False, False]
        assert (schema.field("b").metadata or {})[b"ARROW:FLIGHT:SQL:REMARKS"] == b"some number"


def test_ingest_keeps_what_tables_declare(server: Server, connect: Connect, unique_name: str) -> None:
    def upload(cursor: dbapi.Cursor, *keys: int, word: str | None = "x") -> int:
        data = {"a": pa.array(keys, pa.int32()), "b": pa.array([word] * len(keys), pa.utf8())}
        return cursor.adbc_ingest(unique_name, pa.table(data), mode="append")

    with connect().cursor() as own:
        own.execute(f"CREATE TABLE {unique_name}(a INTEGER PRIMARY KEY, b VARCHAR NOT NULL, CHECK (a > 0))")
        before = objects(server)
        assert upload(own, 1, 2) == 2
        for keys, word, text in (
            ((2,), "x", "violates primary key"),
            ((3, 3), "x", "duplicate key"),
            ((3,), None, "NOT NULL constraint"),
            ((-1,), "x", "CHECK constraint"),
        ):
            with pytest.raises(dbapi.Error, match=text):
                upload(own, *keys, word=word)
        # What waited for its rows to be compared is removed after the answer.
        deadline = time.monotonic() + 10
        while len(objects(server) - before) != 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(objects(server) - before) == 1
        with transaction(server) as other:
            assert upload(other, 3) == 1
            assert upload(own, 3) == 1
            with pytest.raises(dbapi.Error, match="the append started from version"):
                other.commit()
        assert rows(own, f"SELECT list(a ORDER BY a) FROM {unique_name}") == [([1, 2, 3],)]


def test_keys_are_told_to_drivers(server: Server, connect: Connect, unique_name: str) -> None:
    child = f"{unique_name}_of"
    with connect(bucket="testing").cursor() as own:
        own.execute(f"CREATE TABLE {unique_name}(a INTEGER, b INTEGER, PRIMARY KEY (b, a))")
        own.execute(f"CREATE TABLE {child}(c INTEGER, FOREIGN KEY (c, c) REFERENCES {unique_name}(b, a))")
    with pyarrow.flight.connect(server.uri) as client:

        def fetch(command: str, **fields: str) -> pa.Table:
            info = client.get_flight_info(flight_sql.command(command, **fields))
            return client.do_get(info.endpoints[0].ticket).read_all()

        primary = fetch("GetPrimaryKeys", table=unique_name, db_schema="testing").to_pylist()
        assert [(row["column_name"], row["key_sequence"]) for row in primary] == [("b", 1), ("a", 2)]
        foreign = [
            fetch("GetExportedKeys", table=unique_name),
            fetch("GetImportedKeys", table=child),
            fetch("GetCrossReference", pk_table=unique_name, fk_table=child),
        ]
        assert foreign[0].equals(foreign[1])
        assert foreign[0].equals(foreign[2])
        assert foreign[0]["pk_column_name"].to_pylist() == ["b", "a"]
        assert fetch("GetImportedKeys", table=unique_name).num_rows == 0


def test_ingest_takes_temporary_tables(server: Server, connect: Connect, unique_name: str) -> None:
    before = objects(server)
    data = pa.table({"x": [1, 2]})
    with connect().cursor() as own, connect().cursor() as other:
        for mode, expected in (("create", 2), ("append", 4), ("create_append", 6), ("replace", 2)):
            assert own.adbc_ingest(unique_name, data, mode=mode, temporary=True) == 2
            assert rows(own, f"SELECT count(*) FROM {unique_name}") == [(expected,)]
        with pytest.raises(dbapi.Error, match="ALREADY_EXISTS"):
            own.adbc_ingest(unique_name, data, mode="create", temporary=True)
        with pytest.raises(dbapi.Error, match="NOT_FOUND"):
            rows(other, f"FROM {unique_name}")
    deadline = time.monotonic() + 10
    while objects(server) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert objects(server) == before


@pytest.mark.parametrize("is_upload", [False, True])
def test_rows_are_not_appended_past_a_promise_that_came_first(
    server: Server, outside: dbapi.Cursor, unique_name: str, is_upload: bool
) -> None:
    data = pa.table({"id": pa.array([1, None, 9], pa.int32())})
    promises = ("ADD PRIMARY KEY (id)", "ADD UNIQUE (id)", "ALTER id SET NOT NULL", "ADD CHECK (id < 5)")
    for number, promise in enumerate((*promises, "RENAME TO {}_moved")):
        name = f"{unique_name}_{number}"
        outside.execute(f"CREATE TABLE {name}(id INTEGER)")
        outside.execute(f"INSERT INTO {name} VALUES (1)")
        with transaction(server) as own:
            if is_upload:
                own.adbc_ingest(name, data, mode="append")
            else:
                own.execute(f"INSERT INTO {name} VALUES (1), (NULL), (9)")
            outside.execute(f"ALTER TABLE {name} {promise.format(name)}")
            with pytest.raises(
                dbapi.Error, match=r"promises more than|renamed meanwhile.*\(Aborted"
            ) as raised:
                own.commit()
            assert "Aborted" in str(raised.value)
        if promise in promises:
            assert rows(outside, f"FROM {name}") == [(1,)]
