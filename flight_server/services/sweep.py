"""Sweep: removes versions that are past their retention, and objects that belong to no version."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import ListedObject
from flight_server.domain import faults
from flight_server.domain.bucket import Bucket, BucketRegistry
from flight_server.domain.dataset import ExpiredObject, ExpiryRule
from flight_server.domain.identity import Identity
from flight_server.domain.statement import Sweep
from flight_server.errors import PermissionDeniedError
from flight_server.services.commits import Committer
from flight_server.services.index_sweep import IndexSweep
from flight_server.services.remains import ProfileRemains

_OBJECTS_FOLDER = "_objects"
_TOLD_OBJECTS = 1_000

Tell: TypeAlias = Callable[[dict[str, Any]], None]
"""Called with progress: a bucket, and how many of its objects have been looked at."""


@dataclass(frozen=True, slots=True)
class InUse:
    """What this process works on and the catalog does not know of yet; each is asked when needed.

    `oldest_snapshot` is a commit that somebody reads at; `staged` are keys of objects that will be
    committed; `writing` are datasets with the seconds for which objects have been written for them; `indexes`
    are tables of indexes that are being made.
    """

    oldest_snapshot: Callable[[], int | None] = lambda: None
    staged: Callable[[], set[str]] = lambda: set()
    writing: Callable[[], dict[str, float]] = dict
    indexes: Callable[[], set[str]] = lambda: set()


@dataclass(slots=True)
class _Count:
    """Objects of one kind that were removed, with their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.objects += 1
        self.bytes += size

    def add_all(self, sizes: Mapping[str, int]) -> None:
        self.objects += len(sizes)
        self.bytes += sum(sizes.values())

    def report(self) -> dict[str, int]:
        return {"objects": self.objects, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class SweepService:
    """Sweeps buckets; `retention` is in seconds."""

    catalog: Catalog
    registry: BucketRegistry
    dispatcher: Dispatcher
    committer: Committer
    indexes: IndexSweep
    remains: ProfileRemains
    retention: float
    in_use: InUse = field(default_factory=InUse)

    async def sweep(self, identity: Identity, asked: Sweep, tell: Tell) -> dict[str, object]:
        """Sweep the bucket that is named, or all, and report. Running it again finds nothing more.

        `tell` is called for every thousand objects or so that a bucket is found to have.
        Raises PermissionDeniedError without admin on every bucket that is swept.
        """
        if asked.bucket is not None:
            buckets = [self.registry.resolve(identity, asked.bucket)]
        else:
            buckets = [*self.registry]
        if not all(identity.may("admin", bucket.name) for bucket in buckets):
            raise PermissionDeniedError("sweep removes objects: it needs admin on every bucket it sweeps")
        writable = [bucket for bucket in buckets if not bucket.read_only]
        versions = await self._expire(asked, buckets, {bucket.name for bucket in self.registry})
        orphans = _Count()
        for bucket in writable:
            await self._sweep_bucket(bucket, asked, orphans, tell)
        if asked.bucket is None:
            await self.remains.remove_cut_off(orphans.add_all, dry_run=asked.dry_run)
        names = {bucket.name for bucket in writable}
        making = self.in_use.indexes
        indexes = await self.indexes.sweep(names, asked.older_than, making, dry_run=asked.dry_run)
        return {**versions, "orphans": orphans.report(), "indexes": indexes, "dry_run": asked.dry_run}

    async def _expire(self, asked: Sweep, buckets: Sequence[Bucket], known: set[str]) -> dict[str, object]:
        rule = ExpiryRule(
            before=datetime.now(UTC) - timedelta(seconds=self.retention),
            pinned_commit=self.in_use.oldest_snapshot(),
            bucket=buckets[0].name if asked.bucket is not None else None,
        )
        expired = await self.committer.run(lambda: self.catalog.expire(rule, dry_run=asked.dry_run))
        count = _Count()
        kept = expired.forgotten
        doomed: dict[str, list[ExpiredObject]] = {}
        for item in expired.objects:
            bucket = self.registry.canonical(item.bucket)
            if bucket not in known or self.registry.known(bucket).read_only:
                kept += 1
                continue
            doomed.setdefault(bucket, []).append(item)
            count.add(item.bytes)
        if not asked.dry_run:
            faults.reach(faults.Place.SWEEP_BURIED)
            for bucket, objects in doomed.items():
                await self.dispatcher.over(bucket).delete(bucket, [item.key for item in objects])
            faults.reach(faults.Place.SWEEP_DELETED)
        return {
            "versions": expired.versions,
            "expired": count.report(),
            "forgotten": kept,
            "idempotency_keys": expired.upload_keys,
        }

    async def _sweep_bucket(self, bucket: Bucket, asked: Sweep, count: _Count, tell: Tell) -> None:
        seen = 0
        async for page in self.dispatcher.over(bucket).list(bucket.name, _OBJECTS_FOLDER):
            seen += len(page)
            if seen >= _TOLD_OBJECTS:
                tell({"bucket": bucket.name, "objects": seen})
            old = {item.key: item for item in self._unused(page, asked.older_than)}
            if not old:
                continue
            dead = await self.committer.run(
                lambda keys=[*old]: self.catalog.bury(keys, dry_run=asked.dry_run)  # type: ignore[misc]
            )
            for key in dead:
                count.add(old[key].bytes)
            if dead and not asked.dry_run:
                faults.reach(faults.Place.SWEEP_BURIED)
                await self.dispatcher.over(bucket).delete(bucket.name, dead)
                faults.reach(faults.Place.SWEEP_DELETED)

    def _unused(self, page: Sequence[ListedObject], older_than: float) -> list[ListedObject]:
        staged, writing = self.in_use.staged(), self.in_use.writing()
        return [
            item
            for item in page
            if item.age >= older_than
            and item.key not in staged
            # An object of a running upload is younger than the upload.
            and item.age > writing.get(item.key.split("/")[1], 0.0)
        ]
