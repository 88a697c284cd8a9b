"""Compact: small objects of datasets become fewer, larger ones, sorted where a sort key is declared.

The rows stay the same, so a compaction is a rewrite that conflicts only with a change of the very objects
that it read: it then leaves that dataset alone and says so. Older versions keep their objects.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from flight_server.catalog.store import Catalog
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import CompactRequest
from flight_server.domain import declarations, faults
from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.compaction import SMALL_BYTES, TARGET_BYTES, Compaction, groups
from flight_server.domain.dataset import (
    ChangeMode,
    Dataset,
    DatasetChange,
    DatasetFilter,
    Kind,
    ObjectRef,
    StoredObject,
    display_name,
    fold_name,
)
from flight_server.domain.identity import LOCAL, Identity
from flight_server.domain.near import offer
from flight_server.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidArgumentError,
    LakehouseError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)
from flight_server.frames.requests import ObjectGroup, Relation
from flight_server.services.commits import Committer
from flight_server.services.reservations import Reservations

_log = logging.getLogger("flight_server.compact")

WATCH_SECONDS = 10.0
"""How often the catalog is looked at for datasets of many small objects, if it has changed."""

_GIVEN_UP = (ConflictError, FailedPreconditionError, InvalidArgumentError, UnimplementedError)
"""What ends the compaction of one dataset and not that of the others."""

Tell: TypeAlias = Callable[[dict[str, Any]], None]
"""Called with progress: a dataset, its rows done and its rows in all."""


@dataclass(slots=True)
class _Report:
    """What has been done so far: counts of objects and bytes that were read and written."""

    datasets: int = 0
    merged: list[int] = field(default_factory=lambda: [0, 0])
    written: list[int] = field(default_factory=lambda: [0, 0])
    given_up: list[dict[str, str]] = field(default_factory=list)

    def add(self, merged: Sequence[ObjectRef], written: Sequence[StoredObject]) -> None:
        for counts, objects in ((self.merged, merged), (self.written, written)):
            counts[0] += len(objects)
            counts[1] += sum(item.bytes for item in objects)

    def fields(self) -> dict[str, object]:
        counts = {"merged": self.merged, "written": self.written}
        shown = {name: dict(zip(("objects", "bytes"), count, strict=True)) for name, count in counts.items()}
        return {"datasets": self.datasets, **shown, "given_up": self.given_up}


@dataclass(frozen=True, slots=True)
class CompactService:
    """Compacts datasets, one at a time.

    `engine` starts the engine process that does the work. `rewritten` tells the ids of datasets whose
    objects open transactions will replace: these are left alone, so that compaction makes none of them fail.
    """

    catalog: Catalog
    registry: BucketRegistry
    committer: Committer
    reservations: Reservations
    engine: Callable[[], AbstractAsyncContextManager[Dispatcher]]
    rewritten: Callable[[], set[str]] = lambda: set()
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def compact(self, identity: Identity, asked: Compaction, tell: Tell) -> dict[str, object]:
        """Compact what is asked for and report. Running it again finds nothing more to do.

        Raises NotFoundError, PermissionDeniedError or FailedPreconditionError for what is named and
        may not be written.
        """
        async with self.turn:
            chosen = self._chosen(identity, asked)
            if asked.sort_by is not None:
                chosen = [await self._declare(identity, chosen[0], asked.sort_by)]
            return await self._compact_all(identity, chosen, tell)

    async def watch(self, threshold: int) -> None:
        """Compact datasets with more small objects than a threshold, for ever."""
        seen = -1
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                newest = self.committer.newest()
                if newest != seen:
                    await self._compact_crowded(threshold)
                    seen = newest
            except LakehouseError as error:
                _log.warning("compaction in the background failed: %s", error.message)

    async def _compact_crowded(self, threshold: int) -> None:
        found = await asyncio.to_thread(self.catalog.crowded, SMALL_BYTES, threshold)
        async with self.turn:
            commit = self.committer.newest()
            datasets = [self.catalog.find_dataset([space], name, commit) for space, name in found]
            chosen = [each for each in datasets if each is not None and self._may_write(LOCAL, each)]
            if chosen:
                report = await self._compact_all(LOCAL, chosen, lambda _: None)
                _log.info("compacted in the background: %s", report)

    def _chosen(self, identity: Identity, asked: Compaction) -> list[Dataset]:
        if asked.dataset is None and asked.sort_by is not None:
            raise InvalidArgumentError("'sort_by' is the sort key of one dataset: name it as 'dataset'")
        commit = self.committer.newest()
        namespaces = self._namespaces(identity, asked.bucket, commit)
        if asked.dataset is None:
            stored = self.catalog.list_datasets(commit, DatasetFilter(tuple(namespaces)))
            spaces = frozenset(namespaces)
            tables = [each for each in stored if each.kind == Kind.TABLE and each.namespace in spaces]
            return [each for each in tables if self._may_write(identity, each)]
        named = self.catalog.find_dataset(namespaces, asked.dataset, commit)
        if named is None or named.kind != Kind.TABLE:
            place = f"bucket {asked.bucket}" if asked.bucket is not None else "any bucket"
            raise NotFoundError(f"no table {asked.dataset[:80]!r} in {place}")
        if not self._may_write(identity, named):
            raise PermissionDeniedError(
                f"{_shown(named)} may be read by you but not written, and compacting it writes"
            )
        return [named]

    def _namespaces(self, identity: Identity, written: str | None, commit: int) -> list[str]:
        """Return the schemas that are meant, of those that exist for the caller. Raises NotFoundError."""
        made = {space.name: space.bucket for space in self.catalog.list_namespaces(commit)}
        places = {bucket.name: bucket.name for bucket in self.registry}
        places |= {name: bucket for name, bucket in made.items() if name not in places}
        readable = [name for name, bucket in places.items() if identity.may("read", bucket)]
        if written is None:
            return readable
        name = self.registry.canonical(fold_name(written)) or fold_name(written)
        if name not in readable:
            hint = offer(name, readable, "buckets and schemas", more="FROM information_schema.schemata")
            raise NotFoundError(f"no bucket or schema {written[:100]!r}; {hint}")
        return [name]

    def _may_write(self, identity: Identity, dataset: Dataset) -> bool:
        """Tell whether a caller may write every bucket that a dataset's objects lie in."""
        refs = self.catalog.list_objects(dataset.id, dataset.version)
        names = {self.registry.locate(ref.bucket, ref.key)[0] for ref in refs}
        return all(
            name is not None and identity.may("write", name) and not self.registry.known(name).read_only
            for name in names
        )

    async def _declare(self, identity: Identity, dataset: Dataset, columns: Sequence[str]) -> Dataset:
        """Make columns the sort key of a dataset; return the dataset as it then is."""
        if dataset.schema is None:
            raise FailedPreconditionError(f"the columns of {_shown(dataset)} are not known: read it once")
        schema = declarations.read(dataset.schema)
        altered = declarations.with_sort_key(schema, columns)
        if altered.equals(schema, check_metadata=True):
            return dataset
        message = altered.serialize().to_pybytes()
        change = replace(_rewrite(dataset, dataset.namespace, message), mode=ChangeMode.ALTER)
        summary = f"sort key of {_shown(dataset)}: {', '.join(columns) or 'none'}"
        (made,) = await self.committer.commit([change], identity.name, summary)
        return replace(dataset, version=made.version, commit=made.commit, schema=message)

    async def _compact_all(
        self, identity: Identity, datasets: Sequence[Dataset], tell: Tell
    ) -> dict[str, object]:
        report = _Report()
        planned = [(dataset, _groups(self.catalog, dataset)) for dataset in datasets]
        planned = [(dataset, found) for dataset, found in planned if found]
        if planned:
            async with self.engine() as dispatcher:
                for dataset, found in planned:
                    run = _Run(self, dispatcher, identity, dataset, report, tell)
                    await run.compact(found)
        return report.fields()


