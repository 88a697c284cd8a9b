"""Backup and restore of the catalog; objects are not copied: a backup keeps them from being swept."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from flight_server.catalog import backup as stored
from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain import faults
from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.dataset import CatalogTotals
from flight_server.errors import AlreadyExistsError, FailedPreconditionError

KEEP_DAYS = 30.0
"""How long sweep leaves the objects of a backup alone, unless it is told otherwise."""

_REFS_AT_ONCE = 1_000
_LISTED = 20

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (objects done, objects in all)."""


def backup(catalog: Catalog, place: Path, keep_days: float) -> dict[str, object]:
    """Copy the catalog into a folder, or to a new file, beside a running server too; return a report.

    Raises AlreadyExistsError when there is such a file.
    """
    now = datetime.now(UTC)
    file = place / f"catalog-{now:%Y%m%dT%H%M%SZ}.db" if place.is_dir() else place
    until = now + timedelta(days=keep_days)
    copied = catalog.backup(file, until)
    return {"file": str(file), **_report(copied), "kept_until": until.isoformat(timespec="seconds")}


def _report(totals: CatalogTotals) -> dict[str, object]:
    report = asdict(totals)
    del report["last_ref"]
    return report


@dataclass(frozen=True, slots=True)
class Restore:
    """Puts a backup in the place of the catalog at `url`; `engine` starts what looks for the objects."""

    url: str
    registry: BucketRegistry
    engine: Callable[[], AbstractAsyncContextManager[Dispatcher]]

    async def run(self, file: Path, force: bool, progress: Progress) -> dict[str, object]:
        """Check that every object of a backup is there, then restore the catalog at once; return a report.

        Raises AlreadyExistsError when there is a catalog and `force` is not given, FailedPreconditionError
        when objects are missing, the file is no backup, or a server uses the catalog.
        """
        if Catalog.exists(self.url) and not force:
            raise AlreadyExistsError(
                "there is a catalog here already: --force replaces it, and forgets all that is newer"
            )
        with stored.staged(self.url, file) as copy:
            catalog = Catalog.open(copy)
            try:
                totals = catalog.content()
                self.registry.learn(catalog.vectors.profiles_since(-1))
                catalog.vectors.distrust_indexes()
                async with self.engine() as dispatcher:
                    unchecked = await self._check(catalog, dispatcher, totals.objects, progress)
            finally:
                catalog.close()
            faults.reach(faults.Place.RESTORE_READY)
            await asyncio.to_thread(stored.replace, self.url, copy)
        return _report(totals) | {"unchecked": unchecked}

    async def _check(self, catalog: Catalog, dispatcher: Dispatcher, count: int, progress: Progress) -> int:
        """Look for every object; return how many lie in buckets that are not configured."""
        missing: list[str] = []
        after = done = unchecked = 0
        while page := catalog.refs_after(after, _REFS_AT_ONCE):
            after, done = page[-1].id, done + len(page)
            keys: dict[str, list[str]] = {}
            for ref in page:
                bucket, _, key = self.registry.locate(ref.bucket, ref.key)
                if bucket is None:
                    unchecked += 1
                else:
                    keys.setdefault(bucket, []).append(key)
            for bucket, asked in keys.items():
                found = await dispatcher.over(bucket).missing(bucket, asked)
                missing += [f"{bucket}: {key}" for key in found]
            progress(done, count)
        if missing:
            more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
            raise FailedPreconditionError(
                f"{len(missing)} objects of the backup are missing, nothing was restored: "
                f"{', '.join(missing[:_LISTED])}{more}; bring them back, or use an older backup"
            )
        return unchecked
