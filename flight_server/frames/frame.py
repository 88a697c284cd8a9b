"""One frame: u32 header size, u32 payload size, a JSON header, a raw payload; never pickle.

A request and everything said about it stay on one connection until its end frame, so the
socket is the back-pressure. Closing the connection cancels whatever runs on it.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flight_server.errors import BY_NAME, InternalError, LakehouseError
from flight_server.frames.flight_data import Pieces

_SIZES = struct.Struct("<II")
_MAX_HEADER_BYTES = 256 * 1024 * 1024
_MAX_PAYLOAD_BYTES = 1024 * 1024 * 1024
_MAX_GATHERED = 512

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
    header = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode()
    return _SIZES.pack(len(header), payload_size) + header


def encode(frame: Frame) -> bytes:
    """Return a frame's bytes."""
    return _head(frame.kind, frame.fields, len(frame.payload)) + frame.payload


def _decode(header: bytes | memoryview, payload: bytes) -> Frame:
    fields = json.loads(bytes(header))
    return Frame(fields.pop("kind"), fields, payload)


def _sizes(prefix: bytes) -> tuple[int, int]:
    header_size, payload_size = _SIZES.unpack(prefix)
    if header_size > _MAX_HEADER_BYTES or payload_size > _MAX_PAYLOAD_BYTES:
        raise InternalError("a frame between gateway and engine process is larger than allowed")
    return header_size, payload_size


async def read(reader: asyncio.StreamReader) -> Frame:
    """Read one frame; raises asyncio.IncompleteReadError when the other side has closed."""
    header_size, payload_size = _sizes(await reader.readexactly(_SIZES.size))
    header = await reader.readexactly(header_size)
    return _decode(header, await reader.readexactly(payload_size) if payload_size else b"")


class FrameSocket:
    """The blocking end of a connection, in an engine process; used by one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

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
        held = bytearray(size)
        view = memoryview(held)
        at = 0
        while at < size:
            count = self._socket.recv_into(view[at:])
            if count == 0:
                return None
            at += count
        return bytes(held)

    def send(self, frame: Frame) -> None:
        """Send one frame."""
        self._socket.sendall(encode(frame))

    def send_gathered(self, messages: Iterable[tuple[str, Pieces]]) -> None:
        """Send frames without fields, (kind, payload in pieces), in few system calls, copying nothing."""
        gathered: Pieces = []
        for kind, payload in messages:
            gathered.append(_head(kind, {}, sum(len(piece) for piece in payload)))
            gathered.extend(payload)
            if len(gathered) > _MAX_GATHERED:
                self._send_all(gathered)
                gathered = []
        self._send_all(gathered)

    def _send_all(self, gathered: Pieces) -> None:
        views = [memoryview(piece).cast("B") for piece in gathered if len(piece)]
        while views:
            sent = self._socket.sendmsg(views)
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]