@dataclass(frozen=True, slots=True)
class _Run:
    """The compaction of one dataset."""

    service: CompactService
    dispatcher: Dispatcher
    identity: Identity
    dataset: Dataset
    report: _Report
    tell: Tell

    async def compact(self, found: Sequence[Sequence[ObjectRef]]) -> None:
        total = sum(ref.rows or 0 for group in found for ref in group)
        done = 0
        self._tell(total, done)
        for group in found:
            try:
                done += await self._merge(group, partial(self._tell, total, done))
            except _GIVEN_UP as error:
                self.report.given_up.append({"dataset": _shown(self.dataset), "reason": error.message})
                return
            self._tell(total, done)
        self.report.datasets += 1

    def _tell(self, total: int, before: int, rows: int = 0) -> None:
        self.tell({"dataset": _shown(self.dataset), "rows": before + rows, "of": total})

    def _check_free(self) -> None:
        if self.dataset.id in self.service.rewritten():
            raise ConflictError("an open transaction has changed rows of it: compact it again afterwards")

    async def _merge(self, group: Sequence[ObjectRef], tell: Callable[[int], None]) -> int:
        """Put new objects in the place of a group, by one commit; return their rows."""
        service, dataset = self.service, self.dataset
        self._check_free()
        request = _request(service.registry, dataset, group)
        with service.reservations.hold(dataset.id):
            async with self.dispatcher.over(*request.buckets).compact(request, tell) as upload:
                faults.reach(faults.Place.COMPACT_STORED)
                self._check_free()
                rows = sum(stored.rows for stored in upload.objects)
                known = [ref.rows for ref in group]
                if None not in known and rows != sum(count or 0 for count in known):
                    raise ConflictError(f"objects of {_shown(dataset)} do not hold the rows that they should")
                change = replace(
                    _rewrite(dataset, request.bucket, request.relation.schema),
                    objects=upload.objects,
                    removed=tuple((ref.bucket, ref.key) for ref in group),
                )
                summary = f"compact {_shown(dataset)}: {len(group)} objects into {len(upload.objects)}"
                await service.committer.commit([change], self.identity.name, summary)
        faults.reach(faults.Place.COMPACT_COMMITTED)
        self.report.add(group, upload.objects)
        return rows


