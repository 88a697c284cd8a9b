"""Builds the gateway's object graph, starts and stops it; `build_routes` is its whole surface."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from flight_server.catalog.store import Catalog
from flight_server.config import Settings
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.pool import EnginePool, PoolOptions
from flight_server.dispatch.process import ProcessOptions
from flight_server.domain.bucket import BucketRegistry
from flight_server.flight.handlers.cancel import CancelHandlers
from flight_server.flight.handlers.compact import CompactHandlers
from flight_server.flight.handlers.ingest import IngestHandlers
from flight_server.flight.handlers.metadata import MetadataHandlers
from flight_server.flight.handlers.migrate import MigrateHandlers
from flight_server.flight.handlers.paths import PathHandlers
from flight_server.flight.handlers.polls import PollHandlers
from flight_server.flight.handlers.prepared import PreparedHandlers
from flight_server.flight.handlers.register import RegisterHandlers
from flight_server.flight.handlers.renew import RenewHandlers
from flight_server.flight.handlers.sessions import SessionHandlers
from flight_server.flight.handlers.sql_info import SqlInfoHandlers
from flight_server.flight.handlers.statement import StatementHandlers
from flight_server.flight.handlers.sweep import SweepHandlers
from flight_server.flight.handlers.transactions import TransactionHandlers
from flight_server.flight.routes import ActionRoute, Routes, Services
from flight_server.flight.server import FlightServer, ServerOptions
from flight_server.flight.wire.commands import (
    DatasetPath,
    GetSqlInfo,
    PreparedStatementQuery,
    PreparedStatementUpdate,
    StatementIngest,
    StatementQuery,
    StatementUpdate,
)
from flight_server.flight.wire.tickets import StatementTicket
from flight_server.services.cancel import CancelService
from flight_server.services.checked_append import CheckedAppend
from flight_server.services.commits import Committer
from flight_server.services.compact import CompactService
from flight_server.services.connections import end_sessions_of_gone_peers
from flight_server.services.flights import FlightService
from flight_server.services.handles import Handles
from flight_server.services.held import HeldMessages
from flight_server.services.ingest import IngestOptions, IngestService
from flight_server.services.keys import KeyService
from flight_server.services.listing import DatasetListing
from flight_server.services.metadata import MetadataService
from flight_server.services.migration import MigrationService
from flight_server.services.polls import PollService
from flight_server.services.prepared import PreparedService
from flight_server.services.queries import Queries
from flight_server.services.query import QueryService
from flight_server.services.query_options import QueryLimits, QueryOptions
from flight_server.services.register import RegisterService
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import Names
from flight_server.services.session_options import SessionOptions
from flight_server.services.session_verbs import SessionVerbs
from flight_server.services.sessions import SessionService
from flight_server.services.sql_info import ServerFacts
from flight_server.services.sql_schemas import SqlSchemas
from flight_server.services.sweep import InUse, SweepService
from flight_server.services.system_tables import SystemTables
from flight_server.services.tables import TableService
from flight_server.services.temporary import TemporaryTables
from flight_server.services.temporary_ingest import TemporaryIngest
from flight_server.services.transactions import TransactionService
from flight_server.services.writes import Writes
from flight_server.telemetry import logging

_LEAST_PRIORITY = 19
_LEAST_MEMORY = 64 * 1024 * 1024


def build_routes(services: Services) -> Routes:
    """Return the server's whole surface: every command, ticket and action with its handler."""
    statement = StatementHandlers(services.query)
    prepared = PreparedHandlers(services.prepared)
    ingest = IngestHandlers(services.ingest, services.temporary)
    paths = PathHandlers(services.query, services.ingest, services.flights)
    sql_info = SqlInfoHandlers(services.metadata)
    metadata = MetadataHandlers(services.tables, services.keys)
    polls = PollHandlers(services.query, services.prepared, services.polls)
    return Routes(
        infos={
            StatementQuery: statement.info,
            PreparedStatementQuery: prepared.info,
            GetSqlInfo: sql_info.info,
            DatasetPath: paths.info,
            **dict.fromkeys(metadata.streams, metadata.info),
        },
        polls=polls.commands,
        schemas={
            StatementQuery: statement.schema,
            PreparedStatementQuery: prepared.schema,
            GetSqlInfo: sql_info.schema,
            DatasetPath: paths.schema,
            **dict.fromkeys(metadata.streams, metadata.schema),
        },
        streams={
            StatementTicket: statement.stream,
            GetSqlInfo: sql_info.stream,
            **metadata.streams,
        },
        puts={
            StatementUpdate: statement.update,
            StatementIngest: ingest.put,
            PreparedStatementQuery: prepared.bind,
            PreparedStatementUpdate: prepared.update,
            DatasetPath: paths.put,
        },
        flights=paths.flights,
        actions=_actions(services, prepared),
    )


