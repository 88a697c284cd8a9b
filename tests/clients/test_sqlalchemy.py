"""SQLAlchemy, with the GizmoSQL dialect, which brings an ADBC driver of 2025; and pandas on top."""

import pytest

from flight_server.testing import Server
from tests.clients.conftest import check, run_python

pytestmark = pytest.mark.sqlalchemy

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
