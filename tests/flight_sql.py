"""SQL through a plain `pyarrow.flight` client: the few bytes of protobuf that it takes."""

import pyarrow as pa
import pyarrow.flight

_PREFIX = "type.googleapis.com/arrow.flight.protocol.sql.Command"

_NUMBERS = {
    "catalog": 1,
    "db_schema_filter_pattern": 2,
    "table_name_filter_pattern": 3,
    "table_types": 4,
    "include_schema": 5,
}
"""Field numbers of the commands that list schemas and tables."""


def _field(number: int, value: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    size, length = len(value), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + value


def statement_query(sql: str) -> pa.flight.FlightDescriptor:
    """Return the descriptor `Any(CommandStatementQuery{query})`."""
    return _descriptor("StatementQuery", _field(1, sql.encode()))


def command(name: str, **fields: str | list[str] | bool) -> pa.flight.FlightDescriptor:
    """Return the descriptor of a metadata command, such as `command("GetTables", catalog="lakehouse")`."""
    body = b""
    for field, value in fields.items():
        number = _NUMBERS[field]
        if isinstance(value, bool):
            body += bytes([number << 3, value])
        else:
            texts = value if isinstance(value, list) else [value]
            body += b"".join(_field(number, text.encode()) for text in texts)
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
