"""The parse that gates and names, and what is put in the place of names: checked by running both."""

from collections.abc import Iterator
from contextlib import suppress

import duckdb
import pytest

from flight_server.engine.binding import bind
from flight_server.engine.instance import Instance, InstanceOptions, hidden_path
from flight_server.engine.parse import parse
from flight_server.engine.splice import Place, splice
from flight_server.errors import InvalidArgumentError, UnimplementedError

RELATIONS = {"people": "p@1", "animals": "a@2", "é": "e@1"}


@pytest.fixture(scope="module")
def cursor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder = tmp_path_factory.mktemp("temp")
    instance = Instance(InstanceOptions(1 << 28, 1 << 28, 1, folder, (folder,)))
    opened = instance.cursor()
    for name, relation in RELATIONS.items():
        opened.execute(
            f"CREATE TABLE _v.\"{relation}\" AS SELECT i AS id, '{name}' AS name FROM range(3) r(i)"
        )
    yield opened
    instance.close()


def spliced(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    parsed = parse(cursor, sql)
    places = {name: Place(hidden_path(RELATIONS[name.path[-1].lower()])) for name in parsed.names}
    return splice(cursor, parsed, places)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("FROM people", 'FROM "_v"."p@1" AS "people"'),
        ("FROM people p", 'FROM "_v"."p@1" p'),
        ("FROM people AS p(x, y)", 'FROM "_v"."p@1" AS p(x, y)'),
        ("FROM People tablesample 100%", 'FROM "_v"."p@1" AS "People" tablesample 100%'),
        ("FROM /* people */ people -- people", 'FROM /* people */ "_v"."p@1" AS "people" -- people'),
        ("SELECT 'people' FROM testing . people", 'SELECT \'people\' FROM "_v"."p@1" AS "people"'),
        ("SELECT s.people.id FROM s.people", 'SELECT "people"."id" FROM "_v"."p@1" AS "people"'),
        (
            "SELECT a.people.id FROM a.people, b.people",
            'SELECT "a.people"."id" FROM "_v"."p@1" AS "a.people", "_v"."p@1" AS "b.people"',
        ),
        ("SELECT 'ü' FROM é, people", 'SELECT \'ü\' FROM "_v"."e@1" AS "é", "_v"."p@1" AS "people"'),
        ("DESCRIBE people", 'DESCRIBE (SELECT * FROM _v."p@1" AS people)'),
    ],
)
def test_names_are_replaced_where_they_stand(
    cursor: duckdb.DuckDBPyConnection, sql: str, expected: str
) -> None:
    assert spliced(cursor, sql) == expected
    assert bind(cursor, expected).schema.names


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("WITH people AS (FROM people) FROM people, animals", [("animals",), ("people",)]),
        ("WITH a AS (SELECT 1), b AS (FROM a) FROM b", []),
        ("WITH b AS (FROM a), a AS (SELECT 1) FROM b, a", [("a",)]),
        ("WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) FROM r", []),
        ("SELECT * FROM (WITH people AS (SELECT 1) FROM people), people", [("people",)]),
        (
            "SELECT EXISTS (FROM people WHERE id IN (SELECT id FROM s.animals))",
            [("people",), ("s", "animals")],
        ),
        ("FROM people SEMI JOIN animals USING (id) UNION ALL FROM é", [("people",), ("animals",), ("é",)]),
        ("SELECT people.name.upper() FROM people", [("people",)]),
        ("SELECT pg_class.oid FROM pg_catalog.pg_class, people, duckdb_tables", [("people",)]),
        ("FROM people PIVOT (count(*) FOR name IN ('a', 'b'))", [("people",)]),
    ],
)
def test_names_are_found_wherever_a_table_may_stand(
    cursor: duckdb.DuckDBPyConnection, sql: str, names: list[tuple[str, ...]]
) -> None:
    assert sorted(name.path for name in parse(cursor, sql).names) == sorted(names)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/passwd')",
        "FROM glob('*')",
        "FROM duckdb_secrets()",
        "SELECT * FROM people, LATERAL (FROM read_csv(people.name))",
        "WITH x AS (FROM parquet_metadata('f')) FROM x",
        "SELECT getenv('HOME')",
        "SELECT system.main.getenv('HOME')",
        "SELECT (SELECT current_setting('threads'))",
        "SELECT list_transform([1], lambda x: current_setting('threads'))",
        "SELECT 1; FROM people",
        "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
        "",
    ],
)
def test_what_reaches_beyond_the_datasets_is_refused(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse(cursor, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'x'", "CALL pragma_version()", "CHECKPOINT", "COPY people TO 'x'", "CREATE VIEW v AS FROM x",
        "DELETE FROM people", "DETACH x", "EXPLAIN SELECT 1", "EXPORT DATABASE 'x'", "INSTALL httpfs",
        "LOAD httpfs", "PRAGMA version", "PREPARE q AS SELECT 1", "SET threads = 1", "USE system", "VACUUM",
        "WITH x AS (INSERT INTO people VALUES (1, '') RETURNING *) FROM x",
        "WITH x AS (COPY people TO '/tmp/x') FROM x", "WITH x AS (DELETE FROM people RETURNING *) FROM x",
        "FROM (WITH x AS (UPDATE people SET id = 1 RETURNING *) FROM x)",
    ],
)  # fmt: skip
def test_only_queries_come_through_the_gate(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises((UnimplementedError, InvalidArgumentError)):
        parse(cursor, sql)


def test_a_deep_expression_is_parsed_or_refused(cursor: duckdb.DuckDBPyConnection) -> None:
    assert parse(cursor, "SELECT " + "1 + " * 100 + "1").names == ()
    with suppress(InvalidArgumentError):  # how deep depends on the version of Python
        parse(cursor, "SELECT " + "1 + " * 900 + "1")
    with pytest.raises(InvalidArgumentError):
        parse(cursor, "SELECT " + "1 + " * 5_000 + "1")


def test_the_private_binding_calls_still_say_what_they_said(cursor: duckdb.DuckDBPyConnection) -> None:
    binding = bind(cursor, "SELECT ?::int AS i, ? AS s, [1.5] AS l")
    assert str(binding.schema.field("i").type) == "int32"
    assert str(binding.schema.field("s").type) == "string"
    assert [str(kind) for kind in binding.parameters.types] == ["int32", "string"]
    with pytest.raises(duckdb.BinderException):
        bind(cursor, "SELECT nope FROM range(1)")


def test_the_instance_is_locked(cursor: duckdb.DuckDBPyConnection) -> None:
    for statement in ("SET enable_external_access = true", "SET threads = 8", "ATTACH '/tmp/x.db' AS x"):
        with pytest.raises(duckdb.Error):
            cursor.execute(statement)
    with pytest.raises(duckdb.Error):
        cursor.execute("FROM read_text('/etc/hostname')")
