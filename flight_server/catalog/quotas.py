"""Quotas: how many bytes the objects of a bucket may take, those of older versions included."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, func, select

from flight_server.catalog.tables import commits, object_refs
from flight_server.domain.bucket import Bucket
from flight_server.domain.dataset import DatasetChange
from flight_server.errors import QuotaExceededError

_REMEMBERED_SECONDS = 60.0

_USED = select(func.coalesce(func.sum(object_refs.c.bytes), 0)).where(
    object_refs.c.managed, object_refs.c.bucket.in_(bindparam("names", expanding=True))
)
_USED_BY_NAME = (
    select(object_refs.c.bucket, func.sum(object_refs.c.bytes).label("used"))
    .where(object_refs.c.managed)
    .group_by(object_refs.c.bucket)
)
_NEWEST = select(func.coalesce(func.max(commits.c.id), 0))


@dataclass(frozen=True, slots=True)
class _Usage:
    """Bytes that a bucket holds when a commit is the newest, known at a monotonic time."""

    bytes: int
    commit: int
    at: float


class Quotas:
    """Checks commits against the quotas of their buckets, by one thread at a time, in its transaction.

    `find` returns a bucket by its name; before it is given there are no quotas. `_known` spares counting for
    each commit; no commit is refused without counting.
    """

    def __init__(self, read: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._read = read
        self.find: Callable[[str], Bucket | None] = lambda _: None
        self._known: dict[str, _Usage] = {}

    def room(self, name: str) -> int | None:
        """Return how many bytes more a bucket may hold, None for any number; from any thread."""
        bucket = self.find(name)
        if bucket is None or bucket.quota_bytes is None:
            return None
        with self._read() as connection:
            return max(0, bucket.quota_bytes - self._usage(connection, bucket).bytes)

    def used(self) -> dict[str, int]:
        """Return how many bytes are used under each name of a bucket, counted now; from any thread."""
        with self._read() as connection:
            return {row.bucket: row.used for row in connection.execute(_USED_BY_NAME)}

    def forget(self) -> None:
        """Count anew: objects were removed."""
        self._known.clear()

    def check(self, connection: Connection, changes: Sequence[DatasetChange]) -> None:
        """Refuse changes that a bucket has no room for. Raises QuotaExceededError."""
        added: Counter[str] = Counter()
        for change in changes:
            if change.managed and not change.is_upkeep:
                added[change.bucket] += sum(stored.bytes for stored in change.objects)
        for name, size in added.items():
            bucket = self.find(name)
            if size and bucket is not None and bucket.quota_bytes is not None:
                self._check(connection, bucket, bucket.quota_bytes, size)

    def _check(self, connection: Connection, bucket: Bucket, quota: int, size: int) -> None:
        known = self._usage(connection, bucket)
        if known.bytes + size > quota:
            known = replace(known, bytes=_used(connection, bucket), at=time.monotonic())
        if known.bytes + size > quota:
            raise QuotaExceededError(
                f"bucket {bucket.name} may hold {quota} bytes (its quota_bytes) and holds {known.bytes}, "
                f"older versions included, so {size} more have no room: drop what is not needed, and sweep "
                "frees it after the retention"
            )
        self._known[bucket.name] = _Usage(known.bytes + size, known.commit + 1, known.at)

    def _usage(self, connection: Connection, bucket: Bucket) -> _Usage:
        newest = connection.execute(_NEWEST).scalar_one()
        known = self._known.get(bucket.name)
        is_fresh = known is not None and time.monotonic() - known.at < _REMEMBERED_SECONDS
        if known is None or not is_fresh or known.commit != newest:
            known = self._known[bucket.name] = _Usage(_used(connection, bucket), newest, time.monotonic())
        return known


def _used(connection: Connection, bucket: Bucket) -> int:
    used: int = connection.execute(_USED, {"names": [bucket.name, *bucket.aliases]}).scalar_one()
    return used
