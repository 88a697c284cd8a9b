"""One connection to an engine process, on the gateway's side."""

import asyncio
import contextlib
import socket
from collections import deque
from pathlib import Path
from typing import cast

from flight_server.domain.execution import CANCELLED
from flight_server.errors import CallCancelledError, UnavailableError
from flight_server.frames import frame as frames
from flight_server.frames.frame import Arrival, Frame, FrameBuffer

_READ_AHEAD_BYTES = 1024 * 1024
_WRITE_AHEAD_BYTES = 1024 * 1024
_GONE = "the engine process ended while it worked on this; try again"


class EngineLostError(UnavailableError):
    """The engine process ended before it had answered."""


class _Protocol(asyncio.BufferedProtocol):
    """Receives frames, one large one ahead at most, and tells when what is sent has gone out.

    `failure` is set when the connection has ended, `is_cancelled` when we ended it.
    """

    def __init__(self) -> None:
        self._arrivals: deque[Arrival] = deque()
        self.failure: Exception | None = None
        self.is_cancelled = False
        self.ended = asyncio.Event()
        self._buffer = FrameBuffer()
        self._is_dropping = False
        self._held_bytes = 0
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, frames.SOCKET_BYTES)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer.space()

    def buffer_updated(self, count: int) -> None:
        for arrival in self._buffer.received(count):
            if not self._is_dropping:
                self._arrivals.append(arrival)
                self._held_bytes += arrival.size
        if self._arrivals:
            self._arrived.set()
        if self._held_bytes >= _READ_AHEAD_BYTES:
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.failure = error or ConnectionResetError()
        for event in (self.ended, self._arrived, self._drained):
            event.set()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    async def drain(self) -> None:
        if not self._drained.is_set():
            await self._drained.wait()
        self.check()

    async def receive(self) -> Frame:
        while not self._arrivals:
            self.check()
            self._arrived.clear()
            await self._arrived.wait()
        arrival = self._arrivals.popleft()
        was_full = self._held_bytes >= _READ_AHEAD_BYTES
        self._held_bytes -= arrival.size
        if was_full and self._held_bytes < _READ_AHEAD_BYTES:
            self.transport.resume_reading()
        return arrival.frame()

    def check(self) -> None:
        if self.is_cancelled:
            raise CallCancelledError(CANCELLED)
        if self.failure is not None:
            raise EngineLostError(_GONE) from self.failure

    def cancel(self) -> None:
        """Close, and let whoever waits here know why."""
        self.is_cancelled = True
        self._arrivals.clear()
        self.transport.abort()
        self._arrived.set()
        self._drained.set()

    def drop(self) -> None:
        """Forget what has arrived and whatever will."""
        self._is_dropping = True
        self._arrivals.clear()
        self._held_bytes = 0
        self.transport.resume_reading()


class Channel:
    """Frames to and from an engine process; one request at a time.

    `is_reusable` tells whether the last request was answered to its end, be it by an error;
    `is_detached` that somebody else closes the connection.
    """

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self.is_reusable = True
        self.is_detached = False

    @classmethod
    async def open(cls, path: Path) -> "Channel":
        """Connect. Raises EngineLostError when the engine process is gone."""
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_unix_connection(_Protocol, str(path))
        except OSError as error:
            raise EngineLostError("the engine process is gone; try again") from error
        return cls(protocol)

    def close(self) -> None:
        """Close the connection; what runs on it is cancelled."""
        self._transport.close()

    def cancel(self) -> None:
        """Close the connection under whoever waits for an answer here, who gets CallCancelledError."""
        self.is_reusable = False
        self._protocol.cancel()

    async def ended(self, seconds: float) -> bool:
        """Cancel what runs here, close, and tell whether it ended within some seconds."""
        try:
            with contextlib.suppress(OSError):
                self._transport.write_eof()
            self._protocol.drop()
            async with asyncio.timeout(seconds):
                await self._protocol.ended.wait()
        except TimeoutError:
            return False
        finally:
            self.close()
        return True

    async def send(self, frame: Frame) -> None:
        """Send a frame, waiting while the engine process is busy with earlier ones."""
        self.is_reusable = False
        self._protocol.check()
        if self._transport.is_closing():
            raise EngineLostError(_GONE)
        for piece in frames.encode(frame):
            self._transport.write(piece)
        await self._protocol.drain()

    async def receive(self) -> Frame:
        """Receive a frame; an `error` frame is raised as the error that it holds."""
        frame = await self._protocol.receive()
        if frame.kind == "error":
            self.is_reusable = True
            frames.raise_error(frame.fields)
        return frame

    def done(self) -> None:
        """Say that the request was answered to its end."""
        self.is_reusable = not self._protocol.is_cancelled
