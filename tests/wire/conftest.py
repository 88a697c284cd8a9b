"""A real FlightServer over small services that answer from memory."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from flight_server.app import build_routes
from flight_server.domain.bucket import Bucket, BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.domain.identity import Identity
from flight_server.domain.pattern import like
from flight_server.domain.statement import (
    IngestResult,
    IngestTarget,
    Plan,
    PollStatus,
    PreparedStatement,
    SqlStatement,
)
from flight_server.errors import BY_NAME, InvalidArgumentError, NotFoundError
from flight_server.flight.interceptors.authentication import Authentication
from flight_server.flight.routes import Services
from flight_server.flight.server import Access, FlightServer, ServerOptions
from flight_server.frames.flight_data import BatchFramer, parse, schema_message
from flight_server.frames.requests import EngineFacts
from flight_server.services.cancel import CancelService
from flight_server.services.flights import Flight
from flight_server.services.handles import Handles
from flight_server.services.held import HeldMessages
from flight_server.services.live_calls import LiveCalls
from flight_server.services.metadata import MetadataService
from flight_server.services.queries import Queries
from flight_server.services.sessions import SessionService
from flight_server.services.sql_info import ServerFacts

TABLE = pa.table({"x": pa.array([1, 2, 3], pa.int64())})
SCHEMA = TABLE.schema.serialize().to_pybytes()
HANDLE = b"rows"


def run_statement(sql: str) -> None:
    """Fail as the statement says: `fail <error class> <message>`, or `bug`."""
    words = sql.split(maxsplit=2)
    if words[:1] == ["fail"]:
        raise BY_NAME[words[1]](words[2])
    if words == ["bug"]:
        raise RuntimeError("/srv/secret/place is broken")
    if not words:
        raise InvalidArgumentError("an empty statement")


async def drain(messages: AsyncIterator[bytes]) -> list[bytes]:
    return [message async for message in messages]


@dataclass
class MemoryQuery:
    calls: list[CallContext] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    async def plan(self, call: CallContext, statement: SqlStatement) -> Plan:
        sql = statement.sql
        self.calls.append(call)
        run_statement(sql)
        if sql == "sleep":
            try:
                await asyncio.sleep(30)
            finally:
                self.ended.set()
        return Plan(SCHEMA, b"endless" if sql == "endless" else HANDLE)

    async def plan_dataset(self, call: CallContext, path: Sequence[str]) -> Plan:
        self.calls.append(call)
        if path[-1] != "t":
            raise NotFoundError(f"no dataset {path[-1]!r}")
        return Plan(SCHEMA, HANDLE)

    async def schema(self, call: CallContext, statement: SqlStatement) -> bytes:
        run_statement(statement.sql)
        return SCHEMA

    async def update(self, call: CallContext, statement: SqlStatement) -> int:
        run_statement(statement.sql)
        return 7

    async def stream(self, call: CallContext, handle: bytes) -> AsyncIterator[bytes]:
        if handle not in (HANDLE, b"endless"):
            raise NotFoundError("no such handle")
        try:
            yield schema_message(SCHEMA)
            while True:
                for pieces in BatchFramer(TABLE.schema).frame(TABLE.to_batches()[0]):
                    yield b"".join(pieces)
                if handle != b"endless":
                    break
        finally:
            self.ended.set()


class MemoryPrepared:
    async def create(self, call: CallContext, statement: SqlStatement) -> PreparedStatement:
        sql = statement.sql
        run_statement(sql)
        is_update = sql.startswith("insert")
        parameters = pa.schema([("1", pa.int64())] if "?" in sql else []).serialize().to_pybytes()
        return PreparedStatement(sql.encode(), b"" if is_update else SCHEMA, parameters, is_update)

    async def bind(self, call: CallContext, handle: bytes, messages: AsyncIterator[bytes]) -> bytes:
        received = await drain(messages)
        return handle + b" bound %d" % len(received)

    async def plan(self, call: CallContext, handle: bytes) -> Plan:
        run_statement(handle.decode(errors="replace"))
        return Plan(SCHEMA, HANDLE)

    async def update(self, call: CallContext, handle: bytes, messages: AsyncIterator[bytes]) -> int:
        await drain(messages)
        return 5

    async def close(self, call: CallContext, handle: bytes) -> None:
        return None


@dataclass
class MemoryIngest:
    targets: list[IngestTarget] = field(default_factory=list)
    outcome: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    async def append(
        self, call: CallContext, target: IngestTarget, messages: AsyncIterator[bytes]
    ) -> IngestResult:
        self.targets.append(target)
        if target.dataset == "refused":
            raise InvalidArgumentError("refused at once")
        try:
            received = [message async for message in messages if len(parse(message).body)]
            await asyncio.sleep(0.05)
            self.outcome = "cancelled" if await call.has_left() else "complete"
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        finally:
            self.ended.set()
        return IngestResult(target.dataset, target.schema or call.bucket, 1, 2, 3, 4, len(received))


class MemoryTransactions:
    def begin(self, call: CallContext) -> bytes:
        return b"tx"

    async def end(self, call: CallContext, transaction_id: bytes, commit: bool) -> None:
        if transaction_id != b"tx":
            raise NotFoundError("no such transaction")


class MemoryFlights:
    async def flights(self, call: CallContext, criteria: str) -> AsyncIterator[Flight]:
        like(criteria)
        for flight in list[Flight]():
            yield flight


class MemoryTables:
    """Answers every metadata command with no rows."""

    async def _nothing(self, *_: object) -> AsyncIterator[bytes]:
        yield schema_message(SCHEMA)

    catalogs = db_schemas = tables = table_types = _nothing


async def engine_facts() -> EngineFacts:
    return EngineFacts(("select",), ("abs",), ("upper",), ("version",), ("now",), {0: (0, 1)})


class MemoryPolls:
    async def start(self, call: CallContext, plan: Plan) -> PollStatus:
        return PollStatus(plan)


class MemoryMigration:
    async def migrate(self, call: CallContext, dry_run: bool) -> dict[str, object]:
        return {"total": 0, "dry_run": dry_run}


class MemoryProfiles:
    """Knows the configured buckets alone."""

    def __init__(self, registry: BucketRegistry) -> None:
        self.registry = registry

    def refresh(self) -> None:
        """Find nothing new."""

    def select(self, identity: Identity, profile: str) -> None:
        """Load nothing."""


@dataclass(frozen=True)
class WireServer:
    """The running server and the services behind it."""

    port: int
    sessions: SessionService
    query: MemoryQuery
    ingest: MemoryIngest

    @property
    def uri(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"


REGISTRY = BucketRegistry(
    [
        Bucket("primary", "file:///primary", ("", "data", "local")),
        Bucket("testing", "file:///testing"),
        Bucket("profile:user", "file:///profile"),
    ]
)


def _build_server(options: ServerOptions) -> tuple[FlightServer, WireServer]:
    sessions = SessionService((b"old key", b"new key"), 60.0, 100_000, 100_000)
    query, ingest = MemoryQuery(), MemoryIngest()
    memory: Any = Services
    memory_query: Any = query
    profiles: Any = MemoryProfiles(REGISTRY)
    services = memory(
        query=query,
        prepared=MemoryPrepared(),
        ingest=ingest,
        transactions=MemoryTransactions(),
        migration=MemoryMigration(),
        metadata=MetadataService(ServerFacts(False, 60.0, 1024, 10), engine_facts),
        keys=None,
        temporary=ingest,
        compact=None,
        sweep=None,
        register=None,
        tables=MemoryTables(),
        flights=MemoryFlights(),
        cancel=CancelService(memory_query, Queries(), Handles((b"key",), HeldMessages(1024))),
        polls=MemoryPolls(),
        sessions=sessions,
        session_options=None,
        profiles=profiles,
        indexes=None,
        batches=None,
        embedding=None,
        trials=None,
    )
    access = Access(Authentication(sessions), LiveCalls(100))
    server = FlightServer(build_routes(services), access, profiles, options)
    return server, WireServer(0, sessions, query, ingest)


@pytest.fixture(scope="session")
def wire_server() -> Iterator[WireServer]:
    server, parts = _build_server(ServerOptions(drain_seconds=0.2))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield WireServer(port, parts.sessions, parts.query, parts.ingest)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def build_server() -> Callable[[ServerOptions], tuple[FlightServer, WireServer]]:
    return _build_server
