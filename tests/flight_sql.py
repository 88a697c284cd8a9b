"""SQL through a plain `pyarrow.flight` client: the few bytes of protobuf that it takes."""

from typing import TypeAlias

import pyarrow as pa
import pyarrow.flight

_PREFIX = "type.googleapis.com/arrow.flight.protocol.sql.Command"

_NUMBERS = {
    "catalog": 1,
    "db_schema_filter_pattern": 2,
    "table_name_filter_pattern": 3,
    "table_types": 4,
    "include_schema": 5,
    "db_schema": 2,
    "table": 3,
    "pk_table": 3,
    "fk_table": 6,
    "data_type": 1,
    "info": 1,
}
"""Field numbers of the metadata commands."""

_Value: TypeAlias = str | bool | int | list[str] | list[int]


def _varint(value: int) -> bytes:
    """Encode an integer; negative ones take the ten bytes of 64 bits."""
    rest, encoded = value % (1 << 64), bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*encoded, rest])


def _field(number: int, value: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def statement_query(sql: str) -> pa.flight.FlightDescriptor:
    """Return the descriptor `Any(CommandStatementQuery{query})`."""
    return _descriptor("StatementQuery", _field(1, sql.encode()))


def command(name: str, **fields: _Value) -> pa.flight.FlightDescriptor:
    """Return the descriptor of a metadata command, such as `command("GetTables", catalog="lakehouse")`."""
    body = b""
    for field, value in fields.items():
        number = _NUMBERS[field]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                body += _field(number, item.encode())
            else:
                body += bytes([number << 3]) + _varint(item)
    return _descriptor(name, body)


def _descriptor(name: str, body: bytes) -> pa.flight.FlightDescriptor:
    packed = _field(1, (_PREFIX + name).encode()) + _field(2, body)
    return pa.flight.FlightDescriptor.for_command(packed)


def query(
    client: pa.flight.FlightClient, sql: str, options: pa.flight.FlightCallOptions | None = None
) -> pa.Table:
    """Run a query and fetch all of its rows."""
    options = options or pa.flight.FlightCallOptions()
    info = client.get_flight_info(statement_query(sql), options)
    table = client.do_get(info.endpoints[0].ticket, options).read_all()
    assert table.schema.equals(info.schema)
    return table
