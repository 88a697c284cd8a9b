"""Takes over the datasets of a legacy manifest: their objects are looked at and stay where they are."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flight_server.catalog.legacy import LegacyDataset, LegacyObject, read_manifest
from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import InspectedObject
from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.dataset import ImportedDataset, ObjectRef
from flight_server.domain.recent import RecentMap
from flight_server.errors import InvalidArgumentError, NotFoundError
from flight_server.services.resolution import check_dataset_name

_INSPECTED_AT_ONCE = 64
_OBJECTS_AT_ONCE = 1_024
_REMEMBERED_FOOTERS = 4_096
_LISTED = 20

Place = tuple[str, str]
Footers = dict[Place, InspectedObject | None]
Progress = Callable[[int, int], None]
"""Called with (objects done, objects in all)."""


@dataclass(frozen=True, slots=True)
class LegacyImport:
    """Imports manifests into a catalog."""

    catalog: Catalog
    registry: BucketRegistry
    dispatcher: Dispatcher

    async def run(self, manifest: Path, principal: str, progress: Progress) -> dict[str, object]:
        """Read a manifest and the footers of its objects; commit all of its datasets, or nothing.

        The manifest is read twice, first to check it. Objects in buckets that are not configured are
        taken over unseen. Raises InvalidArgumentError for a malformed manifest, NotFoundError with
        some of the missing objects and their number.
        """
        loop, engine = asyncio.get_running_loop(), self.dispatcher.over(*self.registry)

        def inspect(places: Sequence[Place]) -> list[InspectedObject | None]:
            return asyncio.run_coroutine_threadsafe(engine.inspect(places), loop).result()

        def work() -> dict[str, object]:
            reading = _Reading(self.registry, inspect, progress, _checked(manifest))
            return self.catalog.import_datasets(reading.pieces(manifest), principal)

        return await asyncio.to_thread(work)


def _checked(manifest: Path) -> int:
    """Return how many objects a manifest has. Raises InvalidArgumentError, which names the entry."""
    count = 0
    for entry in read_manifest(manifest):
        count += len(entry.objects)
        try:
            check_dataset_name(entry.name)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"the manifest is wrong at the dataset with the id {entry.id}: {error.message}"
            ) from error
    return count


@dataclass(slots=True)
class _Reading:
    """One pass over a manifest; `missing` are the first objects that do not exist, of `missing_count`."""

    registry: BucketRegistry
    inspect: Callable[[Sequence[Place]], list[InspectedObject | None]]
    progress: Progress
    total: int
    done: int = 0
    missing_count: int = 0
    missing: list[str] = field(default_factory=list)
    recent: RecentMap[Place, InspectedObject] = field(default_factory=lambda: RecentMap(_REMEMBERED_FOOTERS))

    def pieces(self, manifest: Path) -> Iterator[ImportedDataset]:
        """Yield the datasets with what the footers say. Raises NotFoundError at the end."""
        for group in _grouped(read_manifest(manifest)):
            footers = self._footers(group)
            for entry in group:
                yield self._piece(entry, footers)
        if self.missing_count:
            more = self.missing_count - len(self.missing)
            raise NotFoundError(
                f"{self.missing_count} objects of the manifest do not exist, nothing was imported: "
                f"{', '.join(self.missing)}{f' and {more} more' if more else ''}"
            )

    def _locate(self, item: LegacyObject) -> Place | None:
        bucket, _, key = self.registry.locate(item.bucket, item.key)
        return (bucket, key) if bucket is not None else None

    def _footers(self, group: Sequence[LegacyDataset]) -> Footers:
        located = [place for entry in group for item in entry.objects if (place := self._locate(item))]
        footers: Footers = {place: self.recent.get(place) for place in located}
        unknown = [place for place, footer in footers.items() if footer is None]
        for start in range(0, len(unknown), _INSPECTED_AT_ONCE):
            chunk = unknown[start : start + _INSPECTED_AT_ONCE]
            for place, footer in zip(chunk, self.inspect(chunk), strict=True):
                footers[place] = footer
                self._note(place, footer)
        self.done += sum(len(entry.objects) for entry in group)
        self.progress(self.done, self.total)
        return footers

    def _note(self, place: Place, footer: InspectedObject | None) -> None:
        if footer is not None:
            self.recent.put(place, footer)
            return
        self.missing_count += 1
        if len(self.missing) < _LISTED:
            self.missing.append(f"{place[0]}: {place[1]}")

    def _piece(self, entry: LegacyDataset, footers: Footers) -> ImportedDataset:
        places = (self._locate(item) for item in entry.objects)
        namespace = next((place[0] for place in places if place is not None), None)
        refs = tuple(self._ref(item, footers) for item in entry.objects)
        return ImportedDataset(entry.id, namespace, entry.name, entry.created_at, refs)

    def _ref(self, item: LegacyObject, footers: Footers) -> ObjectRef:
        place = self._locate(item)
        footer = footers[place] if place is not None else None
        if footer is None:
            return ObjectRef(item.bucket, item.key, None, item.size_bytes, None, managed=False)
        return ObjectRef(item.bucket, item.key, footer.rows, footer.bytes, footer.schema, managed=False)


def _grouped(entries: Iterator[LegacyDataset]) -> Iterator[list[LegacyDataset]]:
    """Put pieces together, so that many small datasets are not asked for one by one."""
    group: list[LegacyDataset] = []
    objects = 0
    for entry in entries:
        group.append(entry)
        objects += 1 + len(entry.objects)
        if objects >= _OBJECTS_AT_ONCE:
            yield group
            group, objects = [], 0
    yield group
