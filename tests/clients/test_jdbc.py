"""JDBC: the newest driver, and one of 2024 that knows less of Flight SQL and of replies to a bind."""

from pathlib import Path
from typing import Any

import pyarrow.flight
import pytest

from flight_server.testing import Server
from tests import needs
from tests.clients.conftest import HERE, Line, check, installed, lines, run
from tests.clients.jdbc_values import (
    BINDS,
    COLUMNS,
    GETTERS,
    LISTS,
    METADATA,
    NOT_IN_THE_DRIVERS,
    NULLS,
    TABLES,
)

pytestmark = [pytest.mark.jdbc, pytest.mark.timeout(120)]

NEWEST, OLDER = "18.3.0", "15.0.2"

Parts = dict[str, dict[str, Line]]
"""What a driver showed: part and name to line."""


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the client, which uses nothing but JDBC's own interfaces."""
    folder = tmp_path_factory.mktemp("jdbc")
    compiler = needs.program("javac", "install a JDK, 17 or newer")
    run([compiler, "-Xlint:all", "-Werror", "-d", folder, *sorted((HERE / "jdbc").glob("*.java"))])
    return folder


@pytest.fixture(scope="module", params=[NEWEST, OLDER])
def driver(request: pytest.FixtureRequest) -> str:
    """Return the version of a driver; every test runs with each."""
    return str(request.param)


@pytest.fixture(scope="module")
def jdbc(driver: str, classes: Path, world: Server) -> Parts:
    folder = installed("jdbc")
    jar = folder / f"flight-sql-jdbc-driver-{driver}.jar"
    with pyarrow.flight.connect(world.uri) as client:
        _, token = client.authenticate_basic_token("ada", "x")
    # The drivers read memory past Java's fences, and show moments in the time zone of their machine.
    options = ["--add-opens=java.base/java.nio=ALL-UNNAMED", "-Duser.timezone=UTC", "-cp", f"{jar}:{classes}"]
    address, bearer = f"{world.host}:{world.port}", token.decode().removeprefix("Bearer ")
    shown = run(["java", *options, "Client", address, bearer], seconds=110)
    parts: Parts = {}
    for key, line in lines(shown).items():
        part, _, name = key.partition(": ")
        parts.setdefault(part, {})[name] = line
    return parts


def values(found: dict[str, Line], names: Any) -> dict[str, Any]:
    return {name: found[name].value if found[name].error is None else found[name] for name in names}


def known(driver: str, code: int) -> int:
    """Return a JDBC type as a driver knows it: the older one has no time zones."""
    return 93 if driver == OLDER and code == 2014 else code


LEAK = "SQLException: Failed to clean up client resources."
"""What the older driver says when it closes and has lost track of memory of its own."""


def test_every_part_runs_to_its_end(driver: str, jdbc: Parts) -> None:
    ends = {part: found["all of it"] for part, found in jdbc.items()}
    if driver == OLDER and LEAK in (ends["cancel"].error or ""):
        ends["cancel"] = Line("done")  # rows were on their way when it cancelled
    if driver == OLDER and LEAK in (ends["searches"].error or ""):
        ends["searches"] = Line("done")  # it has bound parameters
    assert ends == dict.fromkeys(jdbc, Line("done"))
    assert len(jdbc) == 9


PEOPLE = [{"name": "Ada"}, {"name": "Bob"}, {"name": "Cy"}]
CONNECTIONS = {
    "anonymous": PEOPLE,
    "bucket": [{"species": "unicorn"}],
    "user": PEOPLE,
    "token": PEOPLE,
    "catalog property": PEOPLE,
    "getCatalog": None,
    "getSchema": None,
    "setCatalog": "lakehouse",
    "setSchema": "testing",
    "isValid": True,
    "isReadOnly": True,
    "getAutoCommit": True,
    "getTransactionIsolation": 0,
    "getWarnings": None,
    "USE": [{"species": "unicorn"}],
    "temp table": [{"s": 3}],
    "setAutoCommit": False,
    "commit": [{"one": 1}],
    "rollback": [{"two": 2}],
    "back to autocommit": [{"three": 3}],
    "as SQL": [{"four": 4}],
    "all of it": "done",
}
CONNECTION_ERRORS = {
    "unknown bucket": "no bucket 'nowhere'; the buckets here are: primary, testing, profile:user",
    "nativeSQL": "^SQLFeatureNotSupportedException",
    "temp table of another connection": "kept",
}


def test_connections(jdbc: Parts, driver: str) -> None:
    older = {"close with a catalog property": None, "unknown catalog property": PEOPLE}
    newest = {
        # The newer driver closes its channel before it tells the server so a second time.
        "close with a catalog property": "Channel shutdown invoked",
        "unknown catalog property": "INVALID_ARGUMENT: Cannot set session option for catalog",
    }
    # The older one knows no catalog property: it is a header that nobody reads.
    given, refused = (older, {}) if driver == OLDER else ({}, newest)
    check(jdbc["connections"], CONNECTIONS | given, CONNECTION_ERRORS | refused)


