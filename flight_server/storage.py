"""What outlives a call: the catalog with its writer, the buckets that there are, the engine processes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from flight_server.catalog.store import Catalog
from flight_server.config import Settings
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine_user import EngineUser
from flight_server.dispatch.pool import EnginePool, PoolOptions
from flight_server.dispatch.process import ProcessOptions
from flight_server.domain.bucket import PROFILE_PREFIX, BucketRegistry
from flight_server.domain.grants import GrantSet, GrantSets
from flight_server.domain.location import local_root
from flight_server.services.commits import Committer

_LEAST_MEMORY = 64 * 1024 * 1024
_WAIT_SECONDS = 30.0
"""How long a call waits for an engine process while all of them work for others."""

_ASIDE_PROCESSES, _ASIDE_SECONDS = 2, 3600.0
"""How many work in the background for different buckets, and how long others wait for them."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What outlives a call."""

    catalog: Catalog
    registry: BucketRegistry
    committer: Committer
    dispatcher: Dispatcher


@asynccontextmanager
async def open_storage(settings: Settings, spares: int, *, confines: bool = True) -> AsyncIterator[Storage]:
    """Open the catalog, then start the engine process; close both in reverse order."""
    catalog = Catalog.open(settings.catalog_url)
    committer = Committer(catalog)
    try:
        registry = known_buckets(settings, catalog)
        _check_user(settings, registry)
        catalog.quotas.find = registry.find
        has_vectors = catalog.vectors.has_indexes()
        starting = open_engine(settings, registry, spares, has_vectors=has_vectors, confines=confines)
        async with starting as dispatcher:
            yield Storage(catalog, registry, committer, dispatcher)
    finally:
        committer.close()
        catalog.close()


def _check_user(settings: Settings, registry: BucketRegistry) -> None:
    """Check the user of engine processes, if there is one. Raises FailedPreconditionError."""
    if settings.engine.user is None:
        return
    roots = [(bucket.uri, bucket.read_only) for bucket in registry.configured]
    if registry.pattern is not None:
        roots.append((registry.pattern.parent, registry.pattern.read_only))
    EngineUser(
        settings.engine.user,
        [*settings.secret_files.values()],
        [local_root(uri) for uri, read_only in roots if read_only],
        [local_root(uri) for uri, read_only in roots if not read_only],
    ).check()


def known_buckets(settings: Settings, catalog: Catalog) -> BucketRegistry:
    """Return the configured buckets, and those of the profiles that were made."""
    registry = settings.registry()
    profiles = [bucket.name for bucket in registry.configured if bucket.is_profile]
    catalog.vectors.forget_configured([name.removeprefix(PROFILE_PREFIX) for name in profiles])
    registry.learn(catalog.vectors.profiles_since(-1))
    return registry


@asynccontextmanager
async def open_engine(
    settings: Settings,
    registry: BucketRegistry,
    spares: int,
    *,
    niceness: int = 0,
    has_vectors: bool = False,
    confines: bool = True,
) -> AsyncIterator[Dispatcher]:
    """Start engine processes; end them at the end of the block.

    Those with a niceness step back for others: they start when there is work for them, take a thread, a
    quarter of the memory, and what time is left. Those that have vectors get ready for indexes right away.
    `confines` is off only where the cost of it is measured.
    """
    is_aside, is_shared = niceness > 0, settings.auth.is_on
    count = _ASIDE_PROCESSES if is_aside else settings.engine.max_processes
    process = replace(
        _process_options(settings, is_aside=is_aside),
        has_vectors=has_vectors,
        niceness=niceness,
        confines=confines,
    )
    options = _shared(process, count) if is_shared else process
    wait_seconds = _ASIDE_SECONDS if is_aside else _WAIT_SECONDS
    pool = EnginePool(
        PoolOptions(lambda grants: replace(options, grants=grants), spares, count, wait_seconds)
    )
    dispatcher = Dispatcher(pool, GrantSets(registry, is_shared=is_shared))
    try:
        if not is_aside:
            await dispatcher.start()
        yield dispatcher
    finally:
        await dispatcher.stop()


def _process_options(settings: Settings, *, is_aside: bool) -> ProcessOptions:
    """Return what a process has that has everything to itself."""
    memory = settings.engine.memory
    return ProcessOptions(
        grants=GrantSet(frozenset()),
        memory_bytes=max(memory // 4, _LEAST_MEMORY) if is_aside else memory,
        temp_bytes=settings.engine.temp_bytes,
        statement_bytes=settings.limits.statement_memory,
        threads=1 if is_aside else os.cpu_count() or 1,
        vector_bytes=settings.vectors.memory,
        embedders={name: embedder.plain() for name, embedder in settings.embedders.items()},
        reads=tuple(str(path) for path in settings.engine.reads),
        user=settings.engine.user,
    )


def _shared(options: ProcessOptions, count: int) -> ProcessOptions:
    """Divide what all engine processes together may use among as many as may be at work."""
    return replace(
        options,
        memory_bytes=max(options.memory_bytes // count, _LEAST_MEMORY),
        temp_bytes=options.temp_bytes // count,
        vector_bytes=options.vector_bytes // count,
    )
