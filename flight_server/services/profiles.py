"""Profiles: made and dropped under a pattern of the configuration, loaded into memory and let go of."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.vectors import Activation
from flight_server.domain.bucket import PROFILE_PREFIX, Bucket, is_valid_name
from flight_server.domain.dataset import fold_name
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    LakehouseError,
    PermissionDeniedError,
)
from flight_server.services.commits import Committer
from flight_server.services.remains import ProfileRemains
from flight_server.services.searched import SearchedDatasets

_log = logging.getLogger("flight_server.profiles")

_SELECTED_SECONDS = 300.0
"""How long a selected profile counts as loaded; what was evicted meanwhile, the next search loads."""

_REMEMBERED = 10_000

Row: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[Row], None]
"""Called with progress."""


class ProfileService:
    """Makes, drops, loads and lists profiles; used from the event loop."""

    def __init__(self, datasets: SearchedDatasets, committer: Committer, dispatcher: Dispatcher) -> None:
        self._datasets = datasets
        self._names = datasets.names
        self._catalog = datasets.catalog.vectors
        self._committer = committer
        self._dispatcher = dispatcher
        self._remains = ProfileRemains(datasets.catalog, datasets.names.registry, dispatcher, committer)
        self._selected: RecentMap[str, float] = RecentMap(_REMEMBERED)
        self._working: set[asyncio.Task[Any]] = set()
        self.registry = self._names.registry
        self.refresh = self._names.refresh

    async def create(self, identity: Identity, written: str) -> Row:
        """Make a profile.

        Raises InvalidArgumentError, PermissionDeniedError, AlreadyExistsError, or FailedPreconditionError
        where the configuration has no pattern for profiles.
        """
        name = fold_name(written).removeprefix(PROFILE_PREFIX)
        bucket = PROFILE_PREFIX + name
        if not is_valid_name(bucket):
            raise InvalidArgumentError(
                f"{written[:80]!r} cannot be the name of a profile: lower-case letters, digits, '_', '.' and "
                "'-', at most 63 of them, the first a letter or digit"
            )
        _check_own(identity, name, "made")
        if self.registry.pattern is None:
            raise FailedPreconditionError(
                'profiles cannot be made here: the configuration has no [buckets."profile:*"]'
            )
        if self.registry.find(bucket) is not None:
            raise AlreadyExistsError(f"profile {name} already exists: choose another name")
        commit = await self._committer.run(lambda: self._catalog.create_profile(name, identity.name))
        self.refresh()
        return {"profile": name, "bucket": bucket, "commit": commit}

    async def drop(self, identity: Identity, written: str, tell: Tell) -> Row:
        """Drop a profile with all its data: datasets with all versions, objects, indexes.

        What the caller does meanwhile does not stop it. Raises NotFoundError, PermissionDeniedError, or
        FailedPreconditionError for one of the configuration, or with objects that other datasets use.
        """
        bucket = self._datasets.profile(identity, written)
        name = bucket.name.removeprefix(PROFILE_PREFIX)
        _check_own(identity, name, "dropped")
        if self.registry.is_configured(bucket.name):
            raise FailedPreconditionError(
                f"profile {name} is named in the configuration and stays; DROP TABLE removes its datasets"
            )
        commit = await self._committer.run(lambda: self._catalog.drop_profile(name, identity.name))
        self.refresh()
        removing = asyncio.ensure_future(self._remove(bucket, tell))
        self._working.add(removing)
        removing.add_done_callback(self._working.discard)
        removed = await asyncio.shield(removing)
        return {"profile": name, "commit": commit, **removed}

    async def _remove(self, bucket: Bucket, tell: Tell) -> Row:
        """Remove what a dropped profile has left; tell how much of it has gone."""
        objects = size = 0

        def count(gone: Mapping[str, int]) -> None:
            nonlocal objects, size
            objects, size = objects + len(gone), size + sum(gone.values())
            tell({"objects": objects})

        await self._dispatcher.deactivate(bucket.name)
        await self._remains.remove(bucket, count)
        return {"objects": objects, "bytes": size}

    async def activate(self, identity: Identity, written: str, *, wait: bool) -> AsyncIterator[Row]:
        """Load what searches in a profile use; yield what each index has got, and a summary."""
        bucket = self._datasets.profile(identity, written)
        began, count, size = time.perf_counter(), 0, 0
        asked = self._asked(identity, bucket)
        if asked:
            vectors = self._dispatcher.of(identity).vectors
            async with aclosing(vectors.activate(bucket.name, asked, wait=wait)) as rows:
                async for row in rows:
                    count, size = count + 1, size + row["bytes"]
                    yield row
        yield {
            "profile": bucket.name.removeprefix(PROFILE_PREFIX),
            "indexes": count,
            "bytes": size,
            "ms": round((time.perf_counter() - began) * 1000, 3),
            "done": wait or not asked,
        }

    def _asked(self, identity: Identity, bucket: Bucket) -> list[Activation]:
        return [
            Activation(dataset.name, self._datasets.searched(identity, dataset), self._names.indexes(dataset))
            for dataset in self._datasets.with_vectors(bucket)
        ]

    async def deactivate(self, identity: Identity, written: str) -> Row:
        """Let go of all that a profile has in memory."""
        bucket = self._datasets.profile(identity, written)
        entries, size = await self._dispatcher.deactivate(bucket.name)
        self._selected.put(bucket.name, float("-inf"))
        return {"profile": bucket.name.removeprefix(PROFILE_PREFIX), "entries": entries, "bytes": size}

    async def list(self, identity: Identity) -> AsyncIterator[Row]:
        """Yield the profiles that exist for a caller, in order of name, with what each has in memory."""
        active: dict[str, list[Row]] = {}
        for row in await self._dispatcher.activations():
            active.setdefault(row["bucket"], []).append(row)
        indexes: dict[str, int] = {}
        for record, _ in await asyncio.to_thread(self._catalog.all_indexes):
            indexes[record.bucket] = indexes.get(record.bucket, 0) + 1
        rows = await asyncio.to_thread(self._catalog.profiles)
        made = {PROFILE_PREFIX + row.name: row for row in rows}
        profiles = [each for each in self._names.visible(identity) if each.is_profile]
        for bucket in sorted(profiles, key=lambda each: each.name):
            own = active.get(bucket.name, [])
            origin = made.get(bucket.name)
            yield {
                "profile": bucket.name.removeprefix(PROFILE_PREFIX),
                "bucket": bucket.name,
                "is_configured": self.registry.is_configured(bucket.name),
                "created_at": origin.created_at.isoformat() if origin is not None else None,
                "principal": origin.principal if origin is not None else None,
                "indexes": indexes.get(bucket.name, 0),
                "active": len(own),
                "bytes": sum(entry["bytes"] for entry in own),
            }

    def select(self, identity: Identity, profile: str) -> None:
        """Load a profile in the background that a caller has selected, unless that was done lately."""
        name = PROFILE_PREFIX + profile
        last, now = self._selected.get(name), time.monotonic()
        if last is not None and now - last < _SELECTED_SECONDS:
            return
        self._selected.put(name, now)
        task = asyncio.ensure_future(self._load(identity, profile))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _load(self, identity: Identity, profile: str) -> None:
        try:
            async for _ in self.activate(identity, profile, wait=False):
                pass
        except LakehouseError as error:
            _log.info("profile %s was not loaded ahead: %s", profile, error.message)


def _check_own(identity: Identity, name: str, done: str) -> None:
    bucket = PROFILE_PREFIX + name
    is_own = identity.name == name and identity.may("write", bucket)
    if not is_own and not identity.may("admin", bucket):
        raise PermissionDeniedError(
            f"profile {name} may be {done} by an admin of {bucket}, or by the user of that name who may "
            "write it"
        )
