"""What the services ask of an engine process: plan, stream, upload, inspect, delete."""

import builtins
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from flight_server.dispatch.channel import Channel, EngineLostError
from flight_server.dispatch.pool import Leases
from flight_server.dispatch.relay import Upload, judged, relayed
from flight_server.dispatch.statements import (
    Answer,
    DoneStatement,
    PlannedStatement,
    SeveralStatements,
    StatementRequest,
    Worker,
    statement_frame,
)
from flight_server.dispatch.vectors import VectorEngine
from flight_server.domain import faults
from flight_server.domain.session import Holding
from flight_server.frames.changes import decode_changes
from flight_server.frames.frame import Frame
from flight_server.frames.requests import (
    EngineFacts,
    Relation,
    decode_facts,
    decode_holdings,
    decode_names,
    decode_verb,
    encode_relations,
)

_NOTHING_DONE = "the engine process ended before it had run this statement: nothing was changed; try again"

_SCHEMA_MESSAGES = 1
"""How many messages come before the rows; they are the same each time."""


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

    With `evolves` the two may have columns of their own; with `is_digested` its content is hashed. The
    objects may have `room` bytes, None for any number.
    """

    bucket: str
    dataset_id: str
    schema: bytes
    evolves: bool = False
    is_digested: bool = False
    room: int | None = None


@dataclass(frozen=True, slots=True)
class CompactRequest:
    """Objects of one bucket whose rows are to be written anew, in that bucket, with the relation's schema.

    `sort_by` are columns; an object that has `object_bytes` is closed, and another begun.
    """

    bucket: str
    dataset_id: str
    relation: Relation
    sort_by: tuple[str, ...]
    object_bytes: int

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets in which the objects lie, and the one in which the new ones will."""
        found = (bucket for group in self.relation.groups for bucket, _ in group.objects)
        return tuple(dict.fromkeys((self.bucket, *found)))


