"""Random statements that write rows: the same rows, counts, returned rows and errors as plain DuckDB's."""

from collections.abc import Iterator

import pytest
from adbc_driver_flightsql import dbapi
from hypothesis import given, settings
from hypothesis import strategies as st

from flight_server.testing import Server
from tests.e2e.like_duckdb import SETTINGS, Cursor, compare

small = st.integers(0, 7)
predicates = st.one_of(
    st.builds("id = {}".format, small),
    st.builds("id BETWEEN {} AND {}".format, small, small),
    st.builds("g > (SELECT avg(g) FROM {{t}} WHERE id < {})".format, small),
    st.builds("id IN (SELECT k FROM {{u}} WHERE v >= {})".format, small),
    st.builds("EXISTS (SELECT 1 FROM {{t}} o WHERE o.g = {{t}}.g AND o.id > {{t}}.id + {})".format, small),
    st.builds("s IS NULL OR g % {} = 0".format, st.integers(1, 4)),
    st.just("id IN (SELECT id FROM {t} ORDER BY id DESC LIMIT 2)"),
    st.just("row_number() OVER () > 0 IS NULL"),
    st.builds("CAST({{t}} AS VARCHAR) LIKE '%{}%'".format, small),
    st.just("true"),
)
assignments = st.one_of(
    st.builds("g = g + {}".format, small),
    st.builds("s = s || '{}', g = DEFAULT".format, small),
    st.just("g = (SELECT count(*) FROM {t}), s = NULL"),
    st.just("id = id + 100"),
    st.builds("id = {}".format, small),
)
returning = st.sampled_from(["", " RETURNING *", " RETURNING {t}.id + g AS x, upper(s)"])
rows = st.lists(st.tuples(small, small, small), min_size=1, max_size=3)
values = st.builds(lambda found: ", ".join(f"({i}, {g}, 's{s}')" for i, g, s in found), rows)
clauses = st.lists(
    st.one_of(
        st.builds("WHEN MATCHED AND {{t}}.g > {} THEN UPDATE SET g = {{t}}.g * 10 + o.v".format, small),
        st.just("WHEN MATCHED THEN DELETE"),
        st.just("WHEN MATCHED THEN DO NOTHING"),
        st.just(
            "WHEN NOT MATCHED THEN INSERT (id, s) VALUES (o.k, CASE WHEN o.v > 2 THEN 'new' ELSE NULL END)"
        ),
        st.builds("WHEN NOT MATCHED BY SOURCE AND g < {} THEN UPDATE SET s = 'gone'".format, small),
        st.builds("WHEN NOT MATCHED BY SOURCE AND id = {} THEN DELETE".format, small),
    ),
    min_size=1,
    max_size=3,
)
statements = st.one_of(
    st.builds("UPDATE {{t}} SET {} WHERE {}{}".format, assignments, predicates, returning),
    st.builds(
        "UPDATE {{t}} SET g = o.v FROM {{u}} o WHERE o.k = {{t}}.id AND o.v > {}{}".format, small, returning
    ),
    st.builds("DELETE FROM {{t}} WHERE {}{}".format, predicates, returning),
    st.builds("DELETE FROM {{t}} USING {{u}} o WHERE o.k = {{t}}.id AND o.v = {}{}".format, small, returning),
    st.sampled_from(["TRUNCATE {t}", "DELETE FROM {t}"]),
    st.builds("INSERT INTO {{t}} VALUES {}{}".format, values, returning),
    st.builds("INSERT INTO {{t}} (g, id) SELECT max(g), max(id) + {} FROM {{t}}{}".format, small, returning),
    st.builds(
        "INSERT INTO {{t}} BY NAME SELECT k AS id, 'by name' AS s FROM {{u}} WHERE k = {}".format, small
    ),
    st.builds("INSERT INTO {{t}} VALUES {} ON CONFLICT DO NOTHING{}".format, values, returning),
    st.builds(
        "INSERT INTO {{t}} VALUES {} ON CONFLICT (id) DO UPDATE SET s = excluded.s || {{t}}.s{}".format,
        values,
        returning,
    ),
    st.builds("INSERT OR REPLACE INTO {{t}} (id, g) VALUES ({}, {})".format, small, small),
    st.builds(
        lambda parts, end: f"MERGE INTO {{t}} USING {{u}} o ON {{t}}.id = o.k {' '.join(parts)}{end}",
        clauses,
        st.sampled_from(["", " RETURNING merge_action, {t}.id"]),
    ),
)
PLACES = {"t": "", "u": "testing."}
"""The table that is written, and one in another bucket."""

COLUMNS = (
    "id INTEGER, g INTEGER DEFAULT 5, s VARCHAR",
    "id INTEGER PRIMARY KEY, g INTEGER DEFAULT 5, s VARCHAR",
    "id INTEGER UNIQUE, g INTEGER NOT NULL DEFAULT 5 CHECK (g < 20), s VARCHAR CHECK (s <> 'gone')",
    "id INTEGER NOT NULL, g INTEGER DEFAULT 5, s VARCHAR, PRIMARY KEY (id, g)",
)


def definitions(columns: str) -> list[str]:
    """Return what makes the tables: `t` in three objects."""
    return [
        f"CREATE TABLE {{t}} ({columns})",
        "CREATE TABLE {u} AS SELECT x::INTEGER AS k, (x * 3 % 5)::INTEGER AS v FROM range(2, 9) r(x)",
        "INSERT INTO {t} VALUES (0, 0, 'zero'), (1, 1, NULL), (2, 2, 'two')",
        "INSERT INTO {t} SELECT x, x % 3, 'many' FROM range(3, 6) r(x)",
        "INSERT INTO {t} (id) VALUES (6)",
    ]


@pytest.fixture(scope="module")
def cursor(server: Server) -> Iterator[Cursor]:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as opened:
        yield opened


cases = {
    "columns": st.sampled_from(COLUMNS),
    "end": st.sampled_from([None, "COMMIT", "ROLLBACK"]),
    "script": st.lists(statements, min_size=1, max_size=3),
}


@settings(max_examples=4, **SETTINGS)
@given(**cases)
def test_random_writes_are_those_of_duckdb(cursor: Cursor, columns: str, end: str | None, script: list[str]):
    compare(cursor, PLACES, definitions(columns), script, ["FROM {t}"], end)


@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(max_examples=300, **SETTINGS)
@given(**cases)
def test_many_random_writes_are_those_of_duckdb(
    cursor: Cursor, columns: str, end: str | None, script: list[str]
):
    compare(cursor, PLACES, definitions(columns), script, ["FROM {t}"], end)
