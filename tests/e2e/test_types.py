"""Every type of DuckDB through every client, parameters of every type, and the forms of a stream."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server
from tests import flight_sql

RunQuery = Callable[[str], pa.Table]

_38 = "9" * 38
ALL_TYPES = (
    f"SELECT * REPLACE (greatest(least(hugeint, {_38}::HUGEINT), -{_38}::HUGEINT) AS hugeint, "
    f"least(uhugeint, {_38}::UHUGEINT) AS uhugeint) FROM test_all_types()"
)
"""All columns of all types; the two that Arrow cannot hold as far as it can."""

UNREADABLE = ["empty_struct", "geometry", "tuple", "union"]
"""Types that DuckDB does not read from Arrow as what they were."""

UNION = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
DECIMAL_38 = pa.decimal128(38, 0)
DICTIONARIES = {"adbc.flight.sql.rpc.call_header.x-lakehouse-dictionaries": "true"}


@contextmanager
def connected(server: Server, **options: str) -> Iterator[dbapi.Cursor]:
    connection = dbapi.connect(server.uri, db_kwargs=options, autocommit=True)
    with connection, connection.cursor() as cursor:
        yield cursor


def rows(server: Server, sql: str, *parameters: Any, **options: str) -> list[tuple[Any, ...]]:
    with connected(server, **options) as cursor:
        cursor.execute(sql, parameters[0] if parameters else None)
        return cursor.fetchall()


def bound(server: Server, sql: str, *columns: "pa.Array[Any]", names: Sequence[str] = ()) -> pa.Table:
    """Run a prepared statement with a batch of parameters."""
    batch = pa.record_batch(list(columns), names=list(names) or [str(at) for at in range(len(columns))])
    return bound_batches(server, sql, batch)


def bound_batches(server: Server, sql: str, *batches: pa.RecordBatch) -> pa.Table:
    with connected(server) as cursor:
        cursor.adbc_statement.set_sql_query(sql)
        cursor.adbc_statement.prepare()
        cursor.adbc_statement.bind_stream(pa.RecordBatchReader.from_batches(batches[0].schema, batches))
        stream, _ = cursor.adbc_statement.execute_query()
        return pa.RecordBatchReader.from_stream(stream).read_all()


def test_values_of_every_type_arrive_as_duckdb_writes_them(run_query: RunQuery) -> None:
    found = run_query(ALL_TYPES)
    found.drop_columns(["time", "time_ns"]).validate(full=True)  # Arrow knows no 24:00:00
    texts = run_query(f"SELECT COLUMNS(*)::VARCHAR FROM ({ALL_TYPES})")
    readable = found.drop_columns(UNREADABLE)
    with duckdb.connect() as reader:
        reader.execute("SET TimeZone = 'UTC'")
        reader.register("found", readable)
        again = reader.sql("SELECT COLUMNS(*)::VARCHAR FROM found").to_arrow_table()
    assert again.to_pydict() == texts.drop_columns(UNREADABLE).to_pydict()
    assert found["union"].to_pylist() == ["Frank", 5, None]
    assert found["empty_struct"].to_pylist() == [{}, {}, None]
    assert found["tuple"].to_pylist()[1:] == [{"element1": 42, "element2": "🦆🦆🦆🦆🦆🦆"}, None]
    assert found["geometry"][0].as_py()[:5] == b"\x01\x01\x00\x00\x00"  # a point as WKB


def test_all_announced_schemas_are_the_stream_s(server: Server, flight: pa.flight.FlightClient) -> None:
    table = flight_sql.query(flight, ALL_TYPES)
    with connected(server) as cursor:
        announced = cursor.adbc_execute_schema(ALL_TYPES)
        cursor.adbc_prepare(ALL_TYPES)
        prepared = cursor.adbc_statement.execute_schema()
        cursor.execute(ALL_TYPES)
        fetched = cursor.fetch_arrow_table()
    assert table.schema.equals(announced)
    assert table.schema.equals(pa.Schema._import_from_c_capsule(prepared.__arrow_c_schema__()))
    assert table.schema.equals(fetched.schema)


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("sum(7::BIGINT)", DECIMAL_38, 7),
        ("'101'::BIT", pa.utf8(), "101"),
        ("'10:00:00+02:30'::TIMETZ", pa.utf8(), "10:00:00+02:30"),
        ("123456789012345678901234567890123456789012::BIGNUM", pa.utf8(), f"1234567890{'1234567890' * 3}12"),
        ("{'a': 1, 'b': ['x']}::VARIANT", pa.utf8(), '{"a":1,"b":["x"]}'),
        ("NULL", pa.utf8(), None),
        ("get_type(1)", pa.utf8(), "INTEGER"),
        ("'b'::ENUM('a', 'b')", pa.utf8(), "b"),
        ("[]", pa.list_(pa.utf8()), []),
        ("{'a b': [1::HUGEINT], 'c': '1'::BIT}", None, {"a b": [1], "c": "1"}),
        ("MAP {1::HUGEINT: {'n': NULL}}", None, [(1, {"n": None})]),
        ("['10:00:00+01'::TIMETZ]::TIMETZ[1]", None, ["10:00:00+01"]),
        ("row(1::UHUGEINT, 'a'::ENUM('a'))", None, {"element1": 1, "element2": "a"}),
        ("union_value(bits := '1'::BIT)", None, "1"),
    ],
)
def test_what_arrow_or_a_driver_cannot_carry_is_cast(
    server: Server, expression: str, kind: pa.DataType | None, value: Any
) -> None:
    with connected(server) as cursor:
        cursor.execute(f"SELECT {expression} AS v")
        table = cursor.fetch_arrow_table()
    assert table["v"].to_pylist() == [value]
    assert kind is None or table.schema.field("v").type == kind


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("170141183460469231731687303715884105727::HUGEINT", "38 digits.*VARCHAR"),
        ("{'a': [340282366920938463463374607431768211455::UHUGEINT]}", "38 digits.*VARCHAR"),
        ("to_hours(10000000)", "INTERVAL.*VARCHAR"),
    ],
)
def test_values_that_do_not_fit_arrow_are_refused(server: Server, expression: str, message: str) -> None:
    with pytest.raises(dbapi.ProgrammingError, match=message) as raised:
        rows(server, f"SELECT {expression} AS v FROM range(3)")
    assert "_carried_" not in str(raised.value)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT {0} AS a, i AS a FROM range(400_000) t(i) ORDER BY hash(i), a;",
        "SELECT {0}, i FROM range(400_000) t(i) -- all of them",
        "WITH x AS (FROM range(400_000) t(i)) "
        "SELECT i % 1000 AS k, sum({0}) FROM x GROUP BY k ORDER BY k DESC",
        "SELECT DISTINCT ON (k) {0}, i % 7 AS k FROM range(400_000) t(i) ORDER BY hash(i) LIMIT 5 OFFSET 1",
        "FROM range(1000) t(i) SELECT {0}, 'ü' UNION ALL (VALUES (5, '?'))",
    ],
)
def test_a_cast_leaves_the_order_and_the_names_as_they_are(
    flight: pa.flight.FlightClient, query: str
) -> None:
    cast = flight_sql.query(flight, query.format("i::HUGEINT"))
    plain = flight_sql.query(flight, query.format("i::DECIMAL(38,0)"))
    assert [name.replace("HUGEINT", "DECIMAL(38, 0)") for name in cast.column_names] == plain.column_names
    assert cast.columns == plain.columns


TIMES = [
    pa.array([1577836800123456789, None], pa.timestamp("ns")),
    pa.array([1577836800123, None], pa.timestamp("ms")),
    pa.array([(1 << 63) - 1, -(10**17)], pa.timestamp("us")),  # infinity, a year BC
    pa.array([86_399_999_999_999], pa.time64("ns")),
    pa.array([5_000], pa.time32("ms")),
    pa.array([(1, 2, 3_000)], pa.month_day_nano_interval()),
]
OTHERS = [
    pa.array([5, None], pa.int64()),
    pa.array([(1 << 64) - 1], pa.uint64()),
    pa.array([0.1], pa.float32()),
    pa.array([Decimal("1.50"), None, Decimal("-12345.25")], pa.decimal128(18, 2)),
    pa.array(["a", None, "b\0"], pa.utf8()),
    pa.array([b"\0\xff"], pa.binary()),
    pa.array([[1, None], [], None], pa.list_(pa.int8())),
    pa.array([{"a b": Decimal("1.5"), "c": ["x, 'y", "NULL", ""]}]),
    pa.array([[("k", dt.date(2020, 2, 29))]], pa.map_(pa.utf8(), pa.date32())),
]


@pytest.mark.parametrize("values", [*TIMES, *OTHERS], ids=lambda values: str(values.type))
def test_an_open_parameter_has_the_type_that_arrow_says(server: Server, values: "pa.Array[Any]") -> None:
    table = bound(server, "SELECT ? AS v", values)
    kinds = {pa.time32("ms"): pa.time64("us")}
    assert table.schema.field("v").type == kinds.get(values.type, values.type)
    assert table["v"].combine_chunks().equals(values.cast(table.schema.field("v").type))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.utf8()),
        (pa.array([b"x" * 16], pa.uuid()), pa.utf8()),
        (pa.array([0.5], pa.float16()), pa.float32()),
        (pa.array([7], pa.duration("s")), pa.month_day_nano_interval()),
        (pa.array(["x"], pa.string_view()), pa.utf8()),
        (pa.array([None, None]), pa.utf8()),
    ],
    ids=str,
)
def test_other_arrow_types_are_bound_as_the_nearest(
    server: Server, values: "pa.Array[Any]", kind: Any
) -> None:
    table = bound(server, "SELECT ? AS v", values)
    assert table.schema.field("v").type == kind
    assert table.num_rows == len(values)


@pytest.mark.parametrize(
    ("sql", "values", "kind", "expected"),
    [
        ("SELECT coalesce(?, 1::DECIMAL(4,1))", pa.array([5, None]), pa.decimal128(4, 1), [5, 1]),
        ("SELECT coalesce(?, 1::SMALLINT)", pa.array(["7"]), pa.int16(), [7]),
        ("SELECT 2::INTEGER > ?", pa.array([1.5, 2.5]), pa.bool_(), [True, False]),
        ("SELECT 2::INTEGER < ?", pa.array([1 << 40]), pa.bool_(), [True]),
        (
            "SELECT TIMESTAMP '2020-01-01 00:00:00.5' = ?",
            pa.array([1577836800500], pa.timestamp("ms")),
            pa.bool_(),
            [True],
        ),
        ("SELECT 'a'::ENUM('a', 'b') = ?", pa.array(["a", "z"]), pa.bool_(), [True, False]),
        ("SELECT DATE '2020-01-31' + ?", pa.array([1]), pa.date32(), [dt.date(2020, 2, 1)]),
        ("SELECT ? + 1", pa.array([None, 4]), pa.int64(), [None, 5]),
        ("SELECT i FROM range(9) t(i) LIMIT ?", pa.array([1, 2]), pa.int64(), [0, 0, 1]),
        ("SELECT 3 IN ?", pa.array([[1, 3]]), pa.bool_(), [True]),
        ("SELECT 1 WHERE ? IS NULL", pa.array([], pa.int64()), pa.int32(), []),
    ],
)
def test_the_statement_decides_a_type_where_it_can(
    server: Server, sql: str, values: "pa.Array[Any]", kind: pa.DataType, expected: list[Any]
) -> None:
    table = bound(server, sql, values)
    assert table.schema.types == [kind]
    assert table.columns[0].to_pylist() == expected


@pytest.mark.parametrize(
    ("sql", "names", "kinds"),
    [
        ("SELECT 1::BIGINT > ?, ?", ["1", "2"], [pa.int64(), pa.utf8()]),
        ("SELECT ? || '%', 1::SMALLINT = ?", ["1", "2"], [pa.utf8(), pa.int16()]),
        ("SELECT $2::DATE, $1::DOUBLE, $1", ["1", "2"], [pa.float64(), pa.date32()]),
        ("SELECT $b::BLOB, $a::BOOLEAN", ["b", "a"], [pa.binary(), pa.bool_()]),
        ("SELECT ?::TIMESTAMP, ?::TIMESTAMP_NS", ["1", "2"], [pa.timestamp("ms")] * 2),
        ("SELECT ?::TIMESTAMPTZ, ?::TIME", ["1", "2"], [pa.timestamp("ms", "UTC"), pa.time32("ms")]),
        ("SELECT ?::HUGEINT, ?::INTERVAL", ["1", "2"], [pa.int64(), pa.utf8()]),
        ("SELECT ?::BIT, ?::ENUM('a'), ?::UUID", ["1", "2", "3"], [pa.utf8()] * 3),
        ("SELECT date_part('year', ?)", ["1"], [pa.utf8()]),
        ("SELECT NULL", [], []),
    ],
)
def test_parameters_are_declared_as_drivers_fill_them(
    server: Server, sql: str, names: list[str], kinds: list[pa.DataType]
) -> None:
    with connected(server) as cursor:
        declared = cursor.adbc_prepare(sql)
    assert (declared.names, declared.types) == (names, kinds)


def test_parameters_go_to_their_places(server: Server) -> None:
    one, two = pa.array([1]), pa.array(["two"])
    assert bound(server, "SELECT $2 AS a, $1 AS b, $1 AS b", one, two).to_pylist()[0]["a"] == "two"
    assert bound(server, "SELECT ?2, ?1", one, two).columns[0].to_pylist() == ["two"]
    named = bound(server, "SELECT $b AS b, $a AS a, $B AS c", one, two, names=["A", "b"])
    assert named.to_pylist() == [{"b": "two", "a": 1, "c": "two"}]
    in_order = bound(server, "SELECT $b AS b, $a AS a", one, two)
    assert in_order.to_pylist() == [{"b": 1, "a": "two"}]
    assert rows(server, 'SELECT \'?\', $$ $1 $$, "?" FROM (SELECT ? AS "?") -- ?', (5,)) == [("?", " $1 ", 5)]


@pytest.mark.parametrize(
    ("sql", "columns", "names", "message"),
    [
        ("SELECT ?", [pa.array([1])] * 2, [], r"takes 1 parameters, 2 are bound; it takes \$1"),
        ("SELECT $a, $b", [pa.array([1])], [], r"takes 2 parameters, 1 are bound; it takes \$a, \$b"),
        ("SELECT 1", [pa.array([1])], [], "takes 0 parameters, 1 are bound"),
        ("SELECT $a, $b", [pa.array([1])] * 2, ["a", "c"], r"\$a, \$b; those bound are a, c"),
        ("SELECT ?", [pa.array([Decimal(10) ** 40], pa.decimal256(50))], [], "38 digits"),
        ("SELECT ?", [UNION], [], "union"),
        ("SELECT ?", [pa.array([[0.5]], pa.list_(pa.float16()))], [], r"\$1.*utf8"),
        ("SELECT 1::INTEGER = ?", [pa.array(["x"])], [], "'x'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_that_do_not_fit_are_refused(
    server: Server, sql: str, columns: list["pa.Array[Any]"], names: list[str], message: str
) -> None:
    with pytest.raises((dbapi.ProgrammingError, pa.ArrowInvalid), match=message):
        bound(server, sql, *columns, names=names)


def test_parameters_come_in_any_number_of_batches(server: Server) -> None:
    batches = [pa.record_batch([pa.array(chunk, pa.int64())], names=["0"]) for chunk in ([1], [], [2, None])]
    assert bound_batches(server, "SELECT ? * 2 AS v", *batches).to_pydict() == {"v": [2, 4, None]}


def test_a_malformed_batch_of_parameters_is_refused(server: Server) -> None:
    no_text = pa.Array.from_buffers(pa.utf8(), 1, pa.array([b"\xff\xfe"]).buffers())
    with pytest.raises(dbapi.ProgrammingError, match="malformed"):
        bound(server, "SELECT ?", no_text)


@pytest.mark.parametrize("compression", ["lz4", "zstd", "none", "NONE"])
def test_rows_are_compressed_on_request(flight: pa.flight.FlightClient, compression: str) -> None:
    options = pa.flight.FlightCallOptions(headers=[(b"x-lakehouse-compression", compression.encode())])
    table = flight_sql.query(flight, "SELECT i, 'text' AS s FROM range(100_000) t(i)", options)
    assert table["i"].to_pylist() == list(range(100_000))


def test_an_unknown_compression_is_refused(flight: pa.flight.FlightClient) -> None:
    options = pa.flight.FlightCallOptions(headers=[(b"x-lakehouse-compression", b"brotli")])
    with pytest.raises(pa.ArrowInvalid, match="lz4, zstd, none, not 'brotli'"):
        flight_sql.query(flight, "SELECT 1", options)


def test_enums_come_as_dictionaries_on_request(server: Server) -> None:
    kind = "ENUM('small', 'medium', 'large')"
    size = f"(['small', 'medium', 'large'])[1 + i % 3]::{kind} AS size"
    with connected(server, **DICTIONARIES) as cursor:
        cursor.execute(f"SELECT {size}, [size] AS sizes FROM range(100_000) t(i)")
        table = cursor.fetch_arrow_table()
    assert pa.types.is_dictionary(table.schema.field("size").type)
    assert table["size"].to_pylist()[99_997:] == ["medium", "large", "small"]
    assert table["sizes"].to_pylist()[99_999] == ["small"]


def test_rows_of_any_size_arrive(server: Server, flight: pa.flight.FlightClient) -> None:
    sql = "SELECT repeat('x', CASE WHEN i = 3 THEN 9_000_000 ELSE 100_000 END) AS s FROM range(200) t(i)"
    table = flight_sql.query(flight, sql)
    assert [len(text) for text in table["s"].to_pylist()[2:5]] == [100_000, 9_000_000, 100_000]
    assert flight_sql.query(flight, "SELECT 1 AS a WHERE false").to_pydict() == {"a": []}
