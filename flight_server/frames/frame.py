"""One frame: u32 header size, u32 payload size, a JSON header, a raw payload; never pickle.

A request and everything said about it stay on one connection until its end frame, so the
socket is the back-pressure. Closing the connection cancels whatever runs on it.
"""

import io
import json
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flight_server.errors import BY_NAME, InternalError, LakehouseError
from flight_server.frames.flight_data import Pieces

_SIZES = struct.Struct("<II")
_MAX_HEADER_BYTES = 256 * 1024 * 1024
_MAX_PAYLOAD_BYTES = 1024 * 1024 * 1024
_MAX_GATHERED = 512
_JOINED_BYTES = 64 * 1024
_KIND = "frame"
"""Up to this size a copy costs less than a second system call."""

SOCKET_BYTES = 2 * 1024 * 1024
"""What a sender may have on the way, so that both sides work at the same time; a kernel may allow less."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frame:
    """What one side says: a kind, JSON fields and raw bytes."""

    kind: str
    fields: Fields = field(default_factory=dict)
    payload: bytes = b""

    def parts(self) -> list[bytes]:
        """Split the payload by the sizes that `join_parts` put into the fields."""
        out, at = [], 0
        for size in self.fields["sizes"]:
            out.append(self.payload[at : at + size])
            at += size
        return out


def with_parts(kind: str, fields: Fields, parts: Iterable[bytes]) -> Frame:
    """Build a frame whose payload holds several byte strings."""
    held = list(parts)
    return Frame(kind, fields | {"sizes": [len(part) for part in held]}, b"".join(held))


def error_frame(error: LakehouseError) -> Frame:
    """Build the frame in which an error crosses to the other side."""
    return Frame("error", {"error": type(error).__name__, "message": error.message})


def raise_error(fields: Fields) -> None:
    """Raise the error that an `error` frame holds; an unknown class is an InternalError."""
    raise BY_NAME.get(str(fields.get("error")), InternalError)(str(fields.get("message", "")))


def _head(kind: str, fields: Fields, payload_size: int) -> bytes:
    header = json.dumps({_KIND: kind, **fields}, separators=(",", ":")).encode()
    return _SIZES.pack(len(header), payload_size) + header


def encode(frame: Frame) -> list[bytes]:
    """Return a frame's bytes; a large payload stands for itself, uncopied."""
    head = _head(frame.kind, frame.fields, len(frame.payload))
    return [head + frame.payload] if len(frame.payload) <= _JOINED_BYTES else [head, frame.payload]


def _decode(header: bytes | memoryview, payload: bytes) -> Frame:
    fields = json.loads(bytes(header))
    return Frame(fields.pop(_KIND), fields, payload)


def _sizes(prefix: bytes | memoryview) -> tuple[int, int]:
    header_size, payload_size = _SIZES.unpack(prefix)
    if header_size > _MAX_HEADER_BYTES or payload_size > _MAX_PAYLOAD_BYTES:
        raise InternalError("a frame between gateway and engine process is larger than allowed")
    return header_size, payload_size


class Arrival:
    """A frame that has arrived, not decoded yet; `size` counts the bytes of its payload."""

    def __init__(self, header: bytes, payload: io.BytesIO, size: int) -> None:
        self._header = header
        self._payload = payload
        self.size = size

    def frame(self) -> Frame:
        """Decode it; a payload that nobody receives into any more is not copied."""
        return _decode(self._header, self._payload.getvalue())


class _Filling:
    """A payload that is received where it stays: `bytes` cannot be written, those of BytesIO can."""

    def __init__(self, header: bytes, size: int, begun: memoryview) -> None:
        file = io.BytesIO()
        file.seek(size - 1)
        file.write(b"\0")
        self.arrival = Arrival(header, file, size)
        place = file.getbuffer()
        place[: len(begun)] = begun
        self.rest = place[len(begun) :]


class FrameBuffer:
    """Cuts what is received into frames; large payloads go straight to their place.

    Receive into `space()`, then say `received(count)`.
    """

    def __init__(self) -> None:
        self._scratch = bytearray(_JOINED_BYTES)
        self._end = 0
        self._filling: _Filling | None = None

    def space(self) -> memoryview:
        """Return where to receive; let go of it before the next call."""
        return self._filling.rest if self._filling else memoryview(self._scratch)[self._end :]

    def received(self, count: int) -> Iterator[Arrival]:
        """Yield the frames that so many more bytes complete. Raises InternalError when one is too large."""
        if self._filling is None:
            self._end += count
            yield from self._cut()
            return
        self._filling.rest = self._filling.rest[count:]
        if not self._filling.rest:
            yield self._filling.arrival
            self._filling = None

    def _cut(self) -> Iterator[Arrival]:
        start, view = 0, memoryview(self._scratch)[: self._end]
        while len(view) - start >= _SIZES.size:
            header_size, payload_size = _sizes(view[start : start + _SIZES.size])
            at = start + _SIZES.size + header_size
            if at > len(view):
                break
            header, payload = bytes(view[at - header_size : at]), view[at : at + payload_size]
            start = at + len(payload)
            if len(payload) == payload_size:
                yield Arrival(header, io.BytesIO(payload), payload_size)
            else:
                self._filling = _Filling(header, payload_size, payload)
        self._keep(view[start:])

    def _keep(self, rest: memoryview) -> None:
        """Move the beginning of a frame to the front, and make room for its header."""
        held = bytes(rest)
        self._end = len(held)
        needed = _SIZES.size + _sizes(held[: _SIZES.size])[0] if self._end >= _SIZES.size else 0
        if self._end or len(self._scratch) > _JOINED_BYTES:
            self._scratch = bytearray(max(_JOINED_BYTES, needed))
            self._scratch[: self._end] = held


class FrameSocket:
    """The blocking end of a connection, in an engine process; used by one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)

    def fileno(self) -> int:
        """Return the descriptor, for a watcher."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def receive(self) -> Frame | None:
        """Read one frame, None when the other side has closed."""
        prefix = self._exactly(_SIZES.size)
        if prefix is None:
            return None
        header_size, payload_size = _sizes(prefix)
        header, payload = self._exactly(header_size), self._exactly(payload_size)
        if header is None or payload is None:
            return None
        return _decode(header, payload)

    def _exactly(self, size: int) -> bytes | None:
        held = self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        while len(held) < size:  # a signal, or the end
            more = self._socket.recv(size - len(held), socket.MSG_WAITALL)
            if not more:
                return None
            held += more
        return held

    def send(self, frame: Frame) -> None:
        """Send one frame."""
        self._send_all([*encode(frame)])

    def send_gathered(self, messages: Iterable[tuple[str, Pieces]], last: Frame | None = None) -> None:
        """Send frames without fields, (kind, payload in pieces), in few system calls, copying nothing.

        A `last` frame follows them.
        """
        gathered: Pieces = []
        for kind, payload in messages:
            gathered.append(_head(kind, {}, sum(len(piece) for piece in payload)))
            gathered.extend(payload)
            if len(gathered) > _MAX_GATHERED:
                self._send_all(gathered)
                gathered = []
        self._send_all([*gathered, *encode(last)] if last else gathered)

    def _send_all(self, gathered: Pieces) -> None:
        views = [memoryview(piece).cast("B") for piece in gathered if len(piece)]
        while views:
            sent = self._socket.sendmsg(views)
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]
