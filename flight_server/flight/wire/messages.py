"""Protobuf messages from a table: no generated code, no global registry.

Source of numbers and types: Flight.proto and FlightSql.proto of Apache Arrow. Enums are int32
(the same on the wire), nested messages that are only passed on are bytes, the entries of a map are
repeated messages with `key` and `value`, the members of a oneof are optional fields (all the same).
The descriptors live in a private pool, so a client library in this process cannot collide.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from flight_server.errors import InvalidArgumentError

_FLIGHT: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "HandshakeRequest": {"protocol_version": (1, "uint64"), "payload": (2, "bytes")},
    "HandshakeResponse": {"protocol_version": (1, "uint64"), "payload": (2, "bytes")},
    "BasicAuth": {"username": (2, "string"), "password": (3, "string")},
    "ActionType": {"type": (1, "string"), "description": (2, "string")},
    "Action": {"type": (1, "string"), "body": (2, "bytes")},
    "Result": {"body": (1, "bytes")},
    "Criteria": {"expression": (1, "bytes")},
    "SchemaResult": {"schema": (1, "bytes")},
    "FlightDescriptor": {"type": (1, "int32"), "cmd": (2, "bytes"), "path": (3, "repeated string")},
    "Ticket": {"ticket": (1, "bytes")},
    "Location": {"uri": (1, "string")},
    "Timestamp": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "FlightEndpoint": {
        "ticket": (1, "Ticket"),
        "location": (2, "repeated Location"),
        "expiration_time": (3, "Timestamp"),
        "app_metadata": (4, "bytes"),
    },
    "FlightInfo": {
        "schema": (1, "bytes"),
        "flight_descriptor": (2, "bytes"),
        "endpoint": (3, "repeated FlightEndpoint"),
        "total_records": (4, "int64"),
        "total_bytes": (5, "int64"),
        "ordered": (6, "bool"),
        "app_metadata": (7, "bytes"),
    },
    "PollInfo": {
        "info": (1, "bytes"),
        "flight_descriptor": (2, "bytes"),
        "progress": (3, "optional double"),
        "expiration_time": (4, "Timestamp"),
    },
    "CancelFlightInfoRequest": {"info": (1, "FlightInfo")},
    "CancelFlightInfoResult": {"status": (1, "int32")},
    "RenewFlightEndpointRequest": {"endpoint": (1, "FlightEndpoint")},
    "PutResult": {"app_metadata": (1, "bytes")},
    "SessionOptionValue": {
        "string_value": (1, "optional string"),
        "bool_value": (2, "optional bool"),
        "int64_value": (3, "optional sfixed64"),
        "double_value": (4, "optional double"),
        "string_list_value": (5, "optional StringListValue"),
    },
    "StringListValue": {"values": (1, "repeated string")},
    "SessionOption": {"key": (1, "string"), "value": (2, "SessionOptionValue")},
    "SetSessionOptionsRequest": {"session_options": (1, "repeated SessionOption")},
    "SessionOptionError": {"value": (1, "int32")},
    "SessionOptionFailure": {"key": (1, "string"), "value": (2, "SessionOptionError")},
    "SetSessionOptionsResult": {"errors": (1, "repeated SessionOptionFailure")},
    "GetSessionOptionsRequest": {},
    "GetSessionOptionsResult": {"session_options": (1, "repeated SessionOption")},
    "CloseSessionRequest": {},
    "CloseSessionResult": {"status": (1, "int32")},
}

_KEYED_TABLE = {
    "catalog": (1, "optional string"),
    "db_schema": (2, "optional string"),
    "table": (3, "string"),
}

_FLIGHT_SQL: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "CommandGetSqlInfo": {"info": (1, "repeated uint32")},
    "CommandStatementQuery": {"query": (1, "string"), "transaction_id": (2, "optional bytes")},
    "CommandPreparedStatementQuery": {"prepared_statement_handle": (1, "bytes")},
    "CommandStatementUpdate": {"query": (1, "string"), "transaction_id": (2, "optional bytes")},
    "CommandPreparedStatementUpdate": {"prepared_statement_handle": (1, "bytes")},
    "TableDefinitionOptions": {"if_not_exist": (1, "int32"), "if_exists": (2, "int32")},
    "CommandStatementIngest": {
        "table_definition_options": (1, "TableDefinitionOptions"),
        "table": (2, "string"),
        "schema": (3, "optional string"),
        "catalog": (4, "optional string"),
        "temporary": (5, "bool"),
        "transaction_id": (6, "optional bytes"),
    },
    "CommandGetCatalogs": {},
    "CommandGetDbSchemas": {
        "catalog": (1, "optional string"),
        "db_schema_filter_pattern": (2, "optional string"),
    },
    "CommandGetTables": {
        "catalog": (1, "optional string"),
        "db_schema_filter_pattern": (2, "optional string"),
        "table_name_filter_pattern": (3, "optional string"),
        "table_types": (4, "repeated string"),
        "include_schema": (5, "bool"),
    },
    "CommandGetTableTypes": {},
    "CommandGetXdbcTypeInfo": {"data_type": (1, "optional int32")},
    "CommandGetPrimaryKeys": _KEYED_TABLE,
    "CommandGetExportedKeys": _KEYED_TABLE,
    "CommandGetImportedKeys": _KEYED_TABLE,
    "CommandGetCrossReference": {
        "pk_catalog": (1, "optional string"),
        "pk_db_schema": (2, "optional string"),
        "pk_table": (3, "string"),
        "fk_catalog": (4, "optional string"),
        "fk_db_schema": (5, "optional string"),
        "fk_table": (6, "string"),
    },
    "TicketStatementQuery": {"statement_handle": (1, "bytes")},
    "DoPutUpdateResult": {"record_count": (1, "int64")},
    "DoPutPreparedStatementResult": {"prepared_statement_handle": (1, "optional bytes")},
    "ActionCreatePreparedStatementRequest": {"query": (1, "string"), "transaction_id": (2, "optional bytes")},
    "ActionCreatePreparedStatementResult": {
        "prepared_statement_handle": (1, "bytes"),
        "dataset_schema": (2, "bytes"),
        "parameter_schema": (3, "bytes"),
        "is_update": (4, "optional bool"),
    },
    "ActionClosePreparedStatementRequest": {"prepared_statement_handle": (1, "bytes")},
    "ActionBeginTransactionRequest": {},
    "ActionBeginTransactionResult": {"transaction_id": (1, "bytes")},
    "ActionCancelQueryRequest": {"info": (1, "bytes")},
    "ActionCancelQueryResult": {"result": (1, "int32")},
    "ActionEndTransactionRequest": {"transaction_id": (1, "bytes"), "action": (2, "int32")},
}

SQL_PREFIX = "arrow.flight.protocol.sql."
"""Package of the messages that travel inside an Any."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Mapping[str, "_Field.Type.ValueType"] = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "sfixed64": _Field.TYPE_SFIXED64,
    "double": _Field.TYPE_DOUBLE,
}
_PACKAGE = "flight_server.wire"


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    label, _, bare = kind.rpartition(" ")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"
    if label == "repeated":
        field.label = _Field.LABEL_REPEATED
    elif label == "optional":
        # proto3 keeps explicit presence as a one-field oneof
        field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _build() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in {**_FLIGHT, **_FLIGHT_SQL}.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = {**_FLIGHT, **_FLIGHT_SQL}
    found = {name: pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in names}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


