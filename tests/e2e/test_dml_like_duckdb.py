"""Random statements that write: the same rows, counts, returned rows and errors as plain DuckDB's."""

import itertools
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from adbc_driver_flightsql import dbapi
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flight_server.testing import Server

Cursor = dbapi.Cursor
Outcome = tuple[str, int, list[Any]]

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
_numbers = itertools.count()


def outcome(execute: Any, sql: str) -> Outcome:
    """Return the class of error, the count, and the rows in an order of their own."""
    try:
        count, found = execute(sql)
    except (duckdb.Error, dbapi.Error) as error:
        text = str(error)
        kind = "constraint" if "onstraint" in text or "uplicate key" in text else "refused"
        return (kind, 0, [])
    return "", count, sorted(found, key=repr)


class Ours:
    """The tables on the server: `t` in three objects."""

    def __init__(self, cursor: Cursor, keyed: bool) -> None:
        self.names = {name: f"{name}_{next(_numbers)}_like" for name in ("t", "u")}
        self._cursor = cursor
        for sql in definitions(keyed):
            self.run(sql)

    def run(self, sql: str) -> tuple[int, list[Any]]:
        self._cursor.execute(sql.format(**self.names))
        found = self._cursor.fetchall()
        return self._cursor.rowcount, found


class Theirs:
    """The same tables in plain DuckDB."""

    def __init__(self, keyed: bool) -> None:
        self._connection = duckdb.connect()
        for sql in definitions(keyed):
            self.run(sql)

    def run(self, sql: str) -> tuple[int, list[Any]]:
        found = self._connection.execute(sql.format(t="t", u="u")).fetchall()
        writes = sql.split(None, 1)[0] not in ("FROM", "SELECT") and "RETURNING" not in sql
        return (found[0][0] if found else 0, []) if writes else (len(found), found)


def definitions(keyed: bool) -> Iterator[str]:
    yield f"CREATE TABLE {{t}} (id INTEGER{' PRIMARY KEY' if keyed else ''}, g INTEGER DEFAULT 5, s VARCHAR)"
    yield "CREATE TABLE {u} AS SELECT x::INTEGER AS k, (x * 3 % 5)::INTEGER AS v FROM range(2, 9) r(x)"
    yield "INSERT INTO {t} VALUES (0, 0, 'zero'), (1, 1, NULL), (2, 2, 'two')"
    yield "INSERT INTO {t} SELECT x, x % 3, 'many' FROM range(3, 6) r(x)"
    yield "INSERT INTO {t} (id) VALUES (6)"


def compare(cursor: Cursor, keyed: bool, transaction: bool, script: list[str]) -> None:
    ours, theirs = Ours(cursor, keyed), Theirs(keyed)
    if transaction:
        cursor.execute("BEGIN")
    try:
        for sql in script:
            expected = outcome(theirs.run, sql)
            assert outcome(ours.run, sql) == expected, sql
            assert outcome(ours.run, "FROM {t}")[2] == outcome(theirs.run, "FROM {t}")[2], sql
    finally:
        if transaction:
            cursor.execute("COMMIT")
    assert outcome(ours.run, "FROM {t}")[2] == outcome(theirs.run, "FROM {t}")[2]
    for name in ours.names.values():
        cursor.execute(f"DROP TABLE {name}")


@pytest.fixture(scope="module")
def cursor(server: Server) -> Iterator[Cursor]:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as opened:
        yield opened


_OPTIONS = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),
}
scripts = st.lists(statements, min_size=1, max_size=3)


@settings(max_examples=4, **_OPTIONS)
@given(keyed=st.booleans(), transaction=st.booleans(), script=scripts)
def test_random_writes_are_those_of_duckdb(cursor: Cursor, keyed: bool, transaction: bool, script: list[str]):
    compare(cursor, keyed, transaction, script)


@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(max_examples=300, **_OPTIONS)
@given(keyed=st.booleans(), transaction=st.booleans(), script=scripts)
def test_many_random_writes_are_those_of_duckdb(
    cursor: Cursor, keyed: bool, transaction: bool, script: list[str]
):
    compare(cursor, keyed, transaction, script)
