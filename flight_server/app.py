"""Builds the gateway's object graph, starts and stops it; `build_routes` is its whole surface."""

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from flight_server.auth.authenticator import Authenticator
from flight_server.config import Settings
from flight_server.dispatch import confinement
from flight_server.domain.bucket import BucketRegistry
from flight_server.flight.handlers.cancel import CancelHandlers
from flight_server.flight.handlers.compact import CompactHandlers
from flight_server.flight.handlers.embedding import EmbeddingHandlers
from flight_server.flight.handlers.exchange import ExchangeHandlers
from flight_server.flight.handlers.ingest import IngestHandlers
from flight_server.flight.handlers.metadata import MetadataHandlers
from flight_server.flight.handlers.migrate import MigrateHandlers
from flight_server.flight.handlers.paths import PathHandlers
from flight_server.flight.handlers.polls import PollHandlers
from flight_server.flight.handlers.prepared import PreparedHandlers
from flight_server.flight.handlers.profiles import ProfileHandlers
from flight_server.flight.handlers.register import RegisterHandlers
from flight_server.flight.handlers.renew import RenewHandlers
from flight_server.flight.handlers.sessions import SessionHandlers
from flight_server.flight.handlers.sql_info import SqlInfoHandlers
from flight_server.flight.handlers.statement import StatementHandlers
from flight_server.flight.handlers.sweep import SweepHandlers
from flight_server.flight.handlers.transactions import TransactionHandlers
from flight_server.flight.handlers.trials import TrialHandlers
from flight_server.flight.interceptors.authentication import Authentication
from flight_server.flight.patience import Patience
from flight_server.flight.routes import ActionRoute, Routes, Services
from flight_server.flight.server import Access, FlightServer, ServerOptions
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
from flight_server.services.compact import CompactService
from flight_server.services.connections import end_sessions_of_gone_peers
from flight_server.services.indexing import IndexService
from flight_server.services.live_calls import LiveCalls
from flight_server.services.revocation import Revocation
from flight_server.services.sessions import SessionService
from flight_server.storage import open_storage
from flight_server.telemetry import logging
from flight_server.wiring import build_services


def build_routes(services: Services) -> Routes:
    """Return the server's whole surface: every command, ticket and action with its handler."""
    statement, prepared = StatementHandlers(services.query), PreparedHandlers(services.prepared)
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
        exchanges={DatasetPath: ExchangeHandlers(services.batches).search},
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
            is_audited=True,
        ),
        "register": ActionRoute(
            register.register,
            "Make Parquet objects of a bucket part of a dataset, where they lie: "
            '{"bucket": "…", "dataset": "…", "keys": ["…"], "mode": "append"} in, one JSON result out.',
            is_audited=True,
        ),
        "compact": ActionRoute(
            compact.compact,
            "Merge small objects of datasets into larger ones: "
            '{"bucket": "…", "dataset": "…", "sort_by": ["…"]} in, JSON progress and at last a report out.',
            is_audited=True,
        ),
        "sweep": ActionRoute(
            sweep.sweep,
            "Remove expired versions and objects without a dataset: "
            '{"bucket": "…", "older_than_s": 86400, "dry_run": false} in, one JSON report out.',
            is_audited=True,
        ),
        **_profile_actions(services),
    }


def _profile_actions(services: Services) -> dict[str, ActionRoute]:
    profiles = ProfileHandlers(services.profiles, services.indexes)
    return {
        "create_profile": ActionRoute(
            profiles.create,
            'Make a profile with a bucket of its own: {"profile": "…"} in, JSON out.',
            is_audited=True,
        ),
        "drop_profile": ActionRoute(
            profiles.drop,
            'Drop a profile with all its data: {"profile": "…"} in, progress and a report out.',
            is_audited=True,
        ),
        "list_profiles": ActionRoute(
            profiles.list, "List the profiles: {} in, one JSON result for each out."
        ),
        "activate_profile": ActionRoute(
            profiles.activate,
            'Load what searches in a profile use: {"profile": "…", "wait": true} in, one JSON result '
            "for each index and a summary out.",
        ),
        "deactivate_profile": ActionRoute(
            profiles.deactivate, 'Let go of what a profile has in memory: {"profile": "…"} in, JSON out.'
        ),
        **_vector_actions(profiles),
        **_trial_actions(services),
    }


