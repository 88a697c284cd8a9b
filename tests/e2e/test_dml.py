"""INSERT, UPDATE, DELETE and MERGE of datasets: what is written, what is returned, what is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server

Connect = Callable[..., dbapi.Connection]
Rows = list[tuple[Any, ...]]


@pytest.fixture
def cursor(connect: Connect) -> Iterator[dbapi.Cursor]:
    with connect() as connection, connection.cursor() as opened:
        yield opened


def rows(cursor: dbapi.Cursor, sql: str, values: Any = None) -> Rows:
    cursor.execute(sql, values)
    return cursor.fetchall()


def objects(cursor: dbapi.Cursor, name: str) -> set[str]:
    """Return the keys of the objects that a dataset's newest version has."""
    found = rows(
        cursor, f"SELECT key FROM sys.object_refs WHERE dataset = '{name}' AND removed_version IS NULL"
    )
    return {key for (key,) in found}


def test_an_update_of_one_row_in_a_hundred_objects_writes_one(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (id BIGINT, v VARCHAR)")
    cursor.execute("BEGIN")
    for start in range(0, 1_000, 10):
        cursor.adbc_ingest(
            unique_name, pa.table({"id": range(start, start + 10), "v": ["old"] * 10}), mode="append"
        )
    cursor.execute("COMMIT")
    before = objects(cursor, unique_name)
    assert len(before) == 100
    cursor.execute(f"UPDATE {unique_name} SET v = 'new' WHERE id = 555")
    assert cursor.rowcount == 1
    after = objects(cursor, unique_name)
    assert (len(after - before), len(before - after)) == (1, 1)
    cursor.execute(f"UPDATE {unique_name} SET v = 'never' WHERE id = -1")
    cursor.execute(f"ALTER TABLE {unique_name} ADD COLUMN w INTEGER DEFAULT 3")
    assert objects(cursor, unique_name) == after
    assert rows(
        cursor, f"SELECT count(*), sum(id), sum(w), count(*) FILTER (v = 'new') FROM {unique_name}"
    ) == [(1_000, 499_500, 3_000, 1)]


def test_parameters_in_many_rows_are_one_commit(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (id BIGINT PRIMARY KEY, v VARCHAR DEFAULT 'none')")
    cursor.executemany(f"INSERT INTO {unique_name} VALUES (?, ?)", [(i, str(i)) for i in range(2_000)])
    assert cursor.rowcount == 2_000
    upsert = f"INSERT INTO {unique_name} VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = $2 || v"
    cursor.executemany(upsert, [
        (1_999, "a"), (1_999, "b"), (2_000, "c"),
    ])  # fmt: skip
    cursor.executemany(f"UPDATE {unique_name} SET v = ? WHERE id = ?", [(f"v{i}", i) for i in range(50)])
    assert cursor.rowcount == 50
    cursor.executemany(f"DELETE FROM {unique_name} WHERE id = ?", [(i,) for i in range(60, 63)])
    counted = f"SELECT count(*), count(*) FILTER (v LIKE 'v%'), max(v) FILTER (id = 1999) FROM {unique_name}"
    assert rows(cursor, counted) == [(1_998, 50, "ba1999")]
    with pytest.raises(dbapi.ProgrammingError, match=r"INVALID_ARGUMENT.*Duplicate key \"id: 7\""):
        cursor.executemany(f"INSERT INTO {unique_name} VALUES (?, ?)", [(5_000, "x"), (7, "y")])
    cursor.executemany(
        f"INSERT INTO {unique_name} SELECT max(id) + ?, 'last' FROM {unique_name}", [(1,), (1,)]
    )
    assert rows(cursor, f"SELECT id FROM {unique_name} WHERE v = 'last' ORDER BY id") == [(2_001,), (2_002,)]
    assert rows(cursor, f"SELECT count(*) FROM sys.commits WHERE summary LIKE '%{unique_name}%'") == [(6,)]


def test_statements_are_described_without_being_run(cursor: dbapi.Cursor, server: Server, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (id INTEGER, v VARCHAR)")
    for sql in (
        f"INSERT INTO {unique_name} VALUES (?, ?)",
        f"UPDATE {unique_name} SET id = ? WHERE v = ?",
        f"MERGE INTO {unique_name} USING (SELECT ?::INT) s(k) ON id = k AND v = ? WHEN MATCHED THEN DELETE",
    ):
        assert cursor.adbc_prepare(sql).types == [pa.int32(), pa.utf8()]
    assert cursor.adbc_execute_schema(f"DELETE FROM {unique_name} RETURNING v, id + 1 AS next") == pa.schema(
        [("v", pa.utf8()), ("next", pa.int32())]
    )
    merge = f"MERGE INTO {unique_name} USING (VALUES (1, 2)) s(id, v) USING (id) WHEN MATCHED THEN DELETE "
    with pytest.raises(dbapi.Error, match=r"column 1 of RETURNING is HUGEINT.*cast it to DECIMAL"):
        cursor.execute(merge + "RETURNING id::HUGEINT")
    assert rows(cursor, f"SELECT count(*) FROM {unique_name}") == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO {t} VALUES (1, (SELECT content FROM read_text('/etc/hostname')))",
        "INSERT INTO {t} SELECT 1, * FROM read_csv('/etc/passwd')",
        "UPDATE {t} SET v = getenv('HOME')",
        "UPDATE {t} SET v = 'x' WHERE v IN (FROM glob('/*'))",
        "DELETE FROM {t} USING read_text('/etc/hostname') RETURNING *",
        "DELETE FROM {t} RETURNING getenv('HOME')",
        "INSERT INTO {t} VALUES (1, 'x') RETURNING current_setting('temp_directory')",
        "INSERT INTO {t} VALUES (1, 'x') ON CONFLICT DO UPDATE SET v = getenv('HOME')",
        "MERGE INTO {t} USING read_csv('/etc/passwd') s ON true WHEN MATCHED THEN DELETE",
        "MERGE INTO {t} USING (SELECT 1) s ON id = (SELECT count(*) FROM glob('*')) WHEN MATCHED THEN DELETE",
        "MERGE INTO {t} USING (SELECT 1 AS k) s ON id = k WHEN MATCHED THEN UPDATE SET v = getenv('HOME')",
        "MERGE INTO {t} USING (SELECT 1) s(k) ON id = k WHEN NOT MATCHED AND getenv('HOME') > '' THEN INSERT",
        "MERGE INTO {t} USING (SELECT 1) s(k) ON id = k WHEN NOT MATCHED THEN INSERT VALUES (1, getenv('A'))",
        "MERGE INTO {t} USING (SELECT 1) s(k) ON id = k WHEN NOT MATCHED THEN ERROR getenv('HOME')",
        "MERGE INTO {t} USING (SELECT 1 AS k) s ON id = k WHEN MATCHED THEN DELETE RETURNING getenv('HOME')",
        "WITH x AS (FROM glob('/*')) MERGE INTO {t} USING x ON true WHEN MATCHED THEN DELETE",
        "CREATE TABLE {t}_2 (a VARCHAR DEFAULT write_log('x'))",
        "CREATE TABLE {t}_2 (a VARCHAR CHECK (write_log(a) IS NULL))",
        "CREATE TABLE {t}_2 AS FROM read_csv('/etc/passwd')",
        "CREATE VIEW {t}_2 AS FROM read_csv('/etc/passwd')",
        "ALTER TABLE {t} ADD COLUMN a VARCHAR DEFAULT write_log('x')",
        "ALTER TABLE {t} ALTER v SET DEFAULT write_log('x')",
        "ALTER TABLE {t} ALTER v TYPE VARCHAR USING getenv('HOME')",
        "ALTER TABLE {t} ADD CONSTRAINT c CHECK (write_log(v) IS NULL)",
        "INSERT INTO _t.\"~0~x\" VALUES (1)",
        "MERGE INTO _v.x USING (SELECT 1 AS k) s ON true WHEN MATCHED THEN DELETE",
        "CREATE TABLE _t.x (a INTEGER)",
    ],
)  # fmt: skip
def test_no_part_of_a_statement_passes_the_gate_unseen(cursor: dbapi.Cursor, unique_name: str, sql: str):
    cursor.execute(f"CREATE TABLE {unique_name} (id INTEGER, v VARCHAR)")
    with pytest.raises(dbapi.Error, match=r"is not served|takes the name of one|NOT_FOUND"):
        cursor.execute(sql.format(t=unique_name))
    assert rows(cursor, f"FROM {unique_name}") == []


def test_a_failing_statement_leaves_nothing(cursor: dbapi.Cursor, server: Server, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (id INTEGER CHECK (id < 300000))")
    for sql in (
        f"INSERT INTO {unique_name} SELECT range FROM range(400000)",
        f"CREATE TABLE {unique_name}_2 AS SELECT CASE WHEN range < 400000 THEN 1 ELSE error('late') END AS i "
        "FROM range(500000)",
    ):
        with pytest.raises(dbapi.Error, match=r"CHECK|late"):
            cursor.execute(sql)
    assert objects(cursor, unique_name) == set()
    with pyarrow.flight.connect(server.uri) as client:
        (report,) = client.do_action(pyarrow.flight.Action("sweep", b'{"older_than_s": 0, "dry_run": true}'))
        assert b'"orphans": 0' in report.body.to_pybytes() or b'"objects": 0' in report.body.to_pybytes()


def test_several_buckets_in_one_statement(connect: Connect, unique_name: str):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE testing.{unique_name} AS SELECT range AS i FROM range(5)")
        cursor.execute(f'CREATE TABLE "profile:user".{unique_name} AS SELECT 10 AS j')
        cursor.execute(
            f'UPDATE testing.{unique_name} SET i = i + p.j FROM "profile:user".{unique_name} p WHERE i > 2'
        )
        assert cursor.rowcount == 2
        cursor.execute(f"DELETE FROM lakehouse.testing.{unique_name} WHERE testing.{unique_name}.i = 0")
        assert rows(cursor, f"FROM testing.{unique_name} ORDER BY 1") == [(1,), (2,), (13,), (14,)]
