"""SQL through a plain `pyarrow.flight` client: the few bytes of protobuf that it takes.

Numbers are those of Flight.proto and FlightSql.proto, written down once more: tests must not share a
mistake with the server's own tables.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.flight

_PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."

_STATEMENT = {"query": 1, "transaction_id": 2}
_HANDLE = {"prepared_statement_handle": 1}
_TABLE = {"catalog": 1, "db_schema": 2, "table": 3}

_FIELDS: Mapping[str, Mapping[str, int]] = {
    "CommandStatementQuery": _STATEMENT,
    "CommandStatementUpdate": _STATEMENT,
    "CommandStatementSubstraitPlan": {"plan": 1, "transaction_id": 2},
    "CommandPreparedStatementQuery": _HANDLE,
    "CommandPreparedStatementUpdate": _HANDLE,
    "CommandStatementIngest": {
        "table_definition_options": 1,
        "table": 2,
        "schema": 3,
        "catalog": 4,
        "temporary": 5,
        "transaction_id": 6,
        "options": 1000,
    },
    "TableDefinitionOptions": {"if_not_exist": 1, "if_exists": 2},
    "CommandGetCatalogs": {},
    "CommandGetDbSchemas": {"catalog": 1, "db_schema_filter_pattern": 2},
    "CommandGetTables": {
        "catalog": 1,
        "db_schema_filter_pattern": 2,
        "table_name_filter_pattern": 3,
        "table_types": 4,
        "include_schema": 5,
    },
    "CommandGetTableTypes": {},
    "CommandGetPrimaryKeys": _TABLE,
    "CommandGetExportedKeys": _TABLE,
    "CommandGetImportedKeys": _TABLE,
    "CommandGetCrossReference": {
        "pk_catalog": 1,
        "pk_db_schema": 2,
        "pk_table": 3,
        "fk_catalog": 4,
        "fk_db_schema": 5,
        "fk_table": 6,
    },
    "CommandGetXdbcTypeInfo": {"data_type": 1},
    "CommandGetSqlInfo": {"info": 1},
    "TicketStatementQuery": {"statement_handle": 1},
    "ActionCreatePreparedStatementRequest": _STATEMENT,
    "ActionCreatePreparedSubstraitPlanRequest": {"plan": 1, "transaction_id": 2},
    "ActionClosePreparedStatementRequest": _HANDLE,
    "ActionBeginTransactionRequest": {},
    "ActionEndTransactionRequest": {"transaction_id": 1, "action": 2},
    "ActionBeginSavepointRequest": {"transaction_id": 1, "name": 2},
    "ActionEndSavepointRequest": {"savepoint_id": 1, "action": 2},
    "ActionCancelQueryRequest": {"info": 1},
    "CancelFlightInfoRequest": {"info": 1},
    "RenewFlightEndpointRequest": {"endpoint": 1},
    "SetSessionOptionsRequest": {"session_options": 1},
    "GetSessionOptionsRequest": {},
    "CloseSessionRequest": {},
}
"""Message → field → number."""

Value: TypeAlias = str | bytes | bool | int | float | list[Any]
Decoded: TypeAlias = dict[int, list[Any]]
"""What a message holds: field number → its values, integers or bytes, in the order in which they came."""


def _varint(value: int) -> bytes:
    """Encode an integer; negative ones take the ten bytes of 64 bits."""
    rest, encoded = value % (1 << 64), bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*encoded, rest])


def field(number: int, value: Value) -> bytes:
    """Encode one field by the Python type of its value; a list is a repeated field."""
    if isinstance(value, list):
        return b"".join(field(number, item) for item in value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def message(name: str, /, **fields: Value) -> bytes:
    """Encode a message as it stands, as the actions of core Flight want it."""
    return b"".join(field(_FIELDS[name][key], value) for key, value in fields.items())


def packed(name: str, /, **fields: Value) -> bytes:
    """Encode a message of Flight SQL in an `Any`, as commands and Flight SQL's actions want it."""
    return field(1, _PREFIX + name) + field(2, message(name, **fields))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_varint(data, at)
    return data[at : at + length], at + length


_READERS: Mapping[int, Callable[[bytes, int], tuple[int | bytes, int]]] = {
    0: _read_varint,
    1: lambda data, at: (data[at : at + 8], at + 8),
    2: _read_bytes,
    5: lambda data, at: (data[at : at + 4], at + 4),
}


def decode(data: bytes) -> Decoded:
    """Decode a message without knowing what it is."""
    found: Decoded = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _READERS[tag & 7](data, at)
        found.setdefault(tag >> 3, []).append(value)
    return found


def unpacked(data: bytes) -> Decoded:
    """Decode the message inside an `Any`."""
    return decode(decode(data).get(2, [b""])[0])


def signed(value: int) -> int:
    """Return a decoded int64 as the number that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def statement_query(sql: str) -> pa.flight.FlightDescriptor:
    """Return the descriptor `Any(CommandStatementQuery{query})`."""
    return descriptor("CommandStatementQuery", query=sql)


def command(name: str, /, **fields: Value) -> pa.flight.FlightDescriptor:
    """Return the descriptor of a metadata command, such as `command("GetTables", catalog="lakehouse")`."""
    return descriptor(f"Command{name}", **fields)


def descriptor(name: str, /, **fields: Value) -> pa.flight.FlightDescriptor:
    """Return the descriptor of any command."""
    return pa.flight.FlightDescriptor.for_command(packed(name, **fields))


def query(
    client: pa.flight.FlightClient, sql: str, options: pa.flight.FlightCallOptions | None = None
) -> pa.Table:
    """Run a query and fetch all of its rows."""
    options = options or pa.flight.FlightCallOptions()
    info = client.get_flight_info(statement_query(sql), options)
    table = client.do_get(info.endpoints[0].ticket, options).read_all()
    assert table.schema.equals(info.schema)
    return table
