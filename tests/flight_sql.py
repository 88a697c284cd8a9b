"""SQL through a plain `pyarrow.flight` client: the few bytes of protobuf that it takes."""

import pyarrow as pa
import pyarrow.flight

_TYPE = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"


def _field(number: int, value: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    size, length = len(value), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + value


def statement_query(sql: str) -> pa.flight.FlightDescriptor:
    """Return the descriptor `Any(CommandStatementQuery{query})`."""
    command = _field(1, sql.encode())
    return pa.flight.FlightDescriptor.for_command(_field(1, _TYPE) + _field(2, command))


def query(
    client: pa.flight.FlightClient, sql: str, options: pa.flight.FlightCallOptions | None = None
) -> pa.Table:
    """Run a query and fetch all of its rows."""
    options = options or pa.flight.FlightCallOptions()
    info = client.get_flight_info(statement_query(sql), options)
    table = client.do_get(info.endpoints[0].ticket, options).read_all()
    assert table.schema.equals(info.schema)
    return table
