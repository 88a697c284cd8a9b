"""What drivers read about the server and about the types of SQL, held against DuckDB itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.conftest import RunQuery

INTERNAL = {"NULL", "TUPLE", "TYPE"}
"""Types of DuckDB that no column can have."""

SAMPLES = {
    "BIGNUM": "1",
    "VARCHAR": "x",
    "JSON": "{}",
    "ENUM": "x",
    "UUID": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "BIT": "101",
    "BLOB": "ab",
    "GEOMETRY": "POINT(1 1)",
    "DATE": "2026-11-22",
    **dict.fromkeys(["TIME", "TIME_NS", "TIME WITH TIME ZONE"], "10:00:00"),
    "INTERVAL": "1 day",
    "LIST": "1",
    "STRUCT": "'a': 1",
    "MAP": "1: 2",
}
"""What may stand between prefix and suffix; moments where nothing is written."""


def ask(client: pyarrow.flight.FlightClient, name: str, **fields: Any) -> list[dict[str, Any]]:
    info = client.get_flight_info(flight_sql.command(name, **fields))
    rows: list[dict[str, Any]] = client.do_get(info.endpoints[0].ticket).read_all().to_pylist()
    return rows


@pytest.fixture(scope="module")
def types(server: Server) -> dict[str, dict[str, Any]]:
    with pyarrow.flight.connect(server.uri) as client:
        return {row["type_name"]: row for row in ask(client, "GetXdbcTypeInfo")}


@pytest.fixture(scope="module")
def info(server: Server) -> dict[int, Any]:
    with pyarrow.flight.connect(server.uri) as client:
        return {row["info_name"]: row["value"] for row in ask(client, "GetSqlInfo")}


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def test_every_type_is_described_in_order(
    types: dict[str, dict[str, Any]], database: duckdb.DuckDBPyConnection
) -> None:
    rows = database.execute("SELECT DISTINCT logical_type FROM duckdb_types()").fetchall()
    assert set(types) == {name for (name,) in rows} - INTERNAL | {"JSON"}
    keys = [(row["data_type"], row["type_name"]) for row in types.values()]
    assert keys == sorted(keys)


def test_literals_of_types_are_values_of_these_types(
    types: dict[str, dict[str, Any]], database: duckdb.DuckDBPyConnection
) -> None:
    for name, row in types.items():
        if row["literal_prefix"] is not None:
            literal = row["literal_prefix"] + SAMPLES.get(name, "2026-11-22 10:00:00") + row["literal_suffix"]
            ((found,),) = database.execute(f"SELECT typeof({literal})").fetchall()
            found = "LIST" if found.endswith("[]") else found.partition("(")[0]
            assert found == {"ENUM": "VARCHAR"}.get(name, name)


def test_sizes_of_types_hold_their_largest_values(
    types: dict[str, dict[str, Any]], database: duckdb.DuckDBPyConnection
) -> None:
    columns = [
        ("TINYINT", "tinyint"),
        ("SMALLINT", "smallint"),
        ("INTEGER", "int"),
        ("BIGINT", "bigint"),
        ("UTINYINT", "utinyint"),
        ("USMALLINT", "usmallint"),
        ("UINTEGER", "uint"),
        ("UBIGINT", "ubigint"),
        ("UUID", "uuid"),
    ]
    for name, column in columns:
        largest = f"SELECT max({column}::VARCHAR) FROM test_all_types() WHERE {column} > $1"
        minimum = "00000000-0000-0000-0000-000000000000" if name == "UUID" else 0
        ((text,),) = database.execute(largest, [minimum]).fetchall()
        assert types[name]["column_size"] == len(text)
    for row in types.values():
        if row["datetime_subcode"] is not None and row["maximum_scale"] is not None:
            assert row["minimum_scale"] == row["maximum_scale"]
            written = "2026-11-22 10:00:00" if row["data_type"] == 93 else "10:00:00"
            fraction = "." + "1" * row["maximum_scale"] if row["maximum_scale"] else ""
            zone = "+05:45" if row["datetime_subcode"] == 5 else ""
            zone = "+15:59:59" if row["datetime_subcode"] == 4 else zone
            assert row["column_size"] == len(written + fraction + zone)


def test_types_are_filtered_by_their_number(client_of_server: pyarrow.flight.FlightClient) -> None:
    signed = ask(client_of_server, "GetXdbcTypeInfo", data_type=-5)
    assert [(row["type_name"], row["unsigned_attribute"]) for row in signed] == [
        ("BIGINT", False),
        ("UBIGINT", True),
    ]
    assert [row["type_name"] for row in ask(client_of_server, "GetXdbcTypeInfo", data_type=91)] == ["DATE"]
    assert ask(client_of_server, "GetXdbcTypeInfo", data_type=999) == []


@pytest.fixture
def client_of_server(server: Server) -> Iterator[pyarrow.flight.FlightClient]:
    with pyarrow.flight.connect(server.uri) as opened:
        yield opened


def test_words_and_functions_are_those_of_duckdb(info: dict[int, Any], run_query: RunQuery) -> None:
    assert {"select", "qualify", "asof"} <= set(info[508])
    numeric, string, system, datetime = (set(info[code]) for code in (509, 510, 511, 512))
    assert {"abs", "pi", "round"} <= numeric
    assert {"upper", "regexp_matches", "levenshtein"} <= string
    assert {"current_database", "version"} <= system
    assert {"now", "date_trunc", "year"} <= datetime
    assert not (numeric | string | system | datetime) & {"getenv", "current_query", "query"}
    assert run_query("SELECT abs(-1), upper('x'), year(DATE '2026-11-22')").num_rows == 1


@pytest.mark.parametrize(
    ("code", "sql"),
    [
        (506, "SELECT count(*) FROM sys.datasets"),
        (514, "SELECT 1 AS a$b"),
        (515, "SELECT 1 AS one"),
        (516, "SELECT 1 WHERE (NULL + 1) IS NULL"),
        (518, "SELECT b.x FROM (SELECT 1 AS x) AS b"),
        (520, "SELECT x FROM (VALUES (1), (2)) t(x) ORDER BY x + 1"),
        (521, "SELECT 1 FROM (VALUES (1, 2)) t(x, y) ORDER BY y"),
        (522, "SELECT count(*) FROM (VALUES (1, 2)) t(x, y) GROUP BY x, y"),
        (523, "SELECT 1 WHERE 'a%' LIKE 'a^%' ESCAPE '^'"),
        (528, "SELECT 1 FROM (VALUES (1)) a(x) FULL JOIN (VALUES (1)) b(x) ON a.x = b.x"),
        (538, "SELECT 1 WHERE 1 = ANY (SELECT 1) AND 1 IN (SELECT 1) AND EXISTS (SELECT 1)"),
        (539, "SELECT (SELECT y FROM (VALUES (1)) b(y) WHERE b.y = a.x) FROM (VALUES (1)) a(x)"),
        (540, "SELECT 1 UNION SELECT 1 UNION ALL SELECT 2"),
    ],
)
def test_syntax_that_is_announced_runs(info: dict[int, Any], server: Server, code: int, sql: str) -> None:
    assert info[code]
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        assert cursor.fetch_arrow_table().num_rows >= 1


def test_conversions_are_the_casts_there_are(info: dict[int, Any]) -> None:
    casts = dict(info[517])
    everything, number, text, date, time = list(range(20)), 7, 19, 4, 15
    assert casts[text] == everything
    assert set(casts) == set(everything)
    assert date not in casts[number]
    assert text in casts[number]
    assert time not in casts[date]
    assert casts[12] == casts[5]


def test_limits_and_times_are_those_of_the_settings(tmp_path: Path) -> None:
    limits = {"statement_bytes": 2048, "sessions": 7, "session_idle": 60}
    bucket = {"primary": {"uri": str(tmp_path / "primary"), "read_only": True}}
    with serve(limits=limits, buckets=bucket) as server, pyarrow.flight.connect(server.uri) as client:
        codes = [3, 101, 549, 557]
        found = {row["info_name"]: row["value"] for row in ask(client, "GetSqlInfo", info=codes)}
        assert found == {3: True, 101: 60_000, 549: 7, 557: 2048}
        with pytest.raises(pyarrow.ArrowInvalid, match="at most 2048"):
            client.get_flight_info(flight_sql.statement_query("SELECT '" + "x" * 2048 + "'"))


def test_older_jdbc_drivers_get_no_code_that_they_do_not_know(info: dict[int, Any], server: Server) -> None:
    assert set(info) == {*range(12), 100, 101, *range(500, 577)}
    agent = [("grpc.primary_user_agent", "grpc-java-netty/1.60.0")]
    with pyarrow.flight.connect(server.uri, generic_options=agent) as java:
        assert {row["info_name"] for row in ask(java, "GetSqlInfo")} == set(info) - {10, 11}
        assert ask(java, "GetSqlInfo", info=[10, 9_999]) == [{"info_name": 10, "value": True}]
