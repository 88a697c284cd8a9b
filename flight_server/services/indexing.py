"""Vector indexes: built on demand, and brought up to date in the background after commits.

The catalog says which index searches use; an index is built beside it and takes its place by one commit. A
lease for each dataset sees to it that no two servers work on its indexes at once.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.vectors import Activation, Building, IndexBuild, Searched
from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.domain.dataset import Dataset
from flight_server.domain.identity import LOCAL, Identity
from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.errors import ConflictError, LakehouseError, NotFoundError
from flight_server.services.aside import AsideEngine
from flight_server.services.commits import Committer
from flight_server.services.index_progress import IndexProgress
from flight_server.services.searched import SearchedDatasets, shown, with_column_id, with_column_name

_log = logging.getLogger("flight_server.indexing")

_LOOK_SECONDS = 0.5
_LEASE_SECONDS = 60.0
_RENEW_SECONDS = 15.0
_MOST_QUIET = 10
"""How many times as long as it should be quiet the background waits at most."""

_FIRST_RETRY, _LAST_RETRY = 5.0, 600.0

Tell: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class AskedIndex:
    """The index that a caller asks for; no column means the only one that can be meant.

    `search` are the settings that searches shall have, None for those that they have had.
    """

    profile: str
    table: str
    column: str | None
    kind: IndexKind
    metric: Metric
    params: Mapping[str, object]
    search: Mapping[str, int] | None = None


@dataclass(slots=True)
class _Retry:
    """When a dataset's index is tried again that could not be brought up to date."""

    failures: int = 0
    at: float = 0.0

    def fail(self) -> None:
        self.failures += 1
        self.at = time.monotonic() + min(_FIRST_RETRY * 2 ** (self.failures - 1), _LAST_RETRY)


