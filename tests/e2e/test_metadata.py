"""What drivers read about catalogs, schemas and tables, and what ListFlights shows."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

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


TABLE_COLUMNS = "catalog_name utf8, db_schema_name utf8, table_name utf8!, table_type utf8!"
KEY_COLUMNS = (
    "pk_catalog_name utf8, pk_db_schema_name utf8, pk_table_name utf8!, pk_column_name utf8!, "
    "fk_catalog_name utf8, fk_db_schema_name utf8, fk_table_name utf8!, fk_column_name utf8!, "
    "key_sequence int32!, fk_key_name utf8, pk_key_name utf8, update_rule uint8!, delete_rule uint8!"
)
TYPES = {
    "utf8": pa.utf8(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "uint8": pa.uint8(),
    "uint32": pa.uint32(),
    "texts": pa.list_(pa.field("item", pa.utf8(), nullable=False)),
    "values": pa.dense_union(
        [
            pa.field("string_value", pa.utf8()),
            pa.field("bool_value", pa.bool_()),
            pa.field("bigint_value", pa.int64()),
            pa.field("int32_bitmask", pa.int32()),
            pa.field("string_list", pa.list_(pa.utf8())),
            pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
        ]
    ),
}


def schema(columns: str) -> pa.Schema:
    """Read a schema as the contract writes it: `name type`, with a `!` where NULL is not allowed."""
    pairs = [column.split() for column in columns.split(", ")]
    return pa.schema([pa.field(name, TYPES[kind.rstrip("!")], kind[-1] != "!") for name, kind in pairs])


@pytest.mark.parametrize(
    ("command", "fields", "columns"),
    [
        ("GetCatalogs", {}, "catalog_name utf8!"),
        ("GetDbSchemas", {}, "catalog_name utf8, db_schema_name utf8!"),
        ("GetTables", {}, TABLE_COLUMNS),
        ("GetTables", {"include_schema": True}, TABLE_COLUMNS + ", table_schema binary!"),
        ("GetTableTypes", {}, "table_type utf8!"),
        (
            "GetPrimaryKeys",
            {"table": "orders"},
            "catalog_name utf8, db_schema_name utf8, table_name utf8!, column_name utf8!, "
            "key_sequence int32!, key_name utf8",
        ),
        ("GetExportedKeys", {"catalog": "lakehouse", "db_schema": "testing", "table": "orders"}, KEY_COLUMNS),
        ("GetImportedKeys", {"db_schema": "", "table": "no such table"}, KEY_COLUMNS),
        ("GetCrossReference", {"pk_table": "orders", "fk_table": "nested"}, KEY_COLUMNS),
        (
            "GetXdbcTypeInfo",
            {},
            "type_name utf8!, data_type int32!, column_size int32, literal_prefix utf8, literal_suffix utf8, "
            "create_params texts, nullable int32!, case_sensitive bool!, searchable int32!, "
            "unsigned_attribute bool, fixed_prec_scale bool!, auto_increment bool, local_type_name utf8, "
            "minimum_scale int32, maximum_scale int32, sql_data_type int32!, datetime_subcode int32, "
            "num_prec_radix int32, interval_precision int32",
        ),
        ("GetSqlInfo", {}, "info_name uint32!, value values!"),
    ],
)
def test_schemas_are_those_of_the_contract_in_every_answer(
    client: pyarrow.flight.FlightClient, command: str, fields: dict[str, Any], columns: str
) -> None:
    found = fetch(client, command, **fields)
    assert found.schema.equals(schema(columns), check_metadata=True)
    if command.endswith(("Keys", "Reference")):
        assert found.num_rows == 0


def names(table: pa.Table) -> list[str]:
    return [f"{row['db_schema_name']}.{row['table_name']}" for row in table.to_pylist()]


def metadata(field: Any) -> dict[str, str]:
    prefix = "ARROW:FLIGHT:SQL:"
    return {key.decode().removeprefix(prefix): value.decode() for key, value in field.metadata.items()}


FLAGS = {"IS_SEARCHABLE": "1", "IS_READ_ONLY": "1"}
"""Of the columns of a query: they can be searched, and not written to."""

_NAMES = "buckets commits datasets eval_sets object_refs profiles queries sessions trials"
SYSTEM = [f"sys.{name}" for name in _NAMES.split()]
TABLES = ["primary.aXb", "primary.a_b", "profile:user.nested", "testing.orders"]
ALL = [*TABLES[:3], *SYSTEM, TABLES[3]]


def test_catalogs_schemas_and_types_are_those_there_are(client: pyarrow.flight.FlightClient) -> None:
    catalogs, types = fetch(client, "GetCatalogs"), fetch(client, "GetTableTypes")
    schemas = fetch(client, "GetDbSchemas")
    assert catalogs.to_pylist() == [{"catalog_name": "lakehouse"}]
    assert types["table_type"].to_pylist() == ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"]
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
    assert names(fetch(client, "GetTables", **fields)) == expected


def test_the_schema_of_a_table_is_what_sql_gives(client: pyarrow.flight.FlightClient) -> None:
    described: dict[str, pa.Schema] = {}
    for row in fetch(client, "GetTables", include_schema=True).to_pylist():
        path = pyarrow.flight.FlightDescriptor.for_path(row["db_schema_name"], row["table_name"])
        described[row["table_name"]] = pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))
        assert described[row["table_name"]].equals(client.get_flight_info(path).schema)
    nested = described["nested"]
    assert [metadata(field)["TYPE_NAME"] for field in nested] == TYPE_NAMES
    assert metadata(nested.field("price")) == {
        "CATALOG_NAME": "lakehouse",
        "DB_SCHEMA_NAME": "profile:user",
        "SCHEMA_NAME": "profile:user",
        "TABLE_NAME": "nested",
        "TYPE_NAME": "DECIMAL(9,2)",
        "PRECISION": "9",
        "SCALE": "2",
        "IS_AUTO_INCREMENT": "0",
        "IS_CASE_SENSITIVE": "0",
        "IS_READ_ONLY": "0",
        "IS_SEARCHABLE": "1",
    }
    assert metadata(nested.field("word"))["IS_CASE_SENSITIVE"] == "1"
    assert metadata(described["datasets"].field(0))["IS_READ_ONLY"] == "1"


def test_columns_of_a_query_say_their_types(client: pyarrow.flight.FlightClient) -> None:
    """JDBC and SQLAlchemy read them; a remark would become the column's label in JDBC."""
    select = 'SELECT id, price * 2 AS twice, word, vector, "at" FROM "profile:user".nested'
    descriptor = flight_sql.statement_query(select)
    info = client.get_flight_info(descriptor)
    stream = client.do_get(info.endpoints[0].ticket).read_all()
    for other in (stream.schema, client.get_schema(descriptor).schema):
        assert other.equals(info.schema, check_metadata=True)
    assert [metadata(field) for field in info.schema] == [
        {"TYPE_NAME": "BIGINT", "PRECISION": "19", "SCALE": "0", **FLAGS},
        {"TYPE_NAME": "DECIMAL(18,2)", "PRECISION": "18", "SCALE": "2", **FLAGS},
        {"TYPE_NAME": "VARCHAR", "IS_CASE_SENSITIVE": "1", **FLAGS},
        {"TYPE_NAME": "FLOAT[2]", **FLAGS},
        {"TYPE_NAME": "TIMESTAMP WITH TIME ZONE", "PRECISION": "32", "SCALE": "6", **FLAGS},
    ]


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
    assert connection.adbc_get_table_types() == ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"]
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
