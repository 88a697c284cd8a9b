"""What outlives a call: the catalog with its writer, the buckets that there are, the engine processes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from flight_server.catalog.store import Catalog
from flight_server.config import Settings
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.pool import EnginePool, PoolOptions
from flight_server.dispatch.process import ProcessOptions
from flight_server.domain.bucket import PROFILE_PREFIX, BucketRegistry
from flight_server.services.commits import Committer

_LEAST_MEMORY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Storage:
    """What outlives a call."""

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
        registry = known_buckets(settings, catalog)
        has_vectors = catalog.vectors.has_indexes()
        async with open_engine(settings, spares, has_vectors=has_vectors) as dispatcher:
            yield Storage(catalog, registry, committer, dispatcher)
    finally:
        committer.close()
        catalog.close()


def known_buckets(settings: Settings, catalog: Catalog) -> BucketRegistry:
    """Return the configured buckets, and those of the profiles that were made."""
    registry = settings.registry()
    profiles = [bucket.name for bucket in registry.configured if bucket.is_profile]
    catalog.vectors.forget_configured([name.removeprefix(PROFILE_PREFIX) for name in profiles])
    registry.learn(catalog.vectors.profiles_since(-1))
    return registry


@asynccontextmanager
async def open_engine(
    settings: Settings, spares: int, *, niceness: int = 0, has_vectors: bool = False
) -> AsyncIterator[Dispatcher]:
    """Start engine processes; end them at the end of the block.

    Those with a niceness step back for others: they take a thread, a quarter of the memory, and what time
    is left. Those that have vectors get ready for indexes right away.
    """
    is_aside = niceness > 0
    registry = settings.registry()
    process = ProcessOptions(
        buckets={bucket.name: bucket.uri for bucket in registry.configured},
        memory_bytes=max(settings.engine.memory // 4, _LEAST_MEMORY) if is_aside else settings.engine.memory,
        temp_bytes=settings.engine.temp_bytes,
        threads=1 if is_aside else os.cpu_count() or 1,
        vector_bytes=settings.vectors.memory,
        has_vectors=has_vectors,
        niceness=niceness,
        pattern=registry.pattern,
        embedders={name: embedder.plain() for name, embedder in settings.embedders.items()},
    )
    dispatcher = Dispatcher(EnginePool(PoolOptions(process, spares)))
    try:
        await dispatcher.start()
        yield dispatcher
    finally:
        await dispatcher.stop()