@dataclass(frozen=True, slots=True)
class IndexService:
    """Builds, drops and updates indexes; building and updating in an engine process of its own."""

    datasets: SearchedDatasets
    committer: Committer
    dispatcher: Dispatcher
    engine: AsideEngine
    progress: IndexProgress
    retries: dict[str, _Retry] = field(default_factory=dict)

    async def create(self, identity: Identity, asked: AskedIndex, tell: Tell) -> dict[str, Any]:
        """Build an index, which takes the place of the column's; searches go on meanwhile.

        Raises NotFoundError, PermissionDeniedError, InvalidArgumentError, or ConflictError when one is being
        built already.
        """
        bucket = self.datasets.writable_profile(identity, asked.profile)
        dataset = self.datasets.table(identity, bucket, asked.table)
        searched = self.datasets.searched(identity, dataset)
        request = IndexBuild(searched, asked.column, asked.kind, asked.metric, asked.params, uuid.uuid4().hex)
        async with self._leased(dataset.id) as had:
            if not had:
                raise ConflictError(
                    f"an index of {shown(dataset)} is being worked on: try again when it is done"
                )
            with self._noted(dataset), self.progress.making(request.table):
                async with (
                    self.engine.working() as dispatcher,
                    dispatcher.over(*searched.buckets).vectors.build_index(
                        request, self._teller(dataset, tell)
                    ) as building,
                ):
                    record = _record(searched.bucket, dataset, request.table, building)
                    if asked.search is not None:
                        record = replace(record, search=dict(asked.search))
                        await self._warm(identity, dataset, searched, record)
                    await self._put(identity, dataset, record)
                    building.keep()
        return _report(dataset, record, building.built.seconds)

    async def _warm(
        self, identity: Identity, dataset: Dataset, searched: Searched, record: IndexRecord
    ) -> None:
        """Load an index where it will be searched, so that the first search does not wait for it."""
        asked = [Activation(dataset.name, searched, [record])]
        vectors = self.dispatcher.of(identity).vectors
        async with aclosing(vectors.activate(searched.bucket, asked, wait=True)) as loaded:
            async for _ in loaded:
                pass

    async def _put(self, identity: Identity, dataset: Dataset, record: IndexRecord) -> None:
        """Let an index take the place of the one that its column had."""
        catalog = self.datasets.catalog.vectors
        own = with_column_id(record, dataset)
        replaced = [
            each
            for each in catalog.indexes(dataset.id)
            if each.column == own.column and (each.kind is IndexKind.FTS) is (own.kind is IndexKind.FTS)
        ]
        before = replaced[0] if replaced else None
        if before is not None and before.kind is own.kind and not own.search:
            own = replace(own, search=before.search)
        name = shown(dataset)
        await self.committer.run(lambda: catalog.put_index(own, before, identity.name, name))

    async def drop(self, identity: Identity, profile: str, table: str, column: str | None) -> dict[str, Any]:
        """Drop the indexes of a column, of all columns without one; searches go on without them.

        Raises NotFoundError when there is none, or PermissionDeniedError.
        """
        bucket = self.datasets.writable_profile(identity, profile)
        dataset = self.datasets.table(identity, bucket, table)
        catalog = self.datasets.catalog.vectors
        named = {each.id: each.column for each in self.datasets.names.indexes(dataset)}
        found = [
            record
            for record in catalog.indexes(dataset.id)
            if column is None or named.get(record.id, record.column).lower() == column.lower()
        ]
        if not found:
            of = f"column {column} of " if column is not None else ""
            raise NotFoundError(f"{of}{shown(dataset)} has no index")
        for record in found:
            await self.committer.run(
                lambda record=record: catalog.drop_index(record, identity.name, shown(dataset))  # type: ignore[misc]
            )
        await self.remove_unused()
        columns = [named.get(record.id, record.column) for record in found]
        return {**_place(dataset), "columns": columns, "done": True}

    async def remove_unused(self) -> None:
        """Remove the files of indexes that were dropped."""
        catalog = self.datasets.catalog.vectors
        unused = [record for record, is_dropped in catalog.unused_indexes() if is_dropped]
        for record in unused:
            if self.datasets.names.registry.find(record.bucket) is not None:
                engine = self.dispatcher.over(record.bucket)
                await engine.vectors.drop_index(record.bucket, record.table)
            await self.committer.run(lambda record=record: catalog.forget_index(record))  # type: ignore[misc]

    async def watch(self, quiet: float) -> None:
        """Bring indexes up to date for ever: when nobody has committed for some seconds, or too long."""
        seen, first, last = -1, 0.0, 0.0
        is_pending = True
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                newest, now = self.committer.newest(), time.monotonic()
                if newest != seen:
                    first = first if is_pending and seen >= 0 else now
                    seen, last, is_pending = newest, now, True
                if is_pending and (now - last >= quiet or now - first >= quiet * _MOST_QUIET):
                    is_pending = await self.catch_up()
                    first = last = time.monotonic()
            except LakehouseError as error:
                _log.warning("indexes could not be looked after: %s", error.message)

    async def catch_up(self) -> bool:
        """Bring indexes up to date that lag behind; return whether some have to wait."""
        catalog = self.datasets.catalog.vectors
        lagging = await asyncio.to_thread(catalog.lagging)
        waits = False
        for record, version in lagging:
            retry = self.retries.setdefault(record.id, _Retry())
            if retry.at > time.monotonic() or not await self._caught_up(record, version):
                waits = True
        for index_id in self.retries.keys() - {record.id for record, _ in lagging}:
            del self.retries[index_id]
        await self.remove_unused()
        return waits

    async def _caught_up(self, record: IndexRecord, version: int) -> bool:
        """Bring one index up to a version of its dataset; tell whether it is."""
        try:
            async with self._leased(record.dataset_id) as had:
                if had:
                    await self._update(record, version)
        except LakehouseError as error:
            self.retries[record.id].fail()
            self.progress.fail(record.dataset_id, error.message)
            _log.warning("an index could not be brought up to date and is tried again: %s", error.message)
            return False
        return had

    async def _update(self, record: IndexRecord, version: int) -> None:
        dataset = self.datasets.version(record, version)
        if dataset is None or self.datasets.names.registry.find(record.bucket) is None:
            return
        named = with_column_name(record, dataset)
        searched = self.datasets.searched(LOCAL, dataset)
        tell, anew = self._teller(dataset, lambda _: None), uuid.uuid4().hex
        with self._noted(dataset), self.progress.making(anew):
            async with self.engine.working() as dispatcher:
                vectors = dispatcher.over(*searched.buckets).vectors
                async with vectors.update_index(searched, named, anew, tell) as building:
                    after = _advanced(record, building, version, anew)
                    catalog, name = self.datasets.catalog.vectors, shown(dataset)
                    await self.committer.run(lambda: catalog.advance_index(after, record, LOCAL.name, name))
                    building.keep()
                if after.table != record.table:
                    await vectors.drop_index(record.bucket, record.table)

    def _teller(self, dataset: Dataset, tell: Tell) -> Tell:
        def told(progress: dict[str, Any]) -> None:
            self.progress.tell(dataset.id, progress["phase"], progress["done"])
            tell({"table": dataset.name, **progress})

        return told

    @asynccontextmanager
    async def _leased(self, dataset_id: str) -> AsyncIterator[bool]:
        """Hold the lease of a dataset's indexes for the block, if it can be had."""
        catalog, owner, name = self.datasets.catalog.vectors, uuid.uuid4().hex, f"indexes of {dataset_id}"

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                await self.committer.run(lambda: catalog.acquire(name, owner, _LEASE_SECONDS))

        had = await self.committer.run(lambda: catalog.acquire(name, owner, _LEASE_SECONDS))
        renewing = asyncio.ensure_future(renew())
        try:
            yield had
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if had:
                await self.committer.run(lambda: catalog.release(name, owner))

    @contextmanager
    def _noted(self, dataset: Dataset) -> Iterator[None]:
        """Show the work of the block, and why it failed."""
        self.progress.tell(dataset.id, "rows", 0.0)
        try:
            yield
        except LakehouseError as error:
            self.progress.fail(dataset.id, error.message)
            raise
        except BaseException:
            self.progress.end(dataset.id)
            raise
        self.progress.end(dataset.id)


def _record(bucket: str, dataset: Dataset, table: str, building: Building) -> IndexRecord:
    built = building.built
    return IndexRecord(
        id=uuid.uuid4().hex,
        dataset_id=dataset.id,
        bucket=bucket,
        column=built.column,
        kind=built.kind,
        metric=built.metric,
        table=table,
        lance_version=built.lance_version,
        dataset_version=dataset.version,
        rows=built.rows,
        dim=built.dim,
        bytes=built.bytes,
        params=built.params,
    )


def _advanced(record: IndexRecord, building: Building, version: int, anew: str) -> IndexRecord:
    built = building.built
    return replace(
        record,
        table=anew if built.is_anew else record.table,
        lance_version=built.lance_version,
        dataset_version=version,
        rows=built.rows,
        dim=built.dim,
        bytes=built.bytes,
    )


def _place(dataset: Dataset) -> dict[str, Any]:
    return {"profile": dataset.namespace.removeprefix(PROFILE_PREFIX), "table": dataset.name}


def _report(dataset: Dataset, record: IndexRecord, seconds: float) -> dict[str, Any]:
    return {
        **_place(dataset),
        "column": record.column,
        "type": record.kind,
        **record.measure,
        "params": dict(record.params),
        "rows": record.rows,
        "bytes": record.bytes,
        "version": record.dataset_version,
        "seconds": seconds,
        "done": True,
    }
