"""SQLAlchemy, with the GizmoSQL dialect, which brings an ADBC driver of 2025; and pandas on top."""

import pytest

from flight_server.testing import Server
from tests.clients.conftest import check, run_python

pytestmark = [pytest.mark.sqlalchemy, pytest.mark.timeout(120)]

JOINED = [["Ada", 4], ["Bob", 2]]

VALUES = {
    "schemas": ["primary", "profile:user", "sys", "testing"],
    "tables": ["a_b", "animals", "every_type"],
    "views": [],
    "has_table": [True, False],
    "columns": {"name": "VARCHAR", "born": "DATE", "pet": "VARCHAR"},
    "primary key": None,
    "foreign keys": [],
    "indexes": [],
    "check constraints": [],
    "reflected": ["name VARCHAR", "born DATE", "pet VARCHAR"],
    "select": [["bird", 2], ["cat", 4], ["dog", 4]],
    "select with a bound value": [["bird"]],
    "select with bound values": [["Ada"], ["Cy"]],
    "text with bound values": [["cat"]],
    "join of two buckets": JOINED,
    "limit and offset": [["cat"]],
    "dates": [["Bob"]],
    "header": ["unicorn"],
    "catalog": ["lakehouse"],
    "commit": [1, 2],
    "rollback": [1, 2],
    "begin": 3,
    "after an error": 3,
    "pandas": [dict(zip(("name", "legs"), row, strict=True)) for row in JOINED],
    "pandas with parameters": [{"legs": 4}],
}
ERRORS = {
    # The dialect knows no type for moments, nor for lists.
    "columns of every type": "^ValueError: Unsupported column type: TIMESTAMP WITH TIME ZONE",
    "missing table": r"^ProgrammingError: .*NOT_FOUND.*nothing",
}


def test_sqlalchemy_reads_everything_there_is(world: Server) -> None:
    check(run_python("sqlalchemy", world), VALUES, ERRORS)


WRITTEN = {
    "create_all": ["owners", "pets"],
    "columns of owners": [
        ["id", "BIGINT", False, None],
        ["name", "VARCHAR", False, None],
        ["born", "DATE", True, None],
        ["city", "VARCHAR", True, "'Berlin'"],
    ],
    "columns of pets": [
        ["name", "VARCHAR", False, None],
        ["owner_id", "BIGINT", False, None],
        ["legs", "INTEGER", True, None],
        ["weight", "NUMERIC", True, None],
    ],
    "primary keys": [
        {"name": "owners_id_pkey", "constrained_columns": ["id"]},
        {"name": "pets_name_owner_id_pkey", "constrained_columns": ["name", "owner_id"]},
    ],
    "unique": [["owners", ["name"]]],
    "foreign keys": [
        {
            "name": "pets_owner_id_fkey",
            "constrained_columns": ["owner_id"],
            "referred_schema": "primary",
            "referred_table": "owners",
            "referred_columns": ["id"],
        }
    ],
    "check constraints": [{"name": "pets_walk", "sqltext": "(legs >= 0)"}],
    "reflect": [["primary.owners", "primary.pets"], ["owners", "pets"]],
    "insert": 1,
    "default": [[None, "Berlin"]],
    "executemany": 4,
    "names": ["A", "B", "C", "D", "E"],
    "insert of a select": 5,
    "update": 5,
    "updated": [[name, n, n, "1.25"] for n, name in enumerate("ABCDE", 1)],
    "delete": 1,
    "comments": [["who feeds"], ["in full"]],
    "view": [["walking"], [["A"], ["B"], ["C"], ["E"]]],
    "temporary table": [1, 2],
    "rollback": [[6, 0], ["A", "B", "C", "D", "E"], [[4]]],
    "mapped classes": [[["Mo", 2], ["Rex", 3]], ["A", "B", "C", "D", "E"]],
    "pandas": [[1, "a"], [1, "a"], [2, None], [2, None]],
    "drop_all": [],
}
NOT_WRITTEN = {
    # The dialect does not know that DuckDB takes them, and reflects no UNIQUE.
    "insert of several values": "^CompileError: .*does not support in-place multirow inserts",
    "unique of the inspector": "^NotImplementedError",
    "key that is there": 'INVALID_ARGUMENT: .*Duplicate key "id: 1" violates primary key constraint',
    "name that is there": 'INVALID_ARGUMENT: .*Duplicate key "name: A" violates unique constraint',
    "NULL": "INVALID_ARGUMENT: .*NOT NULL constraint failed: owners",
    "wrong legs": "INVALID_ARGUMENT: .*CHECK constraint failed on table pets",
}


def test_sqlalchemy_makes_fills_reflects_and_drops_tables(empty: Server) -> None:
    check(run_python("sqlalchemy", empty, "writes"), WRITTEN, NOT_WRITTEN)
