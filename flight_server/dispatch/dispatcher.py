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
from flight_server.frames.requests import QualifiedName, Relation, encode_relations, statement_frame


class Resolution(Protocol):
    """Answers an engine process's questions about one statement, at its commit and for its caller."""

    def resolve(self, names: Sequence[QualifiedName]) -> Sequence[str]:
        """Return the relation of each dataset name. Raises NotFoundError."""

    def describe(self, relations: Sequence[str]) -> Mapping[str, Relation]:
        """Return columns and objects of relations that `resolve` named."""


@dataclass(frozen=True, slots=True)
class StatementRequest:
    """A statement, its bound parameters as FlightData messages, and names resolved ahead.

    `timeout` bounds the seconds that the engine process may work on it, None for no bound; the
    time in which a client reads does not count.
    """

    sql: str
    resolution: Resolution
    parameters: Sequence[bytes] = ()
    relations: Mapping[QualifiedName, str] = field(default_factory=dict)
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedStatement:
    """Schemas of a statement's rows and parameters, as encapsulated IPC messages, and what it names."""

    schema: bytes
    parameters: bytes
    names: tuple[QualifiedName, ...]


@dataclass(frozen=True, slots=True)
class InspectedObject:
    """What the footer of a Parquet object says; `schema` is an encapsulated IPC message."""

    rows: int
    bytes: int
    schema: builtins.bytes


class Upload:
    """Objects that an upload wrote; they are removed again when its `async with` block is refused."""

    def __init__(self, stored: Frame) -> None:
        self.objects = tuple(StoredObject(*parts) for parts in stored.fields["objects"])
        self.schema = stored.payload


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
            names = tuple(tuple(name) for name in answer.fields["names"])
            return PlannedStatement(schema, parameters, names)

    async def stream(self, request: StatementRequest) -> AsyncIterator[bytes]:
        """Run a statement; yield its FlightData messages. Closing the iterator cancels it.

        A statement whose engine process ended before it had answered anything is run once more.
        """
        has_answered = False
        try:
            async with aclosing(self._stream(request)) as messages:
                async for message in messages:
                    has_answered = True
                    yield message
        except EngineLostError:
            if has_answered:
                raise
        else:
            return
        async with aclosing(self._stream(request)) as messages:
            async for message in messages:
                yield message

    async def _stream(self, request: StatementRequest) -> AsyncGenerator[bytes, None]:
        async with self._pool.connection() as channel:
            await channel.send(_frame("execute", request))
            worker = _Worker(channel, self._pool, request)
            while (frame := await worker.answer()).kind == "data":
                yield frame.payload
            channel.done()

    @contextlib.asynccontextmanager
    async def upload(
        self, bucket: str, dataset_id: str, schema: bytes, messages: AsyncIterator[bytes]
    ) -> AsyncIterator[Upload]:
        """Relay an upload's FlightData messages; `schema` is the dataset's, empty when it has none yet."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("upload", {"bucket": bucket, "dataset_id": dataset_id}, schema))
            reply = asyncio.ensure_future(channel.receive())
            try:
                await _relay(channel, messages, reply)
                stored = await reply
            finally:
                reply.cancel()
                # After an error the engine process still reads what the client would have sent.
                channel.is_reusable = False
            try:
                yield Upload(stored)
            except (UnavailableError, InternalError, ResourceExhaustedError):
                # Whether the commit was made is not known: what is not in the catalog, sweep removes.
                raise
            except (LakehouseError, asyncio.CancelledError):
                await channel.send(Frame("discard"))
                raise
            with contextlib.suppress(EngineLostError):
                await channel.send(Frame("keep"))
                channel.done()

    async def inspect(self, objects: Sequence[tuple[str, str]]) -> list[InspectedObject | None]:
        """Read the footers of objects, (bucket, key); None for each that is missing."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("inspect", {"objects": list(objects)}))
            answer = await channel.receive()
            channel.done()
        found = zip(answer.fields["objects"], answer.parts(), strict=True)
        return [item and InspectedObject(item["rows"], item["bytes"], schema) for item, schema in found]

    async def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove objects that never became part of a commit."""
        async with self._pool.connection() as channel:
            await channel.send(Frame("delete", {"bucket": bucket, "keys": list(keys)}))
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
            await self._channel.send(_reply(frame, self._resolution))
        return frame


def _reply(question: Frame, resolution: Resolution) -> Frame:
    try:
        return _QUESTIONS[question.kind](question, resolution)
    except LakehouseError as error:
        return frames.error_frame(error)


def _resolved(question: Frame, resolution: Resolution) -> Frame:
    names = [tuple(name) for name in question.fields["names"]]
    return Frame("resolved", {"relations": list(resolution.resolve(names))})


def _described(question: Frame, resolution: Resolution) -> Frame:
    return encode_relations(resolution.describe(question.fields["relations"]))


_QUESTIONS = {"resolve": _resolved, "describe": _described}


async def _relay(channel: Channel, messages: AsyncIterator[bytes], reply: "asyncio.Future[Frame]") -> None:
    """Send an upload's messages until they end or the engine process has answered early."""
    while True:
        following = asyncio.ensure_future(anext(messages, None))
        try:
            await asyncio.wait((following, reply), return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                return
            message = following.result()
        finally:
            following.cancel()
            await asyncio.wait((following,))  # only then may the caller close the messages
        if message is None:
            await channel.send(Frame("finish"))
            return
        await channel.send(Frame("data", {}, message))
