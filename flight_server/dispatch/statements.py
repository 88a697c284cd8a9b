"""Statements on their way to an engine process: what is asked, what comes back, who answers its questions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from flight_server.dispatch.channel import Channel
from flight_server.dispatch.pool import Leases
from flight_server.domain.execution import Execution
from flight_server.domain.session import Holding, StatementSession, Verb
from flight_server.domain.vector import IndexRecord
from flight_server.errors import DeadlineExceededError, InternalError, LakehouseError
from flight_server.frames import frame as frames
from flight_server.frames.changes import (
    Namespace,
    StatementChange,
    Target,
    Use,
    encode_namespace,
    encode_target,
)
from flight_server.frames.frame import Frame, with_parts
from flight_server.frames.requests import (
    Relation,
    SystemPage,
    TableName,
    decode_names,
    encode_relations,
    statement_fields,
)
from flight_server.frames.vectors import encode_indexes


class Resolution(Protocol):
    """Answers an engine process's questions about one statement, at its commit and for its caller."""

    def resolve(self, names: Sequence[TableName]) -> Sequence[str]:
        """Return the relation of each dataset name. Raises NotFoundError."""

    def qualify(self, names: Sequence[TableName]) -> Sequence[Sequence[str]]:
        """Return the full path of each dataset name. Raises NotFoundError."""

    def describe(self, relations: Sequence[str]) -> Mapping[str, Relation]:
        """Return columns and objects of relations that `resolve` named."""

    def rows(self, relation: str, after: int | None) -> SystemPage:
        """Return the next rows of a system table that `resolve` named; called in a thread."""

    def indexes(self, relation: str) -> Sequence[IndexRecord]:
        """Return the indexes that the dataset of a relation has now."""


class Targets(Protocol):
    """Answers for what a statement changes, and makes its changes last."""

    def target(self, path: Sequence[str], use: Use) -> Target:
        """Return what a name means that is to be changed, or where it is to be created."""

    def namespace(self, name: str) -> Namespace:
        """Return a schema that is to be made or dropped."""

    async def record(self, changes: Sequence[StatementChange]) -> None:
        """Commit or stage changes; what it raises says that nothing of them stays."""


@dataclass(frozen=True, slots=True)
class StatementRequest:
    """A statement, its bound parameters as FlightData messages, and names resolved ahead.

    `timeout` bounds the seconds that the engine process may work on it, None for no bound; the
    time in which a client reads does not count. `expected` is the digest of the columns that the statement
    was prepared with. `execution` ends it from elsewhere. Of a statement
    with a `query_id` the engine process tells its progress. `compression` is that of its rows on the way.
    Without `targets` it can change no dataset.
    """

    sql: str
    resolution: Resolution
    parameters: Sequence[bytes] = ()
    relations: Mapping[TableName, str] = field(default_factory=dict)
    timeout: float | None = None
    session: StatementSession = field(default_factory=StatementSession)
    expected: str = ""
    execution: Execution = field(default_factory=Execution)
    query_id: str | None = None
    compression: str | None = None
    targets: Targets | None = None

    @property
    def text_key(self) -> object:
        """What decides which datasets the text names: a search looks in the selected profile."""
        return self.sql, self.session.profile


@dataclass(frozen=True, slots=True)
class PlannedStatement:
    """Schemas of a statement's rows and parameters, as encapsulated IPC messages, and what it names.

    `sql` is the text to run, `digest` stands for its columns. A plan that is not `is_shared` holds in its
    session only. A statement that `has_effects` is an update unless it returns rows.
    """

    schema: bytes
    parameters: bytes
    names: tuple[TableName, ...]
    sql: str
    digest: str
    is_update: bool
    is_shared: bool
    has_effects: bool


