"""System tables: what they show, through every client, and that their size is no matter."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests.conftest import CLIENTS

RunQuery = Callable[[str], pa.Table]
REFERENCE = Path(__file__).parents[2] / "docs/reference/system-tables.md"


@pytest.fixture(scope="module")
def archive() -> Iterator[Server]:
    """A server of its own with two datasets; `testing.people` has three versions, the last a replacement."""
    with serve() as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for mode in ("create", "append", "replace"):
                cursor.adbc_ingest("people", pa.table({"i": [1, 2]}), mode=mode, db_schema_name="testing")
            cursor.adbc_ingest("animals", pa.table({"i": [1, 2, 3]}), mode="create", db_schema_name="primary")
        yield running


@pytest.fixture(params=sorted(CLIENTS))
def ask(request: pytest.FixtureRequest, archive: Server) -> RunQuery:
    run = CLIENTS[request.param]
    return lambda sql: run(archive.uri, sql)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (
            "SELECT name, read_only, is_profile, may_write, 'data' IN aliases AS data FROM sys.buckets",
            [
                ("primary", False, False, True, True),
                ("testing", False, False, True, False),
                ("profile:user", False, True, True, False),
            ],
        ),
        (
            "SELECT bucket, namespace, name, version, commit, rows, objects, bytes > 0, shadowed_by "
            "FROM lakehouse.SYS.Datasets ORDER BY ALL",
            [
                ("primary", "primary", "animals", 1, 4, 3, 1, True, None),
                ("testing", "testing", "people", 3, 3, 2, 1, True, None),
            ],
        ),
        (
            "SELECT dataset, r.bucket, key LIKE '_objects/%', r.rows, added_version, removed_version, "
            "managed FROM sys.object_refs r JOIN sys.datasets d ON d.id = dataset_id ORDER BY ALL",
            [
                ("animals", "primary", True, 3, 1, None, True),
                ("people", "testing", True, 2, 1, 3, True),
                ("people", "testing", True, 2, 2, 3, True),
                ("people", "testing", True, 2, 3, None, True),
            ],
        ),
        (
            'SELECT id, c."at" BETWEEN now() - INTERVAL 1 HOUR AND now(), principal, '
            "summary LIKE '%people%' FROM sys.commits c, (SELECT count(*) FROM sys.commits) WHERE id < 3",
            [(1, True, "local", True), (2, True, "local", True)],
        ),
        ("SELECT (SELECT count(*) FROM sys.commits)", [(4,)]),
        ("SELECT count(*) FROM (DESCRIBE sys.buckets)", [(7,)]),
        ("SELECT sum(p.i * b.n) FROM people p, (SELECT count(*) AS n FROM sys.buckets) b", [(9,)]),
    ],
)
def test_system_tables_are_tables(ask: RunQuery, sql: str, rows: list[tuple[object, ...]]) -> None:
    found = ask(sql)
    assert [tuple(row.values()) for row in found.to_pylist()] == rows
    assert not any("temp" in name for name in found.column_names)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("FROM sys.bucket", r"did you mean sys\.buckets"),
        ("FROM sys.nothing_like_it", "no table 'sys.nothing_like_it'"),
        ('FROM temp."sys.buckets"', "no temporary table 'sys.buckets'"),
        ("SELECT nope FROM sys.buckets", "nope"),
    ],
)
def test_names_that_are_not_there_are_explained(archive: Server, sql: str, message: str) -> None:
    with dbapi.connect(archive.uri, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(dbapi.ProgrammingError, match=message) as raised:
            cursor.execute(sql)
        assert "temp." not in str(raised.value).replace(sql, "")


def test_they_show_the_present_and_take_parameters(archive: Server) -> None:
    sql = "SELECT count(*) FROM sys.datasets WHERE name = ?"
    with dbapi.connect(archive.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for expected in (0, 1):
            cursor.execute(sql, ["later"])
            assert cursor.fetchall() == [(expected,)]
            cursor.adbc_ingest("later", pa.table({"x": [1]}), mode="create_append", db_schema_name="testing")


def test_a_session_finds_itself_and_its_queries(archive: Server) -> None:
    holds = "temporary table itself"
    queries = """
        SELECT state, sql, q.principal, q.bucket, q.rows
        FROM sys.queries q JOIN sys.sessions s ON s.id = session_id AND s.created_at <= last_used_at
        WHERE list_contains(holds, ?) ORDER BY started_at DESC LIMIT 2"""
    with dbapi.connect(archive.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE itself AS SELECT 1 AS x")
        cursor.execute("USE testing")
        cursor.execute("BEGIN")
        cursor.execute("SELECT 7")
        cursor.fetchall()
        cursor.execute(queries, [holds])
        running, finished = cursor.fetchall()
        assert running[0] == "running"
        assert finished == ("finished", "SELECT 7", "local", "primary", 1)
        cursor.execute("SELECT calls, in_transaction, schemas FROM sys.sessions WHERE holds = [?]", [holds])
        assert cursor.fetchall() == [(1, True, ["testing"])]


def test_every_column_is_in_the_reference(ask: RunQuery) -> None:
    text = REFERENCE.read_text()
    for name in ("buckets", "commits", "datasets", "object_refs", "queries", "sessions"):
        section = text.split(f"## sys.{name}\n")[1].split("\n## ")[0]
        found = ask(f"SELECT column_name, column_type FROM (DESCRIBE sys.{name})").to_pylist()
        documented = [line.split(" | ")[:2] for line in section.splitlines() if line.startswith("| `")]
        assert [[f"| `{row['column_name']}`", row["column_type"]] for row in found] == documented
