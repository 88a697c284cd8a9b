"""Reads the FlightData messages of an upload as validated record batches."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pyarrow as pa

from flight_server.errors import InvalidArgumentError, ResourceExhaustedError
from flight_server.frames import flight_data
from flight_server.objects.decoded import decoded_bytes
from flight_server.objects.messages import MAX_DECODED_BYTES, MessageGuard


class _MessageFile:
    """The messages as the file of an IPC stream; bodies are handed on as views, not copied."""

    closed = False

    def __init__(self, messages: Iterator[bytes], guard: MessageGuard) -> None:
        self._messages = messages
        self._guard = guard
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
                self._guard.check(parts.header, parts.body)
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


class ContentDigest:
    """Hashes the Arrow messages of an upload as they pass, schema included, whatever they travel in."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def value(self) -> str:
        """The digest of what has passed, in hexadecimal."""
        return self._hash.hexdigest()

    def following(self, messages: Iterable[bytes]) -> Iterator[bytes]:
        """Hand the messages on. Raises InvalidArgumentError for one that is not FlightData."""
        for message in messages:
            parts = flight_data.parse(message)
            self._hash.update(len(parts.header).to_bytes(8, "little"))
            self._hash.update(parts.header)
            self._hash.update(parts.body)
            yield message


class UploadReader:
    """Decodes an upload; every batch is fully validated before anyone else touches it.

    Unvalidated bodies crash DuckDB and the Parquet writer, so nothing leaves here unchecked.
    `decoded_bytes` are those of all batches so far, in the types that they are stored as.
    """

    def __init__(self, messages: Iterator[bytes]) -> None:
        guard = MessageGuard()
        try:
            self._reader = pa.ipc.open_stream(cast("Any", _MessageFile(messages, guard)))
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgumentError(f"the upload does not begin with an Arrow schema: {error}") from error
        self.schema: pa.Schema = self._reader.schema
        guard.expect(self.schema)
        self.decoded_bytes = 0

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
            size = decoded_bytes(batch)
            if size > MAX_DECODED_BYTES:
                raise ResourceExhaustedError(
                    f"a batch of {batch.num_rows} rows becomes {size} bytes when it is stored, "
                    f"more than {MAX_DECODED_BYTES}: send smaller batches"
                )
            self.decoded_bytes += size
            yield batch
