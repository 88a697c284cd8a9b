"""FlightData framed by hand: bytes ↔ parts, without a protobuf object for each batch.

Source: `FlightData` in Flight.proto (1 `flight_descriptor`, 2 `data_header`, 3 `app_metadata`,
1000 `data_body`) and the encapsulated message format of the Arrow columnar specification.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from flight_server.errors import InvalidArgumentError

MAX_OUTGOING_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""Largest message we send: default gRPC clients refuse more than 4 MiB."""

_DESCRIPTOR, _HEADER, _APP_METADATA, _BODY = 1, 2, 3, 1000
_LENGTH_DELIMITED = 2
_CONTINUATION = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FlightDataParts:
    """The fields of one FlightData message as views into it; absent fields are empty."""

    descriptor: memoryview
    header: memoryview
    app_metadata: memoryview
    body: memoryview


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise InvalidArgumentError("the FlightData message is truncated or not FlightData")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


_SKIPPED_BYTES = {1: 8, 5: 4}
"""Protobuf wire type → bytes of its fixed-size values."""


def parse(message: bytes) -> FlightDataParts:
    """Split one FlightData message; the parts are views, nothing is copied.

    Raises InvalidArgumentError when the bytes are not a FlightData message.
    """
    data = memoryview(message)
    fields: dict[int, memoryview] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _LENGTH_DELIMITED:
            size, at = _read_varint(data, at)
            fields[number] = data[at : at + size]
            at += size
        elif wire_type == 0:
            _, at = _read_varint(data, at)
        elif wire_type in _SKIPPED_BYTES:
            at += _SKIPPED_BYTES[wire_type]
        else:
            raise InvalidArgumentError("the FlightData message holds an unknown protobuf wire type")
        if at > len(data):
            raise InvalidArgumentError("the FlightData message is truncated")
    empty = data[:0]
    return FlightDataParts(
        descriptor=fields.get(_DESCRIPTOR, empty),
        header=fields.get(_HEADER, empty),
        app_metadata=fields.get(_APP_METADATA, empty),
        body=fields.get(_BODY, empty),
    )


def _tagged(number: int, size: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(size)


Pieces: TypeAlias = list[bytes | memoryview]
"""One FlightData message in pieces, to be joined or gathered by the writer."""


def pieces(header: memoryview | bytes, body: memoryview | bytes = b"", app_metadata: bytes = b"") -> Pieces:
    """Frame one message; joining the pieces gives its bytes."""
    framed: Pieces = [_tagged(_HEADER, len(header)), header]
    if app_metadata:
        framed += [_tagged(_APP_METADATA, len(app_metadata)), app_metadata]
    if len(body):
        framed += [_tagged(_BODY, len(body)), body]
    return framed


def encapsulated_header(message: bytes | memoryview) -> memoryview:
    """Return the flatbuffer of an encapsulated IPC message (continuation, size, flatbuffer, body)."""
    view = memoryview(message)
    if len(view) < 8 or int.from_bytes(view[:4], "little") != _CONTINUATION:
        raise InvalidArgumentError("not an encapsulated IPC message")
    size = int.from_bytes(view[4:8], "little")
    return view[8 : 8 + size]


def encapsulate(header: memoryview | bytes) -> bytes:
    """Put the continuation marker and the size before a flatbuffer, padded to 8 bytes."""
    padding = -len(header) % 8
    size = len(header) + padding
    return b"".join([_CONTINUATION.to_bytes(4, "little"), size.to_bytes(4, "little"), header, bytes(padding)])


def schema_message(schema: bytes) -> bytes:
    """Frame an encapsulated IPC schema message as the first FlightData of a stream."""
    return b"".join(pieces(encapsulated_header(schema)))


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(i).type) for i in range(kind.num_fields))


class BatchFramer:
    """Frames the record batches of one stream; dictionaries travel before the batch that needs them."""

    def __init__(self, schema: pa.Schema) -> None:
        self._writes_dictionaries = any(_has_dictionary(field.type) for field in schema)
        self._schema = schema

    def frame(self, batch: pa.RecordBatch) -> Iterator[Pieces]:
        """Frame one batch in slices below `MAX_OUTGOING_BYTES` (one row is never split)."""
        rows = batch.num_rows
        if batch.nbytes > MAX_OUTGOING_BYTES and rows > 1:
            parts = min(rows, batch.nbytes // (MAX_OUTGOING_BYTES * 9 // 10) + 1)
            step = -(-rows // parts)
            for start in range(0, rows, step):
                yield from self._checked(batch.slice(start, step))
        else:
            yield from self._checked(batch)

    def _checked(self, batch: pa.RecordBatch) -> Iterator[Pieces]:
        messages = self._dictionary_messages(batch) if self._writes_dictionaries else [self._plain(batch)]
        largest = max(sum(len(piece) for piece in message) for message in messages)
        if largest > MAX_OUTGOING_BYTES and batch.num_rows > 1:
            middle = batch.num_rows // 2
            yield from self._checked(batch.slice(0, middle))
            yield from self._checked(batch.slice(middle))
        else:
            yield from messages

    def _plain(self, batch: pa.RecordBatch) -> Pieces:
        view = memoryview(batch.serialize())
        header = encapsulated_header(view)
        return pieces(header, view[8 + len(header) :])

    def _dictionary_messages(self, batch: pa.RecordBatch) -> list[Pieces]:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as writer:
            writer.write_batch(batch)
        reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
        reader.read_next_message()  # the schema, which the stream has had already
        return [
            pieces(memoryview(message.metadata), memoryview(message.body or b""))
            for message in _messages(reader)
        ]


def _messages(reader: pa.ipc.MessageReader) -> Iterator[pa.ipc.Message]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return
