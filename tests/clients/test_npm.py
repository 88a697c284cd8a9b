"""The npm client `@gizmodata/gizmosql-client`."""

import pytest

from flight_server.testing import Server
from tests import needs
from tests.clients.conftest import HERE, Lines, check, installed, lines, run

pytestmark = pytest.mark.npm

VALUES = {
    "query": [{"species": name, "legs": legs} for name, legs in (("bird", 2), ("cat", 4), ("dog", 4))],
    "join of two buckets": [{"name": "Ada", "legs": 4}, {"name": "Bob", "legs": 2}],
    "many rows": 200_000,
    "no rows": [],
    "values": [{"i": 1, "d": 2.5, "s": "hé", "b": True, "n": None, "l": 7, "x": [0, 255]}],
    "nested": [{"l": [1, 2], "s": {"a": "x"}}],
    "temporary table": [{"i": 1}],
    "written table": [[{"i": 3}], [{"i": 1, "s": "a"}, {"i": 2, "s": "changed"}]],
    "catalogs": ["lakehouse", "temp"],
    "schemas": [
        {"catalog": "lakehouse", "schema": name} for name in ("primary", "profile:user", "sys", "testing")
    ],
    "tables": [{"catalog": "lakehouse", "schema": "testing", "tableName": "people", "tableType": "TABLE"}],
    "user": [{"one": 1}],
    "afterwards": [{"one": 1}],
}
ERRORS = {
    "schema": r"expected a google\.protobuf\.Any",
    "primary keys": r"expected a google\.protobuf\.Any",
    "foreign keys": r"expected a google\.protobuf\.Any",
    "wrong token": "the bearer token is not of this server",
    "missing table": "nothing",
    "wrong syntax": "syntax error at or near",
}
LOOKED_INTO = {"table types", "some facts", "all facts", "actions"}
"""Lines of which a test below looks at a part."""


@pytest.fixture(scope="module")
def found(world: Server) -> Lines:
    node = needs.program("node", "install Node.js, 20 or newer")
    folder = installed("npm")
    # Modules are looked for from the folder that a script on standard input runs in.
    command = [node, "--input-type=module", "-", world.uri]
    return lines(run(command, folder, (HERE / "npm/client.mjs").read_text()))


def test_the_npm_client_reads_and_writes_everything_there_is(found: Lines) -> None:
    check({name: line for name, line in found.items() if name not in LOOKED_INTO}, VALUES, ERRORS)


def test_the_npm_client_finds_out_what_is_served(found: Lines) -> None:
    assert "TABLE" in found["table types"].value
    assert found["some facts"].value.items() >= {"0": "flight-server", "3": False, "504": '"'}.items()
    assert found["some facts"].value["1"].startswith("duckdb v")
    assert found["all facts"].value == 91
    assert found["actions"].value >= 14
