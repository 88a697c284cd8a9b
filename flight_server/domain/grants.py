"""Grant sets: the buckets that an engine process reaches, and which of them it may write.

Callers who may read and write the same share engine processes; others never do.
"""

from dataclasses import dataclass, replace

from flight_server.domain.bucket import PROFILE_PATTERN, PROFILE_PREFIX, Bucket, BucketPattern, BucketRegistry
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class GrantedBucket:
    """A bucket as an engine process reaches it; `uri` is its root."""

    name: str
    uri: str
    may_write: bool


@dataclass(frozen=True, slots=True)
class GrantSet:
    """Buckets that are reached together; with a `pattern` all those of profiles that are made too."""

    buckets: frozenset[GrantedBucket]
    pattern: BucketPattern | None = None

    def __contains__(self, bucket: str) -> bool:
        """Tell whether a bucket is reached."""
        return any(granted.name == bucket for granted in self.buckets) or (
            self.pattern is not None and self.pattern.uri(bucket) is not None
        )


class GrantSets:
    """Tells the grant set of a caller, and of a task that touches some buckets; used from the event loop.

    A server that is not `shared` by callers who have to say who they are has one grant set for all.
    """

    def __init__(self, registry: BucketRegistry, *, is_shared: bool) -> None:
        self._registry = registry
        self._is_shared = is_shared
        self._epoch = registry.epoch
        self._known: RecentMap[Identity, GrantSet] = RecentMap(_REMEMBERED)
        self._of_all = GrantSet(
            frozenset(_granted(bucket, may_write=True) for bucket in registry.configured), registry.pattern
        )

    @property
    def first(self) -> GrantSet:
        """The one to start with: nobody's when it is not known who will come."""
        return self.over() if self._is_shared else self._of_all

    def of(self, identity: Identity) -> GrantSet:
        """Return what a caller may reach now."""
        if not self._is_shared:
            return self._of_all
        if self._epoch != self._registry.epoch:
            self._known, self._epoch = RecentMap(_REMEMBERED), self._registry.epoch
        found = self._known.get(identity)
        if found is None:
            found = self._compute(identity)
            self._known.put(identity, found)
        return found

    def _compute(self, identity: Identity) -> GrantSet:
        pattern = self._pattern(identity)
        granted = [
            _granted(bucket, may_write=identity.may("write", bucket.name))
            for bucket in self._registry.visible(identity)
        ]
        return GrantSet(frozenset(each for each in granted if not self._is_said(pattern, each)), pattern)

    def _pattern(self, identity: Identity) -> BucketPattern | None:
        """Return the pattern for a caller whose grant holds its `*`: whatever it makes may be read."""
        pattern = self._registry.pattern
        if pattern is None or not identity.may("read", PROFILE_PATTERN):
            return None
        may_write = identity.may("write", PROFILE_PATTERN)
        return replace(pattern, read_only=pattern.read_only or not may_write)

    def _is_said(self, pattern: BucketPattern | None, granted: GrantedBucket) -> bool:
        """Tell whether the pattern says all of a bucket: so the set stays the same when others are made."""
        if pattern is None or self._registry.is_configured(granted.name):
            return False
        return granted.name.startswith(PROFILE_PREFIX) and pattern.read_only != granted.may_write

    def over(self, *buckets: Bucket | str) -> GrantSet:
        """Return the set of exactly the buckets that a task touches; names that are gone are left out."""
        if not self._is_shared:
            return self._of_all
        found = [self._registry.find(each) if isinstance(each, str) else each for each in buckets]
        return GrantSet(frozenset(_granted(bucket, may_write=True) for bucket in found if bucket is not None))


def _granted(bucket: Bucket, *, may_write: bool) -> GrantedBucket:
    return GrantedBucket(bucket.name, bucket.uri, may_write and not bucket.read_only)