def _actions(services: Services, prepared: PreparedHandlers) -> dict[str, ActionRoute]:
    transactions = TransactionHandlers(services.transactions)
    sessions = SessionHandlers(services.sessions, services.session_options, services.query)
    migrate = MigrateHandlers(services.migration)
    register = RegisterHandlers(services.register)
    compact, sweep = CompactHandlers(services.compact), SweepHandlers(services.sweep)
    return {
        "CreatePreparedStatement": ActionRoute(prepared.create, "Prepare a statement."),
        "ClosePreparedStatement": ActionRoute(prepared.close, "Drop a prepared statement."),
        "BeginTransaction": ActionRoute(transactions.begin, "Begin a transaction."),
        "EndTransaction": ActionRoute(transactions.end, "Commit or roll back a transaction."),
        "SetSessionOptions": ActionRoute(sessions.set_options, "Set options of the session."),
        "GetSessionOptions": ActionRoute(sessions.get_options, "Show the options of the session."),
        "CloseSession": ActionRoute(sessions.close, "End the session of this connection."),
        **_query_actions(services),
        "migrate": ActionRoute(
            migrate.migrate,
            'Bring the catalog into canonical form: {"dry_run": false} in, one JSON report out.',
        ),
        "register": ActionRoute(
            register.register,
            "Make Parquet objects of a bucket part of a dataset, where they lie: "
            '{"bucket": "…", "dataset": "…", "keys": ["…"], "mode": "append"} in, one JSON result out.',
        ),
        "compact": ActionRoute(
            compact.compact,
            "Merge small objects of datasets into larger ones: "
            '{"bucket": "…", "dataset": "…", "sort_by": ["…"]} in, JSON progress and at last a report out.',
        ),
        "sweep": ActionRoute(
            sweep.sweep,
            "Remove expired versions and objects without a dataset: "
            '{"bucket": "…", "older_than_s": 86400, "dry_run": false} in, one JSON report out.',
        ),
    }


def _query_actions(services: Services) -> dict[str, ActionRoute]:
    cancel = CancelHandlers(services.cancel)
    renew = RenewHandlers(services.query)
    return {
        "CancelFlightInfo": ActionRoute(cancel.flight_info, "Cancel a query by its FlightInfo."),
        "CancelQuery": ActionRoute(cancel.query, "Cancel a query; CancelFlightInfo is its successor."),
        "RenewFlightEndpoint": ActionRoute(renew.renew, "Make the ticket of a statement good for longer."),
        "cancel_query": ActionRoute(
            cancel.by_id, 'Cancel a query by its id: {"query_id": "…"} in, {"query_id", "status"} out.'
        ),
    }


@dataclass(frozen=True, slots=True)
class Storage:
    """What outlives a call: the catalog, its writer, and the engine process."""

    catalog: Catalog
    registry: BucketRegistry
    committer: Committer
    dispatcher: Dispatcher


@asynccontextmanager
async def open_storage(settings: Settings, spares: int) -> AsyncIterator[Storage]:
    """Open the catalog, then start the engine process; close both in reverse order."""
    catalog = Catalog.open(settings.catalog_url)
    committer = Committer(catalog)
    try:
        async with open_engine(settings, spares) as dispatcher:
            yield Storage(catalog, settings.registry(), committer, dispatcher)
    finally:
        committer.close()
        catalog.close()


