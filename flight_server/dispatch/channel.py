"""One connection to an engine process, on the gateway's side."""

import asyncio
from pathlib import Path

from flight_server.errors import UnavailableError
from flight_server.frames import frame as frames
from flight_server.frames.frame import Frame

_READ_AHEAD_BYTES = 1024 * 1024
_WRITE_AHEAD_BYTES = 1024 * 1024
_GONE = "the engine process ended while it worked on this; try again"
_DRAINED_BYTES = 1024 * 1024


class EngineLostError(UnavailableError):
    """The engine process ended before it had answered."""


class Channel:
    """Frames to and from an engine process; one request at a time.

    `is_reusable` tells whether the last request was answered to its end, be it by an error;
    `is_detached` that somebody else closes the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_reusable = True
        self.is_detached = False
        writer.transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)

    @classmethod
    async def open(cls, path: Path) -> "Channel":
        """Connect. Raises EngineLostError when the engine process is gone."""
        try:
            return cls(*await asyncio.open_unix_connection(path, limit=_READ_AHEAD_BYTES))
        except OSError as error:
            raise EngineLostError("the engine process is gone; try again") from error

    def close(self) -> None:
        """Close the connection; what runs on it is cancelled."""
        self._writer.close()

    async def ended(self, seconds: float) -> bool:
        """Cancel what runs here, close, and tell whether it ended within some seconds."""
        try:
            self._writer.write_eof()
            async with asyncio.timeout(seconds):
                while await self._reader.read(_DRAINED_BYTES):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.close()
        return True

    async def send(self, frame: Frame) -> None:
        """Send a frame, waiting while the engine process is busy with earlier ones."""
        self.is_reusable = False
        try:
            self._writer.write(frames.encode(frame))
            await self._writer.drain()
        except OSError as error:
            raise EngineLostError(_GONE) from error

    async def receive(self) -> Frame:
        """Receive a frame; an `error` frame is raised as the error that it holds."""
        try:
            frame = await frames.read(self._reader)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise EngineLostError(_GONE) from error
        if frame.kind == "error":
            self.is_reusable = True
            frames.raise_error(frame.fields)
        return frame

    def done(self) -> None:
        """Say that the request was answered to its end."""
        self.is_reusable = True