_CLASSES = _build()


def parse(name: str, data: bytes) -> Any:
    """Return the message of that name; raises InvalidArgumentError when `data` is not one."""
    try:
        return _CLASSES[name].FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(
            f"not a valid {name} message: it is truncated or damaged ({len(data)} bytes)"
        ) from error


def create(name: str, **fields: object) -> Any:
    """Return a new message of that name."""
    return _CLASSES[name](**fields)


def encode(name: str, **fields: object) -> bytes:
    """Return the bytes of a message of that name."""
    return _CLASSES[name](**fields).SerializeToString()


def pack(name: str, **fields: object) -> bytes:
    """Return the bytes of an Any that holds the Flight SQL message of that name."""
    return encode("Any", type_url=f"type.googleapis.com/{SQL_PREFIX}{name}", value=encode(name, **fields))


def unpack(data: bytes) -> tuple[str, bytes]:
    """Return (message name, its bytes) of an Any that holds a Flight SQL message.

    Raises InvalidArgumentError when `data` is no Any or holds something of another package.
    """
    packed = parse("Any", data)
    full_name: str = packed.type_url.rpartition("/")[2]
    if not full_name.startswith(SQL_PREFIX):
        raise InvalidArgumentError(
            f"expected a google.protobuf.Any with a message of {SQL_PREFIX[:-1]}, got {full_name[:100]!r}"
        )
    return full_name[len(SQL_PREFIX) :], packed.value
