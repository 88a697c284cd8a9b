"""ibis, with the GizmoSQL backend."""

import pytest

from flight_server.testing import Server
from tests.clients.conftest import check, run_python

pytestmark = [pytest.mark.ibis, pytest.mark.timeout(120)]

CAT = {"species": "cat", "legs": 4}
DOG = {"species": "dog", "legs": 4}
PRIMARY = ["a_b", "animals", "every_type"]

VALUES = {
    "version": "v2.0.0",
    "current_catalog": "lakehouse",
    "current_database": "primary",
    "list_catalogs": ["lakehouse"],
    "list_databases": ["primary", "profile:user", "sys", "testing"],
    "list_databases of the catalog": ["primary", "profile:user", "sys", "testing"],
    "list_tables": PRIMARY,
    "list_tables of a bucket": ["animals", "people"],
    "list_tables like": ["people"],
    "schema": {
        "flag": "boolean",
        "tiny": "int8",
        "small": "int16",
        "number": "int32",
        "big": "int64",
        "ratio": "float64",
        "price": "decimal(9, 2)",
        "word": "string",
        "data": "binary",
        "born": "date",
        "at": "timestamp(6)",
        "zoned": "timestamp('UTC', 6)",
        "tags": "array<string>",
        "pair": "struct<x: int32, y: string>",
    },
    "timezone": "UTC",
    "filter": [CAT, DOG],
    "aggregate": [[2, 1], [4, 2]],
    "count": 3,
    "scalar": 4,
    "column": ["bird", "cat", "dog"],
    "join of two buckets": [{"name": "Ada", "legs": 4}, {"name": "Bob", "legs": 2}],
    "join of three buckets": [{"name": "Ada", "legs": 4, "Note": "purrs"}],
    "dates": ["Bob"],
    "all types": [
        {
            "flag": True,
            "tiny": -7,
            "small": -700,
            "number": -70_000,
            "big": 2**62,
            "ratio": 1.5,
            "price": "12.50",
            "word": "é",
            "data": "b'\\x00\\xff'",
            "born": "2024-02-29",
            "at": "2024-02-29 13:14:15.678901",
            "zoned": "2024-02-29 13:14:15.678901+00:00",
            "tags": ["a", "b"],
            "pair": {"x": 1, "y": "z"},
        }
    ],
    "sql": [{"species": name, "twice": legs * 2} for name, legs in (("bird", 2), ("cat", 4), ("dog", 4))],
    "sql then expression": ["Cy"],
    "batches": 200_000,
    "window": [{"species": "dog"}],
    "memtable": [{"called": "Tom", "legs": 4}],
    "temporary table": [CAT, DOG],
    "raw_sql": [[42]],
}
ERRORS = {
    "missing table": "^TableNotFound: nothing",
    "wrong expression": "INVALID_ARGUMENT.*nothing.*\n.*species",
}


def test_ibis_reads_everything_there_is(world: Server) -> None:
    check(run_python("ibis", world), VALUES, ERRORS)


BIRD = {"species": "bird", "legs": 2}
FISH = {"species": "fish", "legs": 0}

WRITTEN = {
    "create_table of a schema": {
        "n": "!int64",
        "at": "timestamp(6)",
        "price": "decimal(9, 2)",
        "tags": "array<string>",
    },
    "create_table of an expression": [[BIRD, CAT, DOG], [{"legs": 2, "n": 1}, {"legs": 4, "n": 2}]],
    "create_table of Arrow": [BIRD, CAT, DOG],
    "overwrite": [[FISH], ["legs", "pets", "typed"]],
    "insert": [{"species": "ant", "legs": 6}, BIRD, CAT, DOG, FISH, {"species": "spider", "legs": 8}],
    "insert with overwrite": [BIRD, CAT, DOG],
    "temporary table": [[{"one": 1}], False],
    "create_view": [[{"species": "cat"}, {"species": "dog"}], [{"legs": n} for n in (2, 4, 4)], False],
    "raw_sql": [[["bird"]], [CAT, {"species": "dog", "legs": 3}]],
    "rollback": [4, 2],
    "truncate_table": [],
    "create_database": [[{"name": "Rex"}], True, False],
    "drop_table": [[], []],
}
NOT_WRITTEN = {
    "create_table again": "^ProgrammingError: ALREADY_EXISTS: .*table pets already exists",
    "drop_table again": "^ProgrammingError: NOT_FOUND: .*no table 'pets'",
}


def test_ibis_makes_fills_and_drops_tables(empty: Server) -> None:
    check(run_python("ibis", empty, "writes"), WRITTEN, NOT_WRITTEN)