def _trial_actions(services: Services) -> dict[str, ActionRoute]:
    embedding, trials = EmbeddingHandlers(services.embedding), TrialHandlers(services.trials)
    return {
        "put_eval_set": ActionRoute(
            trials.put_eval_set,
            "Store queries to measure searches with: "
            '{"profile": "…", "name": "…", "table": "…", "queries": [{"id": "…", "text": "…"}]} in, progress '
            "and a report out.",
        ),
        "run_trial": ActionRoute(
            trials.run,
            "Measure an index that no search sees: "
            '{"profile": "…", "table": "…", "eval_set": "…", "index": {"type": "…"}, "search": [{"ef": 64}], '
            '"k": 10} in, progress and the rows of the journal out.',
        ),
        "promote_trial": ActionRoute(
            trials.promote,
            "Have searches use the index of a trial: "
            '{"profile": "…", "trial_id": "…"} in, progress and a report out.',
        ),
        "embed_column": ActionRoute(
            embedding.embed,
            "Have a column of vectors computed from texts: "
            '{"profile": "…", "table": "…", "text_column": "…", "vector_column": "…", "embedder": "…"} in, '
            "progress and a report out.",
        ),
    }


def _vector_actions(profiles: ProfileHandlers) -> dict[str, ActionRoute]:
    return {
        "create_vector_index": ActionRoute(
            profiles.create_index,
            "Index a column for searches: "
            '{"profile": "…", "table": "…", "column": "…", "type": "auto", "params": {}} in, progress and a '
            "report out.",
        ),
        "drop_vector_index": ActionRoute(
            profiles.drop_index,
            'Drop the indexes of a table or of a column: {"profile": "…", "table": "…", "column": "…"} in, '
            "JSON out.",
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


async def serve(settings: Settings, ready: Callable[[str], None], *, confines: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; call `ready` with the server's URI when everything is up.

    `confines` is off only where the cost of confining engine processes is measured.
    """
    logging.configure(settings.telemetry.log_level)
    _allow_many_connections()
    confinement.tell_strength()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with open_storage(settings, settings.engine.spares, confines=confines) as storage:
        services = build_services(storage, settings)
        access = _access(settings, services.sessions)
        server = FlightServer(build_routes(services), access, services.profiles, _options(settings))
        port = await server.start()
        watching = asyncio.ensure_future(end_sessions_of_gone_peers(services.sessions))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        ready(f"grpc{'+tls' if settings.tls.is_on else ''}://{host}:{port}")
        async with (
            _revoking(access, services, storage.registry),
            _compacting(services.compact, settings.catalog.compact_beyond),
            _indexing(services.indexes, settings.vectors.catch_up_after),
        ):
            await stopping.wait()
        watching.cancel()
        await server.stop()
        services.polls.stop()


def _options(settings: Settings) -> ServerOptions:
    return ServerOptions(
        host=settings.host,
        port=settings.port,
        max_incoming_bytes=settings.limits.message_bytes,
        max_header_bytes=settings.limits.header_bytes,
        tls=settings.tls,
        reuse_port=settings.workers > 1,
        drain_seconds=settings.limits.drain,
        patience=Patience(settings.limits.read_idle or None, settings.limits.write_idle or None),
    )


def _access(settings: Settings, sessions: SessionService) -> Access:
    authenticator = Authenticator(settings.auth) if settings.auth.is_on else None
    return Access(
        Authentication(sessions, authenticator, settings.auth.token_ttl),
        LiveCalls(settings.limits.streams_per_identity),
        has_certificates=settings.tls.client_ca is not None,
    )


@asynccontextmanager
async def _revoking(access: Access, services: Services, registry: BucketRegistry) -> AsyncIterator[None]:
    """Cut those who may no longer, while the block runs, if anybody has to log in."""
    authenticator = access.authentication.authenticator
    if authenticator is None:
        yield
        return
    revocation = Revocation(authenticator, services.sessions, services.cancel, registry, access.calls)
    watch = asyncio.ensure_future(revocation.watch())
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        authenticator.close()


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


@asynccontextmanager
async def _indexing(service: IndexService, quiet: float) -> AsyncIterator[None]:
    """Bring indexes up to date in the background while the block runs, if it is to be done at all."""
    watch = asyncio.ensure_future(service.watch(quiet)) if quiet else None
    try:
        yield
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])
        await service.engine.close()


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: a client that streams takes two descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
