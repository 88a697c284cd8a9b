"""Builds the services of a gateway over its storage."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from flight_server.config import Settings
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.bucket import BucketRegistry
from flight_server.flight.routes import Services
from flight_server.services.admission import Admission, AdmissionLimits
from flight_server.services.aside import AsideEngine
from flight_server.services.batches import BatchService
from flight_server.services.cancel import CancelService
from flight_server.services.checked_append import CheckedAppend
from flight_server.services.compact import CompactService
from flight_server.services.embedding import EmbeddingService
from flight_server.services.flights import FlightService
from flight_server.services.handles import Handles
from flight_server.services.held import HeldMessages
from flight_server.services.index_progress import IndexProgress
from flight_server.services.index_sweep import IndexSweep
from flight_server.services.indexing import IndexService
from flight_server.services.ingest import IngestOptions, IngestService
from flight_server.services.journal import Journal
from flight_server.services.keys import KeyService
from flight_server.services.listing import DatasetListing
from flight_server.services.metadata import MetadataService
from flight_server.services.migration import MigrationService
from flight_server.services.polls import PollService
from flight_server.services.prepared import PreparedService
from flight_server.services.profile_table import ProfileTable
from flight_server.services.profiles import ProfileService
from flight_server.services.queries import Queries
from flight_server.services.query import QueryService
from flight_server.services.query_options import QueryLimits, QueryOptions
from flight_server.services.register import RegisterService
from flight_server.services.remains import ProfileRemains
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import Names
from flight_server.services.searched import SearchedDatasets
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
from flight_server.services.trials import TrialService
from flight_server.services.writes import Writes
from flight_server.storage import Storage, open_engine

_COMPACTING_NICENESS = 19
_INDEXING_NICENESS = 10
"""Somebody may wait for an index, and nobody for a compaction."""


def build_services(storage: Storage, settings: Settings) -> Services:
    """Build everything that handlers call."""
    dispatcher, committer = storage.dispatcher, storage.committer
    options = _query_options(storage, settings)
    names, transactions, handles = options.names, options.transactions, options.handles
    query, reservations = QueryService(options), options.writes.reservations
    in_use = _in_use(options)
    listing, sql_schemas = DatasetListing(names, transactions), SqlSchemas(dispatcher)
    idle = settings.limits.session_idle
    searched = SearchedDatasets(names)
    indexing = AsideEngine(_aside(storage, settings, _INDEXING_NICENESS))
    indexes = IndexService(searched, committer, dispatcher, indexing, options.index_progress)
    journal = Journal(searched, committer, dispatcher, reservations)
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
        metadata=MetadataService(_facts(storage.registry, settings), dispatcher.over().facts),
        tables=TableService(names, listing, sql_schemas, TemporaryTables(options.sessions, query.schema)),
        keys=KeyService(listing),
        flights=FlightService(names, listing, sql_schemas, query),
        cancel=CancelService(query, options.queries, handles),
        polls=PollService(query, options.queries, dispatcher, handles, options.held, idle),
        sessions=options.sessions,
        session_options=options.verbs.options,
        profiles=options.profiles,
        indexes=indexes,
        trials=TrialService(searched, journal, indexing, indexes, query, options.writes),
        batches=BatchService(searched, transactions, dispatcher, _longest_work(settings)),
        embedding=EmbeddingService(searched, committer, reservations, indexing, tuple(settings.embedders)),
    )


def _in_use(options: QueryOptions) -> InUse:
    transactions, progress = options.writes.transactions, options.index_progress
    return InUse(
        lambda: transactions.oldest_snapshot,
        transactions.staged_keys,
        options.writes.reservations.seconds,
        lambda: progress.tables,
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
    sessions = SessionService(secret_keys, limits.session_idle, limits.sessions, limits.sessions_per_identity)
    queries, held, progress = Queries(), HeldMessages(limits.held_results_bytes), IndexProgress()
    profile_table = ProfileTable(
        storage.catalog,
        storage.registry,
        progress,
        storage.dispatcher.activations,
        asyncio.get_running_loop(),
    )
    system_tables = SystemTables(storage.catalog, storage.registry, sessions, queries, profile_table)
    names = Names(storage.catalog, storage.registry, system_tables)
    profiles = ProfileService(SearchedDatasets(names), storage.committer, storage.dispatcher)
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
        SessionVerbs(SessionOptions(sessions, names, transactions, profiles.select), transactions),
        Writes(names, storage.committer, transactions, Reservations()),
        QueryLimits(_longest_statement(settings), _longest_work(settings)),
        _admission(settings),
        profiles,
        progress,
    )


def _admission(settings: Settings) -> Admission:
    limits = settings.limits
    per_caller = limits.heavy_per_identity if settings.auth.is_on else limits.heavy_statements
    return Admission(
        AdmissionLimits(limits.heavy_statements, per_caller, limits.heavy_waiting, limits.heavy_wait)
    )


def _longest_statement(settings: Settings) -> int:
    return settings.limits.longest_statement(has_users=settings.auth.is_on)


def _longest_work(settings: Settings) -> float | None:
    return settings.limits.longest_work(has_users=settings.auth.is_on)


def _facts(registry: BucketRegistry, settings: Settings) -> ServerFacts:
    limits = settings.limits
    return ServerFacts(
        is_read_only=all(bucket.read_only for bucket in registry),
        session_idle=limits.session_idle,
        statement_bytes=_longest_statement(settings),
        sessions=limits.sessions,
    )


def _aside(
    storage: Storage, settings: Settings, niceness: int
) -> Callable[[], AbstractAsyncContextManager[Dispatcher]]:
    """Return what starts engine processes for work in the background."""
    return partial(open_engine, settings, storage.registry, spares=0, niceness=niceness)


def _compact_service(
    storage: Storage, settings: Settings, reservations: Reservations, transactions: TransactionService
) -> CompactService:
    return CompactService(
        storage.catalog,
        storage.registry,
        storage.committer,
        reservations,
        _aside(storage, settings, _COMPACTING_NICENESS),
        transactions.rewritten,
    )


def sweep_service(storage: Storage, settings: Settings, in_use: InUse) -> SweepService:
    """Return what sweeps the buckets of a storage."""
    return SweepService(
        storage.catalog,
        storage.registry,
        storage.dispatcher,
        storage.committer,
        IndexSweep(storage.catalog, storage.dispatcher, storage.committer),
        ProfileRemains(storage.catalog, storage.registry, storage.dispatcher, storage.committer),
        settings.catalog.retention,
        in_use,
    )
