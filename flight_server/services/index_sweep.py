"""Sweep of indexes: those that no search uses any more, and those that nobody has recorded."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.services.commits import Committer

_INDEXES_FOLDER = "vectors"

Making = Callable[[], set[str]]
"""Returns the tables that are being made at that moment."""


@dataclass(frozen=True, slots=True)
class IndexSweep:
    """Removes indexes; what is recorded and used, or was written lately, stays."""

    catalog: Catalog
    dispatcher: Dispatcher
    committer: Committer

    async def sweep(
        self, buckets: Collection[str], older_than: float, making: Making, *, dry_run: bool
    ) -> int:
        """Remove the unused indexes of buckets and return how many there were."""
        vectors = self.catalog.vectors
        unused = [record for record, _ in vectors.unused_indexes() if record.bucket in buckets]
        if not dry_run:
            for record in unused:
                engine = self.dispatcher.over(record.bucket)
                await engine.vectors.drop_index(record.bucket, record.table)
                await self.committer.run(lambda record=record: vectors.forget_index(record))  # type: ignore[misc]
        count = len(unused)
        for bucket in buckets:
            count += await self._sweep_unknown(bucket, older_than, making, dry_run=dry_run)
        return count

    async def _sweep_unknown(self, bucket: str, older_than: float, making: Making, *, dry_run: bool) -> int:
        """Remove the tables that no record names, such as those of builds that were cut off."""
        ages: dict[str, float] = {}
        async for page in self.dispatcher.over(bucket).list(bucket, _INDEXES_FOLDER):
            for item in page:
                table = item.key.split("/")[1].partition(".")[0]
                ages[table] = min(item.age, ages.get(table, item.age))
        if not ages:
            return 0
        vectors = self.catalog.vectors
        known = making()  # asked first, for what has been made is recorded then
        known |= {record.table for record, _ in vectors.all_indexes(bucket)}
        known |= {record.table for record, _ in vectors.unused_indexes()}
        doomed = [table for table, age in ages.items() if table not in known and age >= older_than]
        if not dry_run:
            for table in doomed:
                await self.dispatcher.over(bucket).vectors.drop_index(bucket, table)
        return len(doomed)
