"""The Go client of arrow-go."""

from typing import Any

import pytest

from flight_server.testing import Server
from tests import needs
from tests.clients.conftest import HERE, Line, Lines, check, installed, lines, run

pytestmark = pytest.mark.go

ANIMALS = [{"species": name, "legs": legs} for name, legs in (("bird", 2), ("cat", 4), ("dog", 4))]
PEOPLE = {
    "catalog_name": "lakehouse",
    "db_schema_name": "testing",
    "table_name": "people",
    "table_type": "TABLE",
}

VALUES: dict[str, Any] = {
    "query": ANIMALS,
    "join of two buckets": [{"name": "Ada", "legs": 4}, {"name": "Bob", "legs": 2}],
    "bucket": [{"species": "unicorn"}],
    "login": [{"one": 1}],
    "many rows": 200_000,
    "schema": ["species utf8", "legs int32"],
    "update": [[0, 2], [{"i": 1}, {"i": 2}]],
    "prepare": [["species utf8"], ["1 int32", "2 utf8"], False, True],
    "execute prepared": [{"species": "cat"}],
    "execute it again": [{"species": "bird"}, {"species": "dog"}],
    "schema of prepared": ["species utf8"],
    "close prepared": None,
    "prepared update": [3, [{"s": "ccc", "n": 3}]],
    "catalogs": [{"catalog_name": "lakehouse"}, {"catalog_name": "temp"}],
    "schemas": [{"catalog_name": "lakehouse", "db_schema_name": "testing"}],
    "tables": [PEOPLE],
    "primary keys": [],
    "exported keys": [],
    "imported keys": [],
    "cross reference": [],
    "sql info": [{"info_name": 0, "value": [0, "flight-server"]}, {"info_name": 8, "value": [3, 1]}],
    "commit": [{"n": 3}],
    "rollback": [{"n": 3}],
    "create and change": [0, 3, 2, 1, 0, 0],
    "written": [{"i": 1, "s": "a", "n": 7}, {"i": 2, "s": "B", "n": 7}],
    "read through a view": [{"i": 1, "n": 7}],
    "drop a column": [0, 0],
    "rolled back": [[[{"n": 5}], 1], [{"written": 2, "loaded": 0}]],
    "committed": [[[{"n": 5}], 1], [{"written": 5, "loaded": 1}]],
    "ingest": 2,
    "drop": [0, 0],
    "set options": {"nonsense": "INVALID_NAME"},
    "query of the session's schema": [{"species": "unicorn"}],
    "cancel": "CANCEL_STATUS_CANCELLED",
    "cancel by action": ["Canceled", True],
    "deprecated cancel": 1,
    "cancel by deprecated action": ["Canceled", True],
    "cancel by context": ["Canceled", True],
    "deadline": ["DeadlineExceeded", True],
    "afterwards": [{"one": 1}],
    "poll": [{"n": 300_000_000}],
    "cancel a poll": ["CANCEL_STATUS_CANCELLED", "Canceled"],
    "poll of metadata": [{"catalog_name": "lakehouse"}, {"catalog_name": "temp"}],
    "renew": [{"seven": 7}],
    "close": "CLOSED",
}
ERRORS = {
    "SELECT * FROM nothing": "code = NotFound .*nothing",
    "SELEC 1": "code = InvalidArgument .*syntax error",
    "substrait": "code = Unimplemented .*[Ss]ubstrait",
    "key that is there": 'code = InvalidArgument .*Duplicate key "i: 1" violates primary key constraint',
    "conflict": "code = Aborted .*dataset written moved",
    "savepoint": "code = Unimplemented .*[Ss]avepoint",
}
LOOKED_INTO = {"tables with schemas", "table types", "type info", "get options", "actions"}
"""Lines of which a test below looks at a part."""

ACTIONS = {
    "BeginTransaction", "CancelFlightInfo", "CancelQuery", "ClosePreparedStatement", "CloseSession",
    "CreatePreparedStatement", "EndTransaction", "GetSessionOptions", "RenewFlightEndpoint",
    "SetSessionOptions", "activate_profile", "cancel_query", "compact", "create_profile",
    "create_vector_index", "deactivate_profile", "drop_profile", "drop_vector_index", "embed_column",
    "list_profiles", "migrate", "promote_trial", "put_eval_set", "register", "run_trial", "sweep",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(world: Server) -> Lines:
    go = needs.program("go", "install Go, 1.25 or newer")
    program = installed("go") / "client"
    run([go, "build", "-mod=readonly", "-o", program, "."], HERE / "go")
    return lines(run([program, world.uri]))


def test_the_go_client_reads_and_writes_everything_there_is(found: Lines) -> None:
    check({name: line for name, line in found.items() if name not in LOOKED_INTO}, VALUES, ERRORS)


def test_the_go_client_finds_out_what_is_served(found: Lines) -> None:
    assert {"table_type": "TABLE"} in found["table types"].value
    assert [row["table_name"] for row in found["tables with schemas"].value] == ["animals", "people"]
    assert {"VARCHAR", "BIGINT", "TIMESTAMP"} <= {row["type_name"] for row in found["type info"].value}
    assert found["get options"].value.items() >= {"catalog": "lakehouse", "schema": "testing"}.items()
    assert set(found["actions"].value) == ACTIONS
    assert found["actions"] == Line(sorted(ACTIONS))
