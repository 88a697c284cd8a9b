"""What drivers read about catalogs, schemas and tables, and what ListFlights shows."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.services import tables
from flight_server.testing import Server, serve
from tests import flight_sql

NESTED = pa.schema(
    {
        "id": pa.int64(),
        "vector": pa.list_(pa.float32(), 2),
        "inner": pa.struct([("v", pa.list_(pa.float32(), 2))]),
        "at": pa.timestamp("ms", "Europe/Berlin"),
        "word": pa.dictionary(pa.int8(), pa.utf8()),
        "price": pa.decimal128(9, 2),
    }
)
TYPE_NAMES = [
    "BIGINT", "FLOAT[2]", "STRUCT(v FLOAT[2])", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "DECIMAL(9,2)",
]  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with serve() as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for bucket, name in (("primary", "a_b"), ("primary", "aXb"), ("testing", "orders")):
                data = pa.table({"id": [1, 2, 3]})
                cursor.adbc_ingest(name, data, mode="create", db_schema_name=bucket)
            row = {"id": 1, "vector": [1.0, 2.0], "inner": {"v": [1.0, 2.0]}, "word": "x", "price": 1}
            data = pa.Table.from_pylist([row], NESTED)
            cursor.adbc_ingest("nested", data, mode="create", db_schema_name="profile:user")
        yield running


@pytest.fixture
def client(shop: Server) -> Iterator[pyarrow.flight.FlightClient]:
    with pyarrow.flight.connect(shop.uri) as opened:
        yield opened


@pytest.fixture
def connection(shop: Server) -> Iterator[dbapi.Connection]:
    with dbapi.connect(shop.uri, autocommit=True) as opened:
        yield opened


def fetch(client: pyarrow.flight.FlightClient, name: str, **fields: Any) -> pa.Table:
    """Fetch the rows of a metadata command, whose schema must be the same everywhere."""
    descriptor = flight_sql.command(name, **fields)
    info = client.get_flight_info(descriptor)
    table = client.do_get(info.endpoints[0].ticket).read_all()
    for schema in (info.schema, client.get_schema(descriptor).schema):
        assert schema.equals(table.schema, check_metadata=True)
    return table


def names(table: pa.Table) -> list[str]:
    return [f"{row['db_schema_name']}.{row['table_name']}" for row in table.to_pylist()]


SYSTEM = ["sys.buckets", "sys.commits", "sys.datasets", "sys.object_refs"]
TABLES = ["primary.aXb", "primary.a_b", "profile:user.nested", "testing.orders"]
ALL = [*TABLES[:3], *SYSTEM, TABLES[3]]


def test_catalogs_schemas_and_types_are_those_there_are(client: pyarrow.flight.FlightClient) -> None:
    catalogs, types = fetch(client, "GetCatalogs"), fetch(client, "GetTableTypes")
    schemas = fetch(client, "GetDbSchemas")
    assert [table.schema for table in (catalogs, types, schemas)] == [
        tables.CATALOGS,
        tables.TABLE_TYPES,
        tables.DB_SCHEMAS,
    ]
    assert catalogs.to_pylist() == [{"catalog_name": "lakehouse"}]
    assert types["table_type"].to_pylist() == ["SYSTEM TABLE", "TABLE"]
    assert schemas["db_schema_name"].to_pylist() == ["primary", "profile:user", "sys", "testing"]
    filtered = fetch(client, "GetDbSchemas", catalog="lakehouse", db_schema_filter_pattern="%s%")
    assert filtered["db_schema_name"].to_pylist() == ["profile:user", "sys", "testing"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ALL),
        ({"catalog": "lakehouse"}, ALL),
        ({"catalog": ""}, []),
        ({"catalog": "other"}, []),
        ({"db_schema_filter_pattern": ""}, []),
        ({"table_name_filter_pattern": ""}, []),
        ({"table_name_filter_pattern": "a_b"}, TABLES[:2]),
        ({"table_name_filter_pattern": r"a\_b"}, ["primary.a_b"]),
        ({"db_schema_filter_pattern": "p%", "table_name_filter_pattern": "%e%"}, ["profile:user.nested"]),
        ({"table_types": ["base table"]}, TABLES),
        ({"table_types": ["BASE TABLE", "table"]}, TABLES),
        ({"table_types": ["System Table"]}, SYSTEM),
        ({"table_types": ["VIEW"]}, []),
    ],
)
def test_tables_are_filtered_as_the_specification_says(
    client: pyarrow.flight.FlightClient, fields: dict[str, Any], expected: list[str]
) -> None:
    found = fetch(client, "GetTables", **fields)
    assert found.schema == tables.TABLES
    assert names(found) == expected


def test_the_schema_of_a_table_is_what_sql_gives(client: pyarrow.flight.FlightClient) -> None:
    found = fetch(client, "GetTables", include_schema=True)
    assert found.schema == tables.TABLES_WITH_SCHEMA
    for row in found.to_pylist():
        path = pyarrow.flight.FlightDescriptor.for_path(row["db_schema_name"], row["table_name"])
        described = pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))
        assert described.equals(client.get_flight_info(path).schema)
        if row["table_name"] == "nested":
            key = b"ARROW:FLIGHT:SQL:TYPE_NAME"
            assert [(field.metadata or {})[key].decode() for field in described] == TYPE_NAMES
            assert described.field("id").metadata == {
                b"ARROW:FLIGHT:SQL:CATALOG_NAME": b"lakehouse",
                b"ARROW:FLIGHT:SQL:DB_SCHEMA_NAME": b"profile:user",
                b"ARROW:FLIGHT:SQL:SCHEMA_NAME": b"profile:user",
                b"ARROW:FLIGHT:SQL:TABLE_NAME": b"nested",
                key: b"BIGINT",
            }


def test_a_pattern_that_ends_in_its_escape_is_invalid(client: pyarrow.flight.FlightClient) -> None:
    with pytest.raises(pa.ArrowInvalid, match="escape character"):
        fetch(client, "GetTables", table_name_filter_pattern="x\\")


@pytest.mark.parametrize("depth", ["catalogs", "db_schemas", "tables", "columns", "all"])
def test_adbc_reads_objects_at_every_depth(connection: dbapi.Connection, depth: str) -> None:
    (catalog,) = connection.adbc_get_objects(depth=depth, table_name_filter="nested").read_all().to_pylist()
    assert catalog["catalog_name"] == "lakehouse"
    if depth != "catalogs":
        schemas = {schema["db_schema_name"]: schema for schema in catalog["catalog_db_schemas"]}
        assert set(schemas) >= {"profile:user"}
        if depth in ("columns", "all"):
            (table,) = schemas["profile:user"]["db_schema_tables"]
            assert [column["xdbc_type_name"] for column in table["table_columns"]] == TYPE_NAMES


def test_adbc_reads_table_types_and_schemas(connection: dbapi.Connection) -> None:
    assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "TABLE"]
    assert connection.adbc_get_table_schema("orders").names == ["id"]
    assert connection.adbc_get_table_schema("a_b", db_schema_filter="primary").names == ["id"]
    with pytest.raises(dbapi.Error, match="NOT_FOUND"):
        connection.adbc_get_table_schema("nothing")


def test_an_open_transaction_sees_what_it_staged(shop: Server) -> None:
    with dbapi.connect(shop.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("staged", pa.table({"x": [1]}), mode="create", db_schema_name="testing")
        assert connection.adbc_get_table_schema("staged").names == ["x"]
        connection.rollback()
        with pytest.raises(dbapi.Error, match="NOT_FOUND"):
            connection.adbc_get_table_schema("staged")


def test_flights_are_datasets_with_counts_and_working_tickets(client: pyarrow.flight.FlightClient) -> None:
    flights = list(client.list_flights())
    assert [[part.decode() for part in flight.descriptor.path or []] for flight in flights] == [
        name.split(".") for name in TABLES
    ]
    for flight in flights:
        read = client.do_get(flight.endpoints[0].ticket).read_all()
        assert read.schema.equals(flight.schema)
        assert flight.total_records == read.num_rows
        direct = client.get_flight_info(flight.descriptor)
        assert (direct.total_records, direct.total_bytes) == (flight.total_records, flight.total_bytes)
        assert flight.total_bytes > 0
    (found,) = client.list_flights(rb"primary.a\_b")
    assert found.descriptor.path == [b"primary", b"a_b"]
    with pytest.raises(pa.ArrowInvalid, match="UTF-8"):
        list(client.list_flights(b"\xff"))
