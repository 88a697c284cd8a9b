"""Takes over the datasets of a legacy manifest: their objects are looked at and stay where they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flight_server.catalog.legacy import LegacyDataset, LegacyObject, read_manifest
from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher, InspectedObject
from flight_server.domain import columns
from flight_server.domain.bucket import PRIMARY, BucketRegistry
from flight_server.domain.dataset import ImportedDataset, ObjectRef
from flight_server.errors import NotFoundError

_INSPECTED_AT_ONCE = 64
_LISTED = 20

Place = tuple[str, str]
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

        Objects in buckets that are not configured are taken over unseen. Raises
        InvalidArgumentError for a malformed manifest, NotFoundError with the list of missing objects.
        """
        legacy = read_manifest(manifest)
        footers = await self._inspect(list(dict.fromkeys(self._places(legacy))), progress)
        missing = [f"{bucket}: {key}" for (bucket, key), footer in footers.items() if footer is None]
        if missing:
            more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
            raise NotFoundError(
                f"{len(missing)} objects of the manifest do not exist, nothing was imported: "
                f"{', '.join(missing[:_LISTED])}{more}"
            )
        return self.catalog.import_datasets([self._dataset(entry, footers) for entry in legacy], principal)

    def _locate(self, item: LegacyObject) -> Place | None:
        bucket, _, key = self.registry.locate(item.bucket, item.key)
        return (bucket, key) if bucket is not None else None

    def _places(self, legacy: Sequence[LegacyDataset]) -> Iterator[Place]:
        for dataset in legacy:
            for item in dataset.objects:
                place = self._locate(item)
                if place is not None:
                    yield place

    async def _inspect(
        self, places: Sequence[Place], progress: Progress
    ) -> dict[Place, InspectedObject | None]:
        footers: dict[Place, InspectedObject | None] = {}
        for start in range(0, len(places), _INSPECTED_AT_ONCE):
            chunk = places[start : start + _INSPECTED_AT_ONCE]
            footers.update(zip(chunk, await self.dispatcher.inspect(chunk), strict=True))
            progress(len(footers), len(places))
        return footers

    def _dataset(
        self, legacy: LegacyDataset, footers: dict[Place, InspectedObject | None]
    ) -> ImportedDataset:
        refs = [self._ref(item, footers) for item in legacy.objects]
        schema = columns.unified(ref.schema for ref in refs if ref.schema is not None)
        places = [place for item in legacy.objects if (place := self._locate(item)) is not None]
        namespace = places[0][0] if places else PRIMARY
        return ImportedDataset(legacy.id, namespace, legacy.name, legacy.created_at, schema, tuple(refs))

    def _ref(self, item: LegacyObject, footers: dict[Place, InspectedObject | None]) -> ObjectRef:
        place = self._locate(item)
        footer = footers[place] if place is not None else None
        if footer is None:
            return ObjectRef(item.bucket, item.key, None, item.size_bytes, None, managed=False)
        return ObjectRef(item.bucket, item.key, footer.rows, footer.bytes, footer.schema, managed=False)