def test_every_method_of_the_metadata_answers_truly(jdbc: Parts, driver: str, world: Server) -> None:
    found = jdbc["metadata"]
    version = [int(part) for part in driver.split(".")]
    expected = METADATA | {
        "getURL": f"jdbc:arrow-flight-sql://{world.host}:{world.port}",
        "getDriverVersion": driver,
        # The drivers give their own version for the database's.
        **dict.fromkeys(["getDatabaseMajorVersion", "getDriverMajorVersion"], version[0]),
        **dict.fromkeys(["getDatabaseMinorVersion", "getDriverMinorVersion"], version[1]),
    }
    assert values(found, expected) == expected
    for name in NOT_IN_THE_DRIVERS:
        assert found[name] == Line(error="RuntimeException: todo: implement this method")
    looked_into = {"getTables", "getColumns", "getTableTypes", "getDatabaseProductVersion", "all of it"}
    looked_into |= {*LISTS, *TABLES, "columns of all types", "one column"}
    assert found.keys() == {*expected, *NOT_IN_THE_DRIVERS, *looked_into}


def test_the_metadata_lists_what_there_is(jdbc: Parts, driver: str) -> None:
    found = jdbc["metadata"]
    assert found["getDatabaseProductVersion"].value.startswith("duckdb v")
    assert {"TABLE_TYPE": "TABLE"} in found["getTableTypes"].value
    for name, some in LISTS.items():
        assert some <= set(found[name].value.split(", ")), name
    for name, tables in TABLES.items():
        assert [(row["TABLE_SCHEM"], row["TABLE_NAME"]) for row in found[name].value] == tables, name
    assert ("testing", "people") in [
        (row["TABLE_SCHEM"], row["TABLE_NAME"]) for row in found["getTables"].value
    ]
    assert [row["COLUMN_NAME"] for row in found["getColumns"].value] == ["species", "legs"]
    assert [row["TABLE_NAME"] for row in found["one column"].value] == ["every_type", "people"]
    keys = ("COLUMN_NAME", "TYPE_NAME", "DATA_TYPE", "COLUMN_SIZE", "DECIMAL_DIGITS")
    columns = [tuple(row[key] for key in keys) for row in found["columns of all types"].value]
    assert columns == [(name, sql, known(driver, code), *size) for name, sql, code, *size in COLUMNS]


STATEMENTS = {
    "execute of a query": "true -1",
    "execute of an update": False,
    "executeUpdate": 3,
    "getUpdateCount": 1,
    "after updates": [{"n": 4}],
    "setMaxRows": [{"range": 0}, {"range": 1}],
    "many rows": 200_000,
    "two results at once": [99_999, 99_999],
    "unread results": "done",
    "columns": {"legs": ["INTEGER", 10, 0], "more": ["DECIMAL", 12, 1]},
    "SHOW TABLES": [{"name": name} for name in ("a_b", "animals", "every_type")],
}


def test_statements(jdbc: Parts) -> None:
    found = jdbc["statements"]
    assert values(found, STATEMENTS) == STATEMENTS
    assert found["SELECT nothing FROM animals"].error is not None
    assert 'Candidate bindings: "species"' in found["SELECT nothing FROM animals"].error
    assert "nothing" in (found["SELECT * FROM nothing"].error or "")
    assert "syntax error" in (found["SELEC 1"].error or "")
    queries = [name for name in found if name.isupper() or name[:5].isupper()]
    assert sum(found[name].error is not None for name in queries) == 3
    joined = next(line.value for name, line in found.items() if "JOIN" in name)
    assert joined == [{"name": "Ada", "legs": 4}, {"name": "Bob", "legs": 2}]
    assert found["PIVOT animals ON species USING sum(legs)"].value == [{"bird": "2", "cat": "4", "dog": "4"}]


@pytest.mark.parametrize("name", BINDS)
def test_a_parameter_of_every_type_is_bound(jdbc: Parts, driver: str, name: str) -> None:
    code, value = BINDS[name]
    found = values(jdbc["binds"], [name, f"{name} null", f"{name} parameter"])
    if driver == OLDER and name == "INTERVAL":
        assert "IntervalMonthDayNano" in found.pop("INTERVAL null").error
    null = {} if driver == OLDER and name == "INTERVAL" else {f"{name} null": None}
    assert found == {name: value, **null, f"{name} parameter": [known(driver, code)]}


