"""What the services ask of engine processes: plan, stream, upload, inspect, delete."""

import asyncio
import builtins
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from flight_server.dispatch.channel import Channel, EngineLostError
from flight_server.dispatch.pool import EnginePool
from flight_server.domain.dataset import StoredObject
from flight_server.errors import (
    DeadlineExceededError,
    InternalError,
    LakehouseError,
    ResourceExhaustedError,
    UnavailableError,
)
from flight_server.frames import frame as frames
from flight_server.frames.frame import Frame
from flight_server.frames.requests import (
    Relation,
    SystemPage,
    TableName,
    decode_names,
    encode_relations,
    statement_frame,
)

_SCHEMA_MESSAGES = 1
"""How many messages come before the rows; they are the same each time."""


class Resolution(Protocol):
    """Answers an engine process's questions about one statement, at its commit and for its caller."""

    def resolve(self, names: Sequence[TableName]) -> Sequence[str]:
        """Return the relation of each dataset name. Raises NotFoundError."""

    def describe(self, relations: Sequence[str]) -> Mapping[str, Relation]:
        """Return columns and objects of relations that `resolve` named."""

    def rows(self, relation: str, after: int | None) -> SystemPage:
        """Return the next rows of a system table that `resolve` named; called in a thread."""


@dataclass(frozen=True, slots=True)
class StatementRequest:
    """A statement, its bound parameters as FlightData messages, and names resolved ahead.

    `timeout` bounds the seconds that the engine process may work on it, None for no bound; the
    time in which a client reads does not count.
    """

    sql: str
    resolution: Resolution
    parameters: Sequence[bytes] = ()
    relations: Mapping[TableName, str] = field(default_factory=dict)
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedStatement:
    """Schemas of a statement's rows and parameters, as encapsulated IPC messages, and what it names."""

    schema: bytes
    parameters: bytes
    names: tuple[TableName, ...]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it; `age` is the seconds since it was written."""

    key: str
    bytes: int
    age: float


@dataclass(frozen=True, slots=True)
class InspectedObject:
    """What the footer of a Parquet object says; `schema` is an encapsulated IPC message."""

    rows: int
    bytes: int
    schema: builtins.bytes


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """Where an upload's objects go: `schema` is the dataset's, empty when it has none yet.

    With `evolves` the two may have columns of their own; with `is_digested` its content is hashed.
    """

    bucket: str
    dataset_id: str
    schema: bytes
    evolves: bool = False
    is_digested: bool = False


class Upload:
    """Objects that an upload wrote; removed again when its `async with` block fails or refuses them."""

    def __init__(self, stored: Frame) -> None:
        self.objects = tuple(StoredObject(*parts) for parts in stored.fields["objects"])
        self.digest: str = stored.fields["digest"]
        self.schema = stored.payload
        self.is_refused = False

    def refuse(self) -> None:
        """Have the objects removed: nothing will name them."""
        self.is_refused = True


class Dispatcher:
    """Sends requests to the engine process of a grant set; there is one grant set today."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool

    async def start(self) -> None:
        """Start the engine processes."""
        await self._pool.start()

    async def stop(self) -> None:
        """End the engine processes."""
        await self._pool.stop()

    async def plan(self, request: StatementRequest) -> PlannedStatement:
        """Bind a statement without running it; once more when its engine process ended."""
        try:
            return await self._plan(request)
        except EngineLostError:
            return await self._plan(request)

    async def _plan(self, request: StatementRequest) -> PlannedStatement:
        async with self._pool.connection() as channel:
            await channel.send(_frame("plan", request))
            answer = await _Worker(channel, self._pool, request).answer()
            channel.done()
            schema, parameters = answer.parts()
            return PlannedStatement(schema, parameters, tuple(decode_names(answer.fields["names"])))

    async def stream(self, request: StatementRequest) -> AsyncIterator[bytes]:
        """Run a statement; yield its FlightData messages. Closing the iterator cancels it.

        A statement whose engine process ended before it had sent a row is run once more.
        """
        sent = 0
        try:
            async with aclosing(self._stream(request)) as messages:
                async for message in messages:
                    yield message
                    sent += 1
        except EngineLostError:
            if sent > _SCHEMA_MESSAGES:
                raise
        else:
            return
        async with aclosing(self._stream(request)) as messages:
            async for message in messages:
                if sent == 0:
                    yield message
                sent = max(0, sent - 1)

    async def _stream(self, request: StatementRequest) -> AsyncGenerator[bytes, None]:
        async with self._pool.connection() as channel:
            await channel.send(_frame("execute", request))
            worker = _Worker(channel, self._pool, request)
            while (frame := await worker.answer()).kind == "data":
                yield frame.payload
            channel.done()

    @contextlib.asynccontextmanager
    async def upload(self, request: UploadRequest, messages: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Relay an upload's FlightData messages and have them written as objects."""
        fields = {
            "bucket": request.bucket,
            "dataset_id": request.dataset_id,
            "evolves": request.evolves,
            "is_digested": request.is_digested,
        }
        async with self._pool.connection() as channel:
            await channel.send(Frame("upload", fields, request.schema))
            upload = Upload(await _relayed(channel, messages, undo=Frame("discard")))
            try:
                yield upload
            except (UnavailableError, InternalError, ResourceExhaustedError):
                # Whether the commit was made is not known: what is not in the catalog, sweep removes.
                raise
            except (LakehouseError, asyncio.CancelledError):
                await channel.send(Frame("discard"))
                raise
            with contextlib.suppress(EngineLostError):
                await channel.send(Frame("discard" if upload.is_refused else "keep"))
                channel.done()

    async def digest(self, messages: AsyncIterator[bytes]) -> str:
        """Return the digest of an upload's content; nothing is decoded or written."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("digest"))
            digested: str = (await _relayed(channel, messages)).fields["digest"]
            channel.done()
            return digested

    async def inspect(self, objects: Sequence[tuple[str, str]]) -> builtins.list[InspectedObject | None]:
        """Read the footers of objects, (bucket, key); None for each that is missing."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("inspect", {"objects": [*objects]}))
            answer = await channel.receive()
            channel.done()
        found = zip(answer.fields["objects"], answer.parts(), strict=True)
        return [item and InspectedObject(item["rows"], item["bytes"], schema) for item, schema in found]

    async def types(self, schema: builtins.bytes) -> tuple[builtins.bytes, list[str]]:
        """Return the schema that SQL gives columns of a schema, and DuckDB's names of their types."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("types", {}, schema))
            answer = await channel.receive()
            channel.done()
        return answer.payload, answer.fields["names"]

    async def list(self, bucket: str, key: str) -> AsyncGenerator[builtins.list[ListedObject], None]:
        """List the object of a key, or all below it when it is a folder, in pages."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("list", {"bucket": bucket, "key": key}))
            while (frame := await channel.receive()).kind == "page":
                yield [ListedObject(*item) for item in frame.fields["objects"]]
            channel.done()

    async def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove objects that never became part of a commit."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("delete", {"bucket": bucket, "keys": [*keys]}))
            await channel.receive()
            channel.done()


def _frame(kind: str, request: StatementRequest) -> Frame:
    return statement_frame(kind, request.sql, request.relations, request.parameters)


class _Worker:
    """An engine process at work on a statement: answers its questions and keeps its time."""

    def __init__(self, channel: Channel, pool: EnginePool, request: StatementRequest) -> None:
        self._channel = channel
        self._pool = pool
        self._resolution = request.resolution
        self._timeout = request.timeout
        self._worked = 0.0

    async def answer(self) -> Frame:
        """Receive the next frame that is not a question. Raises DeadlineExceededError."""
        if self._timeout is None:
            return await self._next()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout - self._worked):
                return await self._next()
        except TimeoutError as error:
            self._pool.end_overdue(self._channel)
            raise DeadlineExceededError(f"the statement took longer than {self._timeout:g} s") from error
        finally:
            self._worked += time.monotonic() - began

    async def _next(self) -> Frame:
        while (frame := await self._channel.receive()).kind in _QUESTIONS:
            await self._channel.send(await _reply(frame, self._resolution))
        return frame