class Engine:
    """The engine process of one grant set, for one caller; it is there when it is first asked."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.vectors = VectorEngine(leases)

    async def plan(self, request: StatementRequest) -> PlannedStatement:
        """Bind a statement without running it; once more when its engine process ended."""
        try:
            answer = await self._plan(request, runs=False)
        except EngineLostError:
            answer = await self._plan(request, runs=False)
        assert isinstance(answer, PlannedStatement)  # noqa: S101 - nothing is done unless asked for
        return answer

    async def run(self, request: StatementRequest) -> Answer:
        """Bind a query, or run a statement that has effects; one of several is to be sent alone.

        Of those whose engine process ended meanwhile only queries are sent again, with the time that is left.
        """
        try:
            return await self._plan(request, runs=True)
        except EngineLostError as error:
            planned = await self.plan(request)
            if planned.has_effects:
                raise EngineLostError(_NOTHING_DONE) from error
            return planned

    async def _plan(self, request: StatementRequest, runs: bool) -> Answer:
        frame = statement_frame("plan", request)
        frame.fields.update(runs=runs, expected=request.expected)
        async with self._working(request) as channel:
            await channel.send(frame)
            answer = await Worker(channel, self._leases, request).answer()
            if answer.kind == "done":
                has_state = bool(answer.fields["holdings"])
                self._leases.keeps(channel, request.session.id, has_state=has_state)
            changes = decode_changes(answer) if answer.kind == "done" else ()
            if changes and request.targets is not None:
                faults.reach(faults.Place.STATEMENT_STORED)
                async with judged(channel) as verdict:
                    await request.targets.record(changes)
                    verdict.is_made = True
                    faults.reach(faults.Place.STATEMENT_RECORDED)
            else:
                channel.done()
        if answer.kind == "several":
            return SeveralStatements(tuple(answer.fields["texts"]))
        fields, parts = answer.fields, answer.parts()
        if answer.kind == "done":
            verb, holdings = decode_verb(fields["verb"]), decode_holdings(fields["holdings"])
            return DoneStatement(fields["count"], verb, tuple(parts[: fields["messages"]]), holdings)
        names = tuple(decode_names(fields["names"]))
        said = [fields[name] for name in ("sql", "digest", "is_update", "is_shared", "has_effects")]
        return PlannedStatement(parts[0], parts[1], names, *said)

    async def settle(self, session_id: str, commit: bool) -> tuple[Holding, ...]:
        """End a transaction in which a session changed temporary tables; return what it keeps now."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("settle", {"session": session_id, "commit": commit}))
            holdings = decode_holdings((await channel.receive()).fields["holdings"])
            channel.done()
            self._leases.keeps(channel, session_id, has_state=bool(holdings))
        return holdings

    async def forget(self, session_id: str) -> None:
        """Drop what a session keeps in the engine process."""
        async with self._leases.connection() as channel:
            self._leases.keeps(channel, session_id, has_state=False)
            await channel.send(Frame("forget", {"session": session_id}))
            await channel.receive()
            channel.done()

    async def _ask(self, question: Frame) -> Frame:
        async with self._leases.connection() as channel:
            await channel.send(question)
            answer = await channel.receive()
            channel.done()
        return answer

    async def stream(self, request: StatementRequest) -> AsyncGenerator[bytes, None]:
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
        async with self._working(request) as channel:
            await channel.send(statement_frame("execute", request))
            worker = Worker(channel, self._leases, request)
            while (frame := await worker.answer()).kind == "data":
                yield frame.payload
            channel.done()
            request.execution.rows = frame.fields["rows"]

    @contextlib.asynccontextmanager
    async def _working(self, request: StatementRequest) -> AsyncIterator[Channel]:
        """Lease a connection for a statement; cancelling its execution closes it."""
        async with self._leases.connection() as channel:
            with request.execution.stopped_by(channel.cancel):
                yield channel

    async def progress(self, query_id: str) -> float | None:
        """Return how much of a statement is done, 0 to 1, None when that is not known."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("progress", {"query": query_id}))
            answer = await channel.receive()
            channel.done()
        done: float | None = answer.fields["done"]
        return done

    @contextlib.asynccontextmanager
    async def upload(self, request: UploadRequest, messages: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Relay an upload's FlightData messages and have them written as objects."""
        fields = {
            "bucket": request.bucket,
            "dataset_id": request.dataset_id,
            "evolves": request.evolves,
            "is_digested": request.is_digested,
            "room": request.room,
        }
        async with self._leases.connection() as channel:
            await channel.send(Frame("upload", fields, request.schema))
            upload = Upload(await relayed(channel, messages, undo=Frame("discard")))
            async with judged(channel) as verdict:
                yield upload
                verdict.is_made = not upload.is_refused

    @contextlib.asynccontextmanager
    async def compact(self, request: CompactRequest, tell: Callable[[int], None]) -> AsyncIterator[Upload]:
        """Have the rows of objects written as fewer ones; `tell` gets the rows done from time to time."""
        fields = {
            "bucket": request.bucket,
            "dataset_id": request.dataset_id,
            "sort_by": [*request.sort_by],
            "object_bytes": request.object_bytes,
        }
        relation = encode_relations({request.dataset_id: request.relation})
        async with self._leases.connection() as channel:
            await channel.send(Frame("compact", relation.fields | fields, relation.payload))
            while (answer := await channel.receive()).kind == "progress":
                tell(answer.fields["rows"])
            upload = Upload(answer)
            async with judged(channel) as verdict:
                yield upload
                verdict.is_made = not upload.is_refused

    async def digest(self, messages: AsyncIterator[bytes]) -> str:
        """Return the digest of an upload's content; nothing is decoded or written."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("digest"))
            digested: str = (await relayed(channel, messages)).fields["digest"]
            channel.done()
            return digested

    async def inspect(self, objects: Sequence[tuple[str, str]]) -> builtins.list[InspectedObject | None]:
        """Read the footers of objects, (bucket, key); None for each that is missing."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("inspect", {"objects": [*objects]}))
            answer = await channel.receive()
            channel.done()
        found = zip(answer.fields["objects"], answer.parts(), strict=True)
        return [item and InspectedObject(item["rows"], item["bytes"], schema) for item, schema in found]

    async def types(self, schema: builtins.bytes) -> tuple[builtins.bytes, list[str]]:
        """Return the schema that SQL gives columns of a schema, and DuckDB's names of their types."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("types", {}, schema))
            answer = await channel.receive()
            channel.done()
        return answer.payload, answer.fields["names"]

    async def facts(self) -> EngineFacts:
        """Return what DuckDB says about itself."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("facts"))
            answer = await channel.receive()
            channel.done()
        return decode_facts(answer)

    async def list(self, bucket: str, key: str) -> AsyncGenerator[builtins.list[ListedObject], None]:
        """List the object of a key, or all below it when it is a folder, in pages."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("list", {"bucket": bucket, "key": key}))
            while (frame := await channel.receive()).kind == "page":
                yield [ListedObject(*item) for item in frame.fields["objects"]]
            channel.done()

    async def missing(self, bucket: str, keys: Sequence[str]) -> builtins.list[str]:
        """Return those of the keys that lead to no object."""
        answer = await self._ask(Frame("missing", {"bucket": bucket, "keys": [*keys]}))
        found: builtins.list[str] = answer.fields["keys"]
        return found

    async def clear(self, bucket: str) -> None:
        """Remove the indexes of a bucket that is no more, and the empty folders of the server."""
        await self._ask(Frame("clear", {"bucket": bucket}))

    async def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove objects that never became part of a commit."""
        async with self._leases.connection() as channel:
            await channel.send(Frame("delete", {"bucket": bucket, "keys": [*keys]}))
            await channel.receive()
            channel.done()
