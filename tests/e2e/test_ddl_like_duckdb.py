"""Random definitions among statements that write rows: what is there afterwards is what plain DuckDB has."""

from collections.abc import Iterator

import pytest
from adbc_driver_flightsql import dbapi
from hypothesis import given, settings
from hypothesis import strategies as st

from flight_server.testing import Server
from tests.e2e.like_duckdb import SETTINGS, Cursor, compare

columns = st.sampled_from(["id", "g", "s", "x", "Y"])
numbers = st.integers(0, 9)
defaults = st.sampled_from(["", " DEFAULT 7", " DEFAULT 2 + 3", " DEFAULT NULL"])
actions = st.one_of(
    st.builds("ADD COLUMN {} INTEGER{}".format, columns, defaults),
    st.builds("ADD COLUMN IF NOT EXISTS {} VARCHAR DEFAULT 'new'".format, columns),
    st.builds("ADD COLUMN {} INTEGER DEFAULT {} NOT NULL".format, columns, numbers),
    st.builds("DROP COLUMN {}".format, columns),
    st.builds("DROP COLUMN IF EXISTS {}".format, columns),
    st.builds("RENAME COLUMN {} TO {}".format, columns, columns),
    st.builds(
        "ALTER {} TYPE {}".format, columns, st.sampled_from(["BIGINT", "VARCHAR", "DOUBLE", "TINYINT"])
    ),
    st.builds("ALTER {0} TYPE VARCHAR USING {0} || '!'".format, columns),
    st.builds("ALTER {} SET DEFAULT {}".format, columns, numbers),
    st.builds("ALTER {} DROP DEFAULT".format, columns),
    st.builds("ALTER {} SET NOT NULL".format, columns),
    st.builds("ALTER {} DROP NOT NULL".format, columns),
)
made = st.sampled_from(["{w}", "{v}"])
heads = st.sampled_from(["CREATE TABLE", "CREATE TABLE IF NOT EXISTS", "CREATE OR REPLACE TABLE"])
queries = st.sampled_from(
    [
        "SELECT id, g FROM {t}",
        "SELECT count(*) AS id, 'w' AS s FROM {t}",
        "FROM {w}",
        "SELECT * FROM {t} WHERE id > 100",
        "SELECT id + 1 AS id, x FROM {w}",
    ]
)
statements = st.one_of(
    st.builds("ALTER TABLE {{t}} {}".format, actions),
    st.builds("ALTER TABLE {{t}} {}".format, actions),
    st.builds("ALTER TABLE {{w}} {}".format, actions),
    st.builds("ALTER TABLE IF EXISTS {{w}} DROP COLUMN {}".format, columns),
    st.builds("{} {{w}} AS {}".format, heads, queries),
    st.builds("CREATE TABLE {{w}} (id INTEGER CHECK (id < {}), s VARCHAR DEFAULT 'd')".format, numbers),
    st.builds("CREATE OR REPLACE TABLE {{t}} AS SELECT id, {} AS g FROM {{t}}".format, columns),
    st.builds("CREATE OR REPLACE VIEW {{v}} AS SELECT count({}) AS id FROM {{w}}".format, columns),
    st.builds("CREATE VIEW {{v}} (id) AS SELECT {}::VARCHAR FROM {{t}}".format, columns),
    st.builds(
        "DROP {} {}".format, st.sampled_from(["TABLE", "VIEW", "TABLE IF EXISTS", "VIEW IF EXISTS"]), made
    ),
    st.builds("COMMENT ON COLUMN {{t}}.{} IS 'told'".format, columns),
    st.builds("INSERT INTO {{t}} ({}) VALUES ({}) RETURNING *".format, columns, numbers),
    st.builds("INSERT INTO {{w}} BY NAME SELECT {} FROM {{t}}".format, columns),
    st.builds("UPDATE {{t}} SET {} = {} WHERE id < {}".format, columns, columns, numbers),
    st.builds("DELETE FROM {{t}} WHERE {} = {} RETURNING id".format, columns, numbers),
    st.just("MERGE INTO {w} USING {t} ON {w}.id = {t}.id WHEN NOT MATCHED THEN INSERT BY NAME"),
)
PLACES = {"t": "", "w": '"profile:user".', "v": "testing."}
DEFINITIONS = (
    "CREATE TABLE {t} (id INTEGER, g INTEGER DEFAULT 5, s VARCHAR)",
    "INSERT INTO {t} VALUES (0, 0, 'zero'), (1, 1, NULL)",
    "INSERT INTO {t} (id) VALUES (2)",
)
READS = ("FROM {t}", "FROM {w}", "FROM {v}", "SELECT x FROM {t}")


@pytest.fixture(scope="module")
def cursor(server: Server) -> Iterator[Cursor]:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as opened:
        yield opened


cases = {
    "end": st.sampled_from([None, "COMMIT", "ROLLBACK"]),
    "script": st.lists(statements, min_size=1, max_size=6),
}


@settings(max_examples=3, **SETTINGS)
@given(**cases)
def test_random_definitions_are_those_of_duckdb(cursor: Cursor, end: str | None, script: list[str]):
    compare(cursor, PLACES, DEFINITIONS, script, READS, end)


@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(max_examples=200, **SETTINGS)
@given(**cases)
def test_many_random_definitions_are_those_of_duckdb(cursor: Cursor, end: str | None, script: list[str]):
    compare(cursor, PLACES, DEFINITIONS, script, READS, end)
