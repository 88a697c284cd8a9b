"""What dropped profiles have left in their folders: removed at once, or by a sweep when that was cut off."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.bucket import Bucket, BucketRegistry
from flight_server.services.commits import Committer

_OBJECTS_FOLDER = "_objects"

Count = Callable[[Mapping[str, int]], None]
"""Called with keys and bytes of objects that go."""


@dataclass(frozen=True, slots=True)
class ProfileRemains:
    """Removes the objects and indexes of dropped profiles; two who do so at once do no harm."""

    catalog: Catalog
    registry: BucketRegistry
    dispatcher: Dispatcher
    committer: Committer

    async def remove(self, bucket: Bucket, count: Count) -> None:
        """Remove what a dropped profile has left; keys are buried first, as sweep does."""
        await self._remove_objects(bucket, count, dry_run=False)
        await self.dispatcher.over(bucket).clear(bucket.name)
        await self.committer.run(lambda: self.catalog.vectors.forget_removal(bucket.name))

    async def remove_cut_off(self, count: Count, *, dry_run: bool) -> None:
        """Remove what is left of profiles whose removal a server did not live to end."""
        for name in self.catalog.vectors.cut_off_removals():
            bucket = self.registry.made(name)
            if bucket is None or bucket.read_only:
                continue
            if dry_run:
                await self._remove_objects(bucket, count, dry_run=True)
            else:
                await self.remove(bucket, count)

    async def _remove_objects(self, bucket: Bucket, count: Count, *, dry_run: bool) -> None:
        engine = self.dispatcher.over(bucket)
        async for page in engine.list(bucket.name, _OBJECTS_FOLDER):
            sizes = {item.key: item.bytes for item in page}
            dead = await self.committer.run(
                lambda keys=[*sizes]: self.catalog.bury(keys, dry_run=dry_run)  # type: ignore[misc]
            )  # not what another profile of that name, made meanwhile, has stored
            if not dry_run:
                await engine.delete(bucket.name, dead)
            count({key: sizes[key] for key in dead})