@dataclass(frozen=True, slots=True)
class DoneStatement:
    """What a statement with effects did, or asks to be done: `verb`.

    `count` is of rows changed, `messages` are the rows that it returned, as FlightData messages with the
    schema first; `holdings` say what the session keeps in the engine process now.
    """

    count: int
    verb: Verb | None
    messages: tuple[bytes, ...]
    holdings: tuple[Holding, ...]


@dataclass(frozen=True, slots=True)
class SeveralStatements:
    """A text that holds several statements with effects, to be run one by one."""

    texts: tuple[str, ...]


Answer: TypeAlias = "PlannedStatement | DoneStatement | SeveralStatements"


def statement_frame(kind: str, request: StatementRequest) -> Frame:
    """Build a `plan` or `execute` request."""
    fields = statement_fields(request.sql, request.relations, request.session)
    frame = with_parts(kind, fields, request.parameters)
    if request.query_id is not None:
        frame.fields["query"] = request.query_id
    if request.compression is not None:
        frame.fields["compression"] = request.compression
    return frame


class Worker:
    """An engine process at work on a statement: answers its questions and keeps its time."""

    def __init__(self, channel: Channel, leases: Leases, request: StatementRequest) -> None:
        self._channel = channel
        self._leases = leases
        self._request = request
        self._timeout = request.timeout

    async def answer(self) -> Frame:
        """Receive the next frame that is not a question. Raises DeadlineExceededError."""
        if self._timeout is None:
            return await self._next()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout - self._request.execution.worked):
                return await self._next()
        except TimeoutError as error:
            self._leases.end_overdue(self._channel)
            raise DeadlineExceededError(
                f"the statement took longer than {self._timeout:g} s, the bound of its session or the server"
            ) from error
        finally:
            self._request.execution.worked += time.monotonic() - began

    async def _next(self) -> Frame:
        while (frame := await self._channel.receive()).kind in _QUESTIONS:
            await self._channel.send(await _reply(frame, self._request))
        return frame


async def _reply(question: Frame, request: StatementRequest) -> Frame:
    try:
        if question.kind in _OF_TARGETS:
            return await _OF_TARGETS[question.kind](question, _targets(request))
        return await _OF_RESOLUTION[question.kind](question, request.resolution)
    except LakehouseError as error:
        return frames.error_frame(error)


async def _resolved(question: Frame, resolution: Resolution) -> Frame:
    names = decode_names(question.fields["names"])
    return Frame("resolved", {"relations": list(resolution.resolve(names))})


async def _qualified(question: Frame, resolution: Resolution) -> Frame:
    names = decode_names(question.fields["names"])
    return Frame("qualified", {"paths": [list(path) for path in resolution.qualify(names)]})


async def _described(question: Frame, resolution: Resolution) -> Frame:
    return encode_relations(resolution.describe(question.fields["relations"]))


async def _rows(question: Frame, resolution: Resolution) -> Frame:
    page = await asyncio.to_thread(resolution.rows, question.fields["relation"], question.fields["after"])
    return Frame("page", {"next": page.following}, page.stream)


async def _indexed(question: Frame, resolution: Resolution) -> Frame:
    records = resolution.indexes(question.fields["relation"])
    return Frame("indexed", {"records": encode_indexes(records)})


def _targets(request: StatementRequest) -> Targets:
    if request.targets is None:
        raise InternalError("a statement that only reads has no target")
    return request.targets


async def _targeted(question: Frame, targets: Targets) -> Frame:
    path, use = question.fields["path"], Use(question.fields["use"])
    return encode_target(targets.target(path, use))


async def _named(question: Frame, targets: Targets) -> Frame:
    return encode_namespace(targets.namespace(question.fields["name"]))


_OF_RESOLUTION = {
    "resolve": _resolved,
    "qualify": _qualified,
    "describe": _described,
    "rows": _rows,
    "indexes": _indexed,
}
_OF_TARGETS = {"target": _targeted, "namespace": _named}
_QUESTIONS = {*_OF_RESOLUTION, *_OF_TARGETS}
