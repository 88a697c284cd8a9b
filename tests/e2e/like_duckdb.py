"""Runs the same statements on the server and in plain DuckDB, and compares what each says and leaves."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from adbc_driver_flightsql import dbapi
from hypothesis import HealthCheck, Phase

Cursor = dbapi.Cursor
Outcome = tuple[str, int, list[Any]]

SETTINGS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),
}
_numbers = itertools.count()
_CONSTRAINT = ("onstraint", "uplicate key")
_READS = ("FROM", "SELECT")


def outcome(execute: Any, sql: str) -> Outcome:
    """Return the class of error, the count, and the rows in an order of their own."""
    try:
        count, found = execute(sql)
    except (duckdb.Error, dbapi.Error) as error:
        is_constraint = any(word in str(error) for word in _CONSTRAINT)
        return ("constraint" if is_constraint else "refused", 0, [])
    return "", count, sorted(found, key=repr)


class Ours:
    """The server; `places` are the names in statements → the schemas that they are in."""

    def __init__(self, cursor: Cursor, places: Mapping[str, str]) -> None:
        number = next(_numbers)
        self.names = {name: f"{schema}{name}_{number}_like" for name, schema in places.items()}
        self._cursor = cursor

    def run(self, sql: str) -> tuple[int, list[Any]]:
        self._cursor.execute(sql.format(**self.names))
        found = self._cursor.fetchall()
        return self._cursor.rowcount if _counts(sql) else len(found), found


class Theirs:
    """Plain DuckDB, where every statement is a transaction of its own."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self.connection = duckdb.connect()
        self._names = {name: name for name in places}

    def run(self, sql: str) -> tuple[int, list[Any]]:
        found = self.connection.execute(sql.format(**self._names)).fetchall()
        return (found[0][0] if found else 0, []) if _counts(sql) else (len(found), found)


def _counts(sql: str) -> bool:
    return sql.split(None, 1)[0] not in _READS and "RETURNING" not in sql


def compare(
    cursor: Cursor,
    places: Mapping[str, str],
    definitions: Sequence[str],
    script: Sequence[str],
    reads: Sequence[str],
    end: str | None,
) -> None:
    """Run a script after definitions, and queries after each statement; `end` ends its transaction."""
    ours, theirs = Ours(cursor, places), Theirs(places)
    for sql in definitions:
        assert outcome(ours.run, sql) == outcome(theirs.run, sql), sql
    before = [outcome(theirs.run, read) for read in reads]
    if end:
        cursor.execute("BEGIN")
    try:
        for at, sql in enumerate(script):
            assert outcome(ours.run, sql) == outcome(theirs.run, sql), script[: at + 1]
            for read in reads:
                assert outcome(ours.run, read) == outcome(theirs.run, read), (script[: at + 1], read)
    finally:
        if end:
            cursor.execute(end)
    expected = before if end == "ROLLBACK" else [outcome(theirs.run, read) for read in reads]
    assert [outcome(ours.run, read) for read in reads] == expected, (script, end)
    theirs.connection.close()
    for name in ours.names.values():
        for kind in ("TABLE", "VIEW"):
            outcome(ours.run, f"DROP {kind} IF EXISTS {name}")