@asynccontextmanager
async def open_engine(settings: Settings, spares: int, is_aside: bool = False) -> AsyncIterator[Dispatcher]:
    """Start engine processes; end them at the end of the block.

    Those that work aside take a thread, a quarter of the memory, and what time others leave.
    """
    process = ProcessOptions(
        buckets={bucket.name: bucket.uri for bucket in settings.registry()},
        memory_bytes=max(settings.engine.memory // 4, _LEAST_MEMORY) if is_aside else settings.engine.memory,
        temp_bytes=settings.engine.temp_bytes,
        threads=1 if is_aside else os.cpu_count() or 1,
        niceness=_LEAST_PRIORITY if is_aside else 0,
    )
    dispatcher = Dispatcher(EnginePool(PoolOptions(process, spares)))
    try:
        await dispatcher.start()
        yield dispatcher
    finally:
        await dispatcher.stop()


def _services(storage: Storage, settings: Settings) -> Services:
    dispatcher, committer = storage.dispatcher, storage.committer
    options = _query_options(storage, settings)
    names, transactions, handles = options.names, options.transactions, options.handles
    query, reservations = QueryService(options), options.writes.reservations
    in_use = InUse(lambda: transactions.oldest_snapshot, transactions.staged_keys, reservations.seconds)
    listing, sql_schemas = DatasetListing(names, transactions), SqlSchemas(dispatcher)
    idle = settings.limits.session_idle
    return Services(
        query=query,
        prepared=PreparedService(query, transactions, handles),
        ingest=_ingest_service(options, query),
        temporary=TemporaryIngest(dispatcher, names, transactions, reservations, query),
        transactions=transactions,
        register=RegisterService(dispatcher, names, committer),
        compact=_compact_service(storage, settings, reservations, transactions),
        sweep=sweep_service(storage, settings, in_use),
        migration=MigrationService(storage.catalog, storage.registry, committer),
        metadata=MetadataService(_facts(storage.registry, settings), dispatcher.facts),
        tables=TableService(names, listing, sql_schemas, TemporaryTables(options.sessions, query.schema)),
        keys=KeyService(listing),
        flights=FlightService(names, listing, sql_schemas, query),
        cancel=CancelService(query, options.queries, handles),
        polls=PollService(query, options.queries, dispatcher, handles, options.held, idle),
        sessions=options.sessions,
        session_options=options.verbs.options,
    )


def _ingest_service(options: QueryOptions, query: QueryService) -> IngestService:
    writes = options.writes
    checked = CheckedAppend(query, writes)
    return IngestService(
        IngestOptions(
            options.dispatcher,
            options.names,
            writes.committer,
            writes.transactions,
            writes.reservations,
            checked,
        )
    )


def _query_options(storage: Storage, settings: Settings) -> QueryOptions:
    limits = settings.limits
    secret_keys = storage.catalog.secret_keys()
    sessions = SessionService(secret_keys, limits.session_idle, limits.sessions)
    queries, held = Queries(), HeldMessages(limits.held_results_bytes)
    system_tables = SystemTables(storage.catalog, storage.registry, sessions, queries)
    names = Names(storage.catalog, storage.registry, system_tables)
    transactions = TransactionService(
        storage.committer, sessions, storage.dispatcher, limits.transaction_idle
    )
    return QueryOptions(
        storage.dispatcher,
        names,
        transactions,
        Handles(secret_keys, held),
        queries,
        held,
        sessions,
        SessionVerbs(SessionOptions(sessions, names, transactions), transactions),
        Writes(names, storage.committer, transactions, Reservations()),
        QueryLimits(limits.statement_bytes, limits.statement_timeout or None),
    )


def _facts(registry: BucketRegistry, settings: Settings) -> ServerFacts:
    limits = settings.limits
    return ServerFacts(
        is_read_only=all(bucket.read_only for bucket in registry),
        session_idle=limits.session_idle,
        statement_bytes=limits.statement_bytes,
        sessions=limits.sessions,
    )


def _compact_service(
    storage: Storage, settings: Settings, reservations: Reservations, transactions: TransactionService
) -> CompactService:
    return CompactService(
        storage.catalog,
        storage.registry,
        storage.committer,
        reservations,
        partial(open_engine, settings, spares=0, is_aside=True),
        transactions.rewritten,
    )


def sweep_service(storage: Storage, settings: Settings, in_use: InUse) -> SweepService:
    """Return what sweeps the buckets of a storage."""
    return SweepService(
        storage.catalog,
        storage.registry,
        storage.dispatcher,
        storage.committer,
        settings.catalog.retention,
        in_use,
    )


async def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; call `ready` with the server's URI when everything is up."""
    logging.configure(settings.telemetry.log_level)
    _allow_many_connections()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with open_storage(settings, settings.engine.spares) as storage:
        services = _services(storage, settings)
        options = ServerOptions(
            host=settings.host,
            port=settings.port,
            max_incoming_bytes=settings.limits.message_bytes,
            reuse_port=settings.workers > 1,
            drain_seconds=settings.limits.drain,
        )
        server = FlightServer(build_routes(services), services.sessions, storage.registry, options)
        port = await server.start()
        watching = asyncio.ensure_future(end_sessions_of_gone_peers(services.sessions))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        ready(f"grpc://{host}:{port}")
        async with _compacting(services.compact, settings.catalog.compact_beyond):
            await stopping.wait()
        watching.cancel()
        await server.stop()
        services.polls.stop()


@asynccontextmanager
async def _compacting(service: CompactService, threshold: int) -> AsyncIterator[None]:
    """Compact in the background while the block runs, if there is a threshold."""
    watch = asyncio.ensure_future(service.watch(threshold)) if threshold else None
    try:
        yield
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: a client that streams takes two descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