async def _reply(question: Frame, resolution: Resolution) -> Frame:
    try:
        return await _QUESTIONS[question.kind](question, resolution)
    except LakehouseError as error:
        return frames.error_frame(error)


async def _resolved(question: Frame, resolution: Resolution) -> Frame:
    names = decode_names(question.fields["names"])
    return Frame("resolved", {"relations": list(resolution.resolve(names))})


async def _described(question: Frame, resolution: Resolution) -> Frame:
    return encode_relations(resolution.describe(question.fields["relations"]))


async def _rows(question: Frame, resolution: Resolution) -> Frame:
    page = await asyncio.to_thread(resolution.rows, question.fields["relation"], question.fields["after"])
    return Frame("page", {"next": page.following}, page.stream)


_QUESTIONS = {"resolve": _resolved, "describe": _described, "rows": _rows}


async def _relayed(channel: Channel, messages: AsyncIterator[bytes], undo: Frame | None = None) -> Frame:
    """Send an upload's messages and return the engine process's answer, which may come early.

    A caller that goes away after they have ended has `undo` sent: the engine process believes them complete.
    """
    reply = asyncio.ensure_future(channel.receive())
    sending = asyncio.ensure_future(_send(channel, messages))
    try:
        await asyncio.wait((sending, reply), return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            await sending
        return await reply
    except asyncio.CancelledError:
        if undo is not None and sending.done() and not sending.cancelled() and not sending.exception():
            await channel.send(undo)
        raise
    finally:
        reply.cancel()
        sending.cancel()
        # Only when it has ended may the caller close the messages.
        await asyncio.gather(sending, return_exceptions=True)
        # After an error the engine process still reads what the client would have sent.
        channel.is_reusable = False


async def _send(channel: Channel, messages: AsyncIterator[bytes]) -> None:
    async for message in messages:
        await channel.send(Frame("data", {}, message))
    await channel.send(Frame("finish"))