def test_parameters_are_bound_again_and_together(jdbc: Parts, driver: str) -> None:
    expected = {
        "untyped string": "text",
        "setObject int": "5",
        "setObject string": "x",
        "several times": [
            [{"species": "bird"}],
            [{"species": "cat"}, {"species": "dog"}],
            [{"species": "bird"}],
        ],
        "several parameters": [{"legs": 4}],
        "their types": [4, 12],
        "columns before it runs": "2 INTEGER",
    }
    assert values(jdbc["binds"], expected) == expected
    assert jdbc["binds"]["not bound"].error is not None
    # The older driver never reads the reply to a bind, and when it closes it misses the memory.
    assert jdbc["binds"]["close"].error == (LEAK if driver == OLDER else None)


def test_a_batch_is_one_atomic_unit(jdbc: Parts) -> None:
    expected = {
        "table": False,
        "executeBatch": 1000,
        "rows": [{"n": 1000, "s": 499_500, "texts": 500}],
        "executeUpdate": 10,
        "rows after it": [{"n": 10}],
        "rows after the failure": [{"n": 1000}],
        "all of it": "done",
    }
    check(jdbc["batches"], expected, {"a batch that fails": "on purpose"})


BEGUN = [[0, 11, 1], 5, [{"n": 16}], [{"n": 11}]]
WRITES = {
    "executeUpdate": [0, 3, 2, 1, 0],
    "written": [{"i": 1, "s": "a", "price": "3.00"}, {"i": 2, "s": "b", "price": None}],
    "view": [0],
    "read through a view": [{"s": "a"}],
    "executeBatch": 10,
    "after the batch": [{"n": 12}],
    "after that batch": [{"n": 12}],
    "RETURNING": [{"i": 19}],
    "getPrimaryKeys": ["i"],
    # commit() and rollback() of both drivers send nothing, so the row is there to be deleted.
    "rollback of the driver": [1],
    "before ROLLBACK": BEGUN,
    "ROLLBACK": [0],
    "after ROLLBACK": [],
    "before COMMIT": BEGUN,
    "COMMIT": [0],
    "after COMMIT": [{"i": 12}],
    "drop": [0, 0, 0],
    "all of it": "done",
}
NOT_WRITTEN = {
    "a batch with a key that is there": r'Duplicate key "i: \d+" violates primary key constraint',
    "table that was dropped": "no table 'written'",
}


def test_tables_are_made_filled_and_dropped(jdbc: Parts) -> None:
    check(jdbc["writes"], WRITES, NOT_WRITTEN)


NEAR = [{"species": "cat", "legs": 4}, {"species": "dog", "legs": 4}]
SEARCHES = {
    "table": 3,
    "parameters": [2003, -5, 12],
    "parameter as text": [12],
    **dict.fromkeys(["'[1, 0.1, 0]'", "[1, 0.1, 0]", "text", "list"], NEAR),
    **dict.fromkeys([f"array of {name}" for name in ("FLOAT", "REAL", "DOUBLE")], NEAR),
    "filter": NEAR[1:],
    "drop": 0,
    "all of it": "done",
}


def test_vectors_are_searched_and_joined(jdbc: Parts) -> None:
    dimension = "the vector to search for has 2 dimensions, column 'vector' has 3"
    check(jdbc["searches"], SEARCHES, {"wrong dimension": dimension, "all of it": LEAK})


def test_a_cancel_or_time_limit_ends_a_query_at_once(jdbc: Parts) -> None:
    found = jdbc["cancel"]
    for name in ("cancel before the first row", "cancel between rows", "cancel of a prepared statement"):
        how, milliseconds = found[name].value
        assert how != "by itself"
        assert milliseconds < 2000
    how, milliseconds = found["query timeout"].value
    assert "Query timed out after 1 SECONDS" in how
    assert milliseconds < 2000
    assert found["on the server"].value == [{"state": "cancelled"}]
    assert found["afterwards"].value == [{"one": 1}]


@pytest.mark.parametrize("name", GETTERS)
def test_a_value_of_every_type_arrives(jdbc: Parts, driver: str, name: str) -> None:
    code, getters = GETTERS[name]
    if driver == OLDER and name == "INTERVAL":
        assert "IntervalMonthDayNano" in (jdbc["getters"]["INTERVAL getObject"].error or "")
        return
    assert jdbc["getters"][f"{name} column"].value[1] == known(driver, code)
    for getter, value in getters.items():
        assert jdbc["getters"][f"{name} {getter}"] == Line([value, NULLS.get(getter), True]), getter


def test_precision_and_scale_of_decimals_arrive(jdbc: Parts) -> None:
    found = {name: jdbc["getters"][f"{name} column"].value[2:] for name in ("DECIMAL(4,1)", "DECIMAL(18,3)")}
    assert found == {"DECIMAL(4,1)": [4, 1], "DECIMAL(18,3)": [18, 3]}
