"""What commands do to a catalog and its buckets directly, beside a running server too."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from flight_server.catalog.store import Catalog
from flight_server.config import Settings
from flight_server.domain.compaction import Compaction
from flight_server.domain.identity import LOCAL
from flight_server.domain.statement import Sweep
from flight_server.errors import NotFoundError
from flight_server.services import backup as backups
from flight_server.services.compact import CompactService
from flight_server.services.legacy_import import LegacyImport, Progress
from flight_server.services.reservations import Reservations
from flight_server.services.sweep import InUse
from flight_server.storage import known_buckets, open_engine, open_storage
from flight_server.wiring import sweep_service


def _require_catalog(settings: Settings) -> None:
    if not Catalog.exists(settings.catalog_url):
        raise NotFoundError(
            "there is no catalog here: name the data directory of a server that has run with --data-dir, "
            "or the catalog itself as `catalog.url`"
        )


async def migrate(settings: Settings, dry_run: bool) -> dict[str, object]:
    """Migrate the catalog directly, beside a running server too; return the report.

    Raises NotFoundError when there is no catalog.
    """
    _require_catalog(settings)
    catalog = Catalog.open(settings.catalog_url)
    try:
        return await asyncio.to_thread(catalog.migrate, known_buckets(settings, catalog), dry_run)
    finally:
        catalog.close()


async def import_manifest(settings: Settings, manifest: Path, progress: Progress) -> dict[str, object]:
    """Import a legacy manifest into the catalog, beside a running server too; return the report."""
    async with open_storage(settings, spares=0) as opened:
        legacy_import = LegacyImport(opened.catalog, opened.registry, opened.dispatcher)
        return await legacy_import.run(manifest, LOCAL.name, progress)


def backup(settings: Settings, place: Path, keep_days: float) -> dict[str, object]:
    """Copy the catalog into a folder or to a new file, beside a running server too; return the report.

    Raises NotFoundError when there is no catalog.
    """
    _require_catalog(settings)
    catalog = Catalog.open(settings.catalog_url)
    try:
        return backups.backup(catalog, place, keep_days)
    finally:
        catalog.close()


async def restore(settings: Settings, file: Path, force: bool, progress: Progress) -> dict[str, object]:
    """Restore the catalog from a backup while no server runs; return the report."""
    registry = settings.registry()
    engine = partial(open_engine, settings, registry, spares=0)
    task = backups.Restore(settings.catalog_url, registry, engine)
    return await task.run(file, force, progress)


async def compact(settings: Settings, asked: Compaction, progress: Progress) -> dict[str, object]:
    """Compact directly, beside a running server too; return the report.

    Raises NotFoundError when there is no catalog.
    """
    _require_catalog(settings)
    async with open_storage(settings, spares=0) as opened:
        service = CompactService(
            opened.catalog,
            opened.registry,
            opened.committer,
            Reservations(),
            lambda: nullcontext(opened.dispatcher),
        )
        return await service.compact(LOCAL, asked, lambda told: progress(told["rows"], told["of"]))


async def sweep(settings: Settings, asked: Sweep, progress: Callable[[int], None]) -> dict[str, object]:
    """Sweep directly, beside a running server too; return the report.

    Raises NotFoundError when there is no catalog: beside a new one every object would be an orphan.
    """
    _require_catalog(settings)
    async with open_storage(settings, spares=0) as opened:
        service = sweep_service(opened, settings, InUse())
        return await service.sweep(LOCAL, asked, lambda told: progress(told["objects"]))