def _groups(catalog: Catalog, dataset: Dataset) -> list[list[ObjectRef]]:
    if dataset.schema is None:
        return []
    key = declarations.sort_key(declarations.read(dataset.schema))
    return groups(catalog.list_objects(dataset.id, dataset.version), key)


def _rewrite(dataset: Dataset, bucket: str, schema: bytes) -> DatasetChange:
    return DatasetChange(
        namespace=dataset.namespace,
        name=dataset.name,
        bucket=bucket,
        mode=ChangeMode.REWRITE,
        dataset_id=dataset.id,
        base_version=dataset.version,
        schema=schema,
        objects=(),
        is_upkeep=True,
    )


def _request(registry: BucketRegistry, dataset: Dataset, group: Sequence[ObjectRef]) -> CompactRequest:
    """Ask for the objects of a group with the dataset's columns; no constraints."""
    current: Any = declarations.read(dataset.schema or b"")
    by_schema: dict[bytes, list[tuple[str, str]]] = {}
    bucket = ""
    for ref in group:
        located, written, key = registry.locate(ref.bucket, ref.key)
        if located is None:
            raise FailedPreconditionError(f"{_shown(dataset)} has objects in the unknown bucket {written!r}")
        bucket = located
        by_schema.setdefault(ref.schema or dataset.schema or b"", []).append((bucket, key))
    relation = Relation(
        declarations.of_sorted_objects(current).serialize().to_pybytes(),
        tuple(ObjectGroup(schema, tuple(objects)) for schema, objects in by_schema.items()),
    )
    names = {declarations.column_id(column): column.name for column in current}
    sort_by = tuple(names[each] for each in declarations.sort_key(current))
    return CompactRequest(bucket, dataset.id, relation, sort_by, TARGET_BYTES)


def _shown(dataset: Dataset) -> str:
    return display_name(dataset.namespace, dataset.name)
