"""INSERT, UPDATE, DELETE and MERGE of datasets: what is written, what is returned, what is refused."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
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


def test_an_insert_in_many_rows_reads_what_it_has_inserted(cursor: dbapi.Cursor, unique_name: str):
    cursor.adbc_ingest(unique_name, pa.table({"id": [1, 2]}))
    cursor.executemany(f"INSERT INTO {unique_name} SELECT max(id) + ? FROM {unique_name}", [(10,), (20,)])
    cursor.execute(f"INSERT INTO {unique_name} SELECT count(*) FROM {unique_name}")
    cursor.executemany(f"INSERT INTO {unique_name} VALUES (?)", [(7,), (8,)])
    assert rows(cursor, f"FROM {unique_name} ORDER BY id") == [(1,), (2,), (4,), (7,), (8,), (12,), (32,)]


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


STREAMED = (
    "INSERT INTO s SELECT range, 'y', 1 FROM range(3)",
    "INSERT INTO s (c, a) SELECT 5, 7",
    "INSERT INTO s BY NAME SELECT 1 AS c, '12' AS a",
    "INSERT INTO s AS q (a) (SELECT 3)",
    "INSERT INTO s FROM s",
    "INSERT INTO s (a) SELECT a + 100 FROM s AS z WHERE z.a > 5 ORDER BY a",
    "INSERT INTO s WITH w AS (SELECT 1000 AS a) SELECT a, b, 2 FROM w, (SELECT 'w' AS b)",
    "WITH w AS (SELECT 2000 AS a) INSERT INTO s (a) FROM w",
    "INSERT INTO s SELECT a, a, a FROM s WHERE false",
    "INSERT INTO s (a) SELECT 1 UNION ALL SELECT 2",
    "INSERT INTO s (b) SELECT 'x'",
    "INSERT INTO s SELECT 1, 2",
    "INSERT INTO s SELECT 'abc', 'y', 1",
    "INSERT INTO s BY NAME SELECT 1 AS nope",
)


def test_an_insert_of_a_query_gives_the_rows_of_duckdb(cursor: dbapi.Cursor, unique_name: str):
    with duckdb.connect() as plain:
        for text in ("CREATE TABLE s (a INTEGER NOT NULL, b VARCHAR DEFAULT 'x', c DOUBLE)", *STREAMED):
            own = re.sub(r"\bs\b", unique_name, text)
            try:
                count = plain.execute(text).fetchall()
            except duckdb.Error:
                with pytest.raises(dbapi.Error, match="INVALID_ARGUMENT"):
                    cursor.execute(own)
                continue
            cursor.execute(own)
            assert cursor.rowcount == (count[0][0] if count else 0), text
        expected = plain.execute("FROM s ORDER BY ALL").fetchall()
    assert rows(cursor, f"FROM {unique_name} ORDER BY ALL") == expected


def test_the_alias_of_an_insert_is_known_in_returning(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (a INTEGER, b VARCHAR DEFAULT 'x')")
    returning = f"INSERT INTO {unique_name} AS q (a) VALUES (5) RETURNING q.a, {unique_name}.b, q.*"
    assert rows(cursor, returning) == [(5, "x", 5, "x")]


def test_uuid_and_json_stay_what_they_are(cursor: dbapi.Cursor, unique_name: str):
    key = "6f1c1a52-5b0b-4a6b-9d3c-0f3c8a6c3b11"
    cursor.execute(f"CREATE TABLE {unique_name} (u UUID PRIMARY KEY, j JSON)")
    cursor.execute(f"INSERT INTO {unique_name} VALUES ('{key}', '{{\"a\": [1]}}')")
    upload = pa.table({"u": [key.replace("6", "7").upper(), None], "j": ["1", None]})
    assert cursor.adbc_ingest(unique_name, upload.slice(0, 1), mode="append") == 1
    for bad, message in (
        (pa.table({"u": ["7"], "j": ["1"]}), "column 'u': a text is no UUID"),
        (pa.table({"u": [key.replace("6", "8")], "j": ["{"]}), "column 'j': a text is no JSON"),
        (upload.slice(1), "NOT NULL constraint failed"),
    ):
        with pytest.raises(dbapi.Error, match=message):
            cursor.adbc_ingest(unique_name, bad, mode="append")
    cursor.execute(f"CREATE TABLE {unique_name}_2 AS FROM {unique_name}")
    cursor.execute(f"ALTER TABLE {unique_name}_2 ALTER u TYPE VARCHAR")
    cursor.execute(f"ALTER TABLE {unique_name}_2 ALTER u TYPE UUID")
    assert rows(cursor, f"SELECT typeof(u), typeof(j), u, j->'a' FROM {unique_name}_2 ORDER BY u") == [
        ("UUID", "JSON", key, "[1]"),
        ("UUID", "JSON", key.replace("6", "7"), None),
    ]


def test_nan_is_found_in_objects(cursor: dbapi.Cursor, unique_name: str):
    of = pa.struct([("f", pa.float32())])
    cursor.execute(f"CREATE TABLE {unique_name} (k DOUBLE PRIMARY KEY, s STRUCT(f FLOAT))")
    cursor.execute(f"INSERT INTO {unique_name} VALUES ('nan', {{f: 'nan'}}), (0, {{f: 0}}), (1, {{f: 1}})")
    other = pa.table({"k": [float("-inf")], "s": [{"f": 2.0}]}, pa.schema([("k", pa.float64()), ("s", of)]))
    cursor.adbc_ingest(unique_name, other, mode="append")
    for condition in ("isnan(k)", "k > 5", "k = 'nan'", "s.f > 5", "k = (SELECT max(k) FROM {t})"):
        found = rows(cursor, f"SELECT count(*) FROM {unique_name} WHERE {condition.format(t=unique_name)}")
        assert found == [(1,)], condition
    with pytest.raises(dbapi.Error, match='Duplicate key "k: nan"'):
        cursor.execute(f"INSERT INTO {unique_name} (k) VALUES ('nan')")
    cursor.execute(f"UPDATE {unique_name} SET k = 2 WHERE isnan(k)")
    assert cursor.rowcount == 1


def test_words_of_the_clauses_may_be_names(cursor: dbapi.Cursor, unique_name: str):
    cursor.execute(f"CREATE TABLE {unique_name} (id INTEGER PRIMARY KEY)")
    cursor.execute(f"INSERT INTO {unique_name} VALUES (9)")
    source = f"(SELECT id - 1 AS id FROM {unique_name})"
    insert = (
        f"INSERT INTO {unique_name} SELECT x.id FROM {source} x JOIN {source} conflict ON conflict.id = x.id"
    )
    assert rows(cursor, f"{insert} RETURNING id") == [(8,)]
    assert rows(cursor, f"{insert} ON CONFLICT DO NOTHING RETURNING id") == [(7,)]
    cursor.execute(insert.replace("INSERT", "INSERT OR IGNORE"))
    assert cursor.rowcount == 1


def test_rows_as_values_have_the_columns_of_their_table(
    server: Server, cursor: dbapi.Cursor, unique_name: str
):
    cursor.execute(f'CREATE TABLE {unique_name} (id INTEGER, "~object0" VARCHAR)')
    cursor.execute(f"INSERT INTO {unique_name} VALUES (1, 'a'), (2, 'b')")
    cursor.execute(f"INSERT INTO {unique_name} VALUES (3, 'c')")
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as direct:
        for text in ('error("~object1")', "error(COLUMNS('~.*'))"):  # run without being bound before
            direct.adbc_statement.set_sql_query(f"DELETE FROM {unique_name} WHERE {text}")
            with pytest.raises(dbapi.Error, match=r"not found|STAR expression"):
                direct.adbc_statement.execute_update()
    cursor.execute(f"DELETE FROM {unique_name} AS t WHERE t = {{'id': 2, '~object0': 'b'}}")
    assert cursor.rowcount == 1
    cursor.execute(
        f"MERGE INTO {unique_name} t USING (SELECT 3 AS id) s ON t::VARCHAR LIKE '{{%: ' || s.id || '%c}}' "
        "WHEN MATCHED THEN UPDATE SET \"~object0\" = 'found'"
    )
    assert rows(cursor, f"FROM {unique_name} ORDER BY id") == [(1, "a"), (3, "found")]


def test_spaces_of_other_scripts_are_spaces_but_in_quotes(cursor: dbapi.Cursor, unique_name: str):
    for sql in (
        "CREATE\u00a0TABLE\u00a0t\u3000AS SELECT\u00a01 AS a",
        "INSERT\u00a0INTO\u2003t VALUES\u00a0(2)",
        "ALTER\u00a0TABLE\u00a0t\u00a0ADD\u00a0COLUMN\u00a0b\u00a0TEXT",
        "UPDATE\u00a0t\u00a0SET\u00a0b\u00a0= 'x\u00a0y' -- \u00a0",
    ):
        cursor.execute(re.sub(r"\bt\b", unique_name, sql))
    found = rows(cursor, f"\ufeffSELECT\u00a0sum(a),\u3000min(b)\u00a0FROM\u00a0{unique_name}\u00a0")
    assert found == [(3, "x\u00a0y")]
