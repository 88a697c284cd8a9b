"""FlightData framed by hand: bytes ↔ parts, without a protobuf object for each batch.

Source: `FlightData` in Flight.proto (1 `flight_descriptor`, 2 `data_header`, 3 `app_metadata`,
1000 `data_body`) and the encapsulated message format of the Arrow columnar specification.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import pyarrow as pa

from flight_server.errors import InvalidArgumentError, ResourceExhaustedError

MAX_OUTGOING_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""Largest message we send: default gRPC clients refuse more than 4 MiB."""

MAX_ROW_BYTES = 256 * 1024 * 1024
"""Largest message that a single row may make, which no slicing brings below that."""

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
    """Frames the record batches of one stream in slices below `MAX_OUTGOING_BYTES`; no row is split.

    Dictionaries travel before the first batch that needs them, and again when they have changed.
    `compression` is that of IPC: lz4, zstd, or None.
    """

    def __init__(self, schema: pa.Schema, compression: str | None = None) -> None:
        is_plain = compression is None and not any(_has_dictionary(field.type) for field in schema)
        self._encode = _plain if is_plain else _Writer(schema, compression).encode

    def frame(self, batch: pa.RecordBatch) -> Iterator[Pieces]:
        """Frame one batch. Raises ResourceExhaustedError for a row that is larger than any message."""
        for part in _parts(batch):
            yield from self._encode(part)


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into slices that fit a message, or hold one row."""
    if batch.nbytes <= MAX_OUTGOING_BYTES // 2:  # what stands around the values is not more than they
        yield batch
        return
    size, rows = pa.ipc.get_record_batch_size(batch), batch.num_rows
    if size <= MAX_OUTGOING_BYTES:
        yield batch
    elif rows > 1:
        parts = min(rows, size // (MAX_OUTGOING_BYTES * 9 // 10) + 1)
        step = -(-rows // parts)
        for start in range(0, rows, step):
            yield from _parts(batch.slice(start, step))
    elif size > MAX_ROW_BYTES:
        raise ResourceExhaustedError(
            f"a row takes {size} bytes, more than {MAX_ROW_BYTES}: "
            "select fewer columns, or parts of the values"
        )
    else:
        yield batch


def _plain(batch: pa.RecordBatch) -> Iterator[Pieces]:
    view = memoryview(batch.serialize())
    header = encapsulated_header(view)
    yield pieces(header, view[8 + len(header) :])


class _Writer:
    """Encodes batches as one IPC stream, which keeps track of its dictionaries."""

    def __init__(self, schema: pa.Schema, compression: str | None) -> None:
        self._written = _Written()
        options = pa.ipc.IpcWriteOptions(compression=cast("Any", compression))
        self._writer = pa.ipc.new_stream(cast("Any", self._written), schema, options=options)

    def encode(self, batch: pa.RecordBatch) -> Iterator[Pieces]:
        self._writer.write_batch(batch)
        reader = pa.ipc.MessageReader.open_stream(self._written.take())
        while True:
            try:
                message = reader.read_next_message()
            except StopIteration:
                return
            if message.type != "schema":  # which the stream has had already
                yield pieces(memoryview(message.metadata), memoryview(message.body or b""))


class _Written:
    """The file that a writer writes to."""

    closed = False

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Keep what is written until it is taken."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        taken = b"".join(self._held)
        self._held.clear()
        return taken
