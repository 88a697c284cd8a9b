"""Quotas: how many bytes the objects of a bucket may take, those of older versions included."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from flight_server.catalog.tables import object_refs
from flight_server.domain.bucket import Bucket
from flight_server.domain.dataset import DatasetChange
from flight_server.errors import QuotaExceededError

_REMEMBERED_SECONDS = 60.0
"""How long a count is gone on from; until then nobody may notice what another server has swept."""

_USED_BY_NAME = (
    select(
        object_refs.c.bucket,
        func.sum(object_refs.c.bytes).label("used"),
        func.max(object_refs.c.id).label("id"),
    )
    .where(object_refs.c.managed, object_refs.c.id > bindparam("after"))
    .group_by(object_refs.c.bucket)
)
_NEWEST = select(func.coalesce(func.max(object_refs.c.id), 0))


@dataclass(frozen=True, slots=True)
class _Count:
    """Bytes under each name of a bucket, of objects up to one, since a monotonic time."""

    used: Counter[str]
    last: int
    at: float

    def of(self, bucket: Bucket) -> int:
        """Return the bytes of a bucket, those under its aliases included."""
        return sum(self.used[name] for name in (bucket.name, *bucket.aliases))

    def is_stale(self, connection: Connection) -> bool:
        """Tell whether it is old, or objects that it counted are gone."""
        newest: int = connection.execute(_NEWEST).scalar_one()
        return newest < self.last or time.monotonic() - self.at > _REMEMBERED_SECONDS

    def with_newer(self, connection: Connection) -> "_Count":
        """Add the objects that came later."""
        rows = connection.execute(_USED_BY_NAME, {"after": self.last}).all()
        added = Counter({row.bucket: int(row.used) for row in rows})
        return _Count(self.used + added, max((row.id for row in rows), default=self.last), self.at)


class Quotas:
    """Checks commits against the quotas of their buckets, in their transactions.

    `find` returns a bucket by its name; before it is given there are no quotas. `_counted` spares counting
    everything each time and holds committed objects only; no commit is refused without counting all.
    """

    def __init__(self, read: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._read = read
        self.find: Callable[[str], Bucket | None] = lambda _: None
        self._counted: _Count | None = None

    def room(self, name: str) -> int | None:
        """Return how many bytes more a bucket may hold, None for any number; from any thread."""
        bucket = self.find(name)
        if bucket is None or bucket.quota_bytes is None:
            return None
        return max(0, bucket.quota_bytes - self._count().of(bucket))

    def used(self) -> Mapping[str, int]:
        """Return how many bytes are used under each name of a bucket; from any thread."""
        return self._count().used

    def forget(self) -> None:
        """Count anew: objects were removed."""
        self._counted = None

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
        held = self._count().with_newer(connection).of(bucket)
        if held + size > quota:
            held = _nothing().with_newer(connection).of(bucket)
        if held + size > quota:
            raise QuotaExceededError(
                f"bucket {bucket.name} may hold {quota} bytes (its quota_bytes) and holds {held}, "
                f"older versions included, so {size} more have no room: drop what is not needed, and sweep "
                "frees it after the retention"
            )

    def _count(self) -> _Count:
        """Return the bytes of all that is committed."""
        known = self._counted
        with self._read() as connection:
            if known is None or known.is_stale(connection):
                known = _nothing()
            self._counted = known = known.with_newer(connection)
        return known


def _nothing() -> _Count:
    return _Count(Counter(), 0, time.monotonic())
