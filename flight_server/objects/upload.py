"""Reads the FlightData messages of an upload as validated record batches."""

from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa

from flight_server.errors import InvalidArgumentError
from flight_server.frames import flight_data
from flight_server.objects.schema import MAX_DECODED_BYTES


class _MessageFile:
    """The messages as the file of an IPC stream; bodies are handed on as views, not copied."""

    closed = False

    def __init__(self, messages: Iterator[bytes]) -> None:
        self._messages = messages
        self._views: deque[memoryview] = deque()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def read(self, size: int = -1) -> bytes | memoryview:
        while not self._views:
            message = next(self._messages, None)
            if message is None:
                return b""
            parts = flight_data.parse(message)
            if len(parts.header):
                self._views.append(memoryview(flight_data.encapsulate(parts.header)))
                if len(parts.body):
                    self._views.append(parts.body)
        if len(self._views[0]) < size:
            return self._gathered(size)
        taken = self._views[0][:size]
        if len(taken) == len(self._views[0]):
            self._views.popleft()
        else:
            self._views[0] = self._views[0][size:]
        return taken

    def _gathered(self, size: int) -> bytes:
        held = self._views.popleft().tobytes()
        rest = self.read(size - len(held))
        return held + bytes(rest)


class UploadReader:
    """Decodes an upload; every batch is fully validated before anyone else touches it.

    Unvalidated bodies crash DuckDB and the Parquet writer, so nothing leaves here unchecked.
    """

    def __init__(self, messages: Iterator[bytes]) -> None:
        try:
            self._reader = pa.ipc.open_stream(cast("Any", _MessageFile(messages)))
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgumentError(f"the upload does not begin with an Arrow schema: {error}") from error
        self.schema: pa.Schema = self._reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the validated batches. Raises InvalidArgumentError."""
        while True:
            try:
                batch = self._reader.read_next_batch()
                batch.validate(full=True)
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                raise InvalidArgumentError(f"the upload holds a malformed Arrow message: {error}") from error
            if batch.nbytes > MAX_DECODED_BYTES:
                raise InvalidArgumentError(
                    f"a batch holds {batch.nbytes} bytes, more than {MAX_DECODED_BYTES}: send smaller batches"
                )
            yield batch
