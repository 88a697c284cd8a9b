"""Buckets and the registry that resolves their names."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flight_server.domain.identity import Identity
from flight_server.domain.near import offer
from flight_server.errors import InvalidArgumentError, NotFoundError

PRIMARY = "primary"
"""The bucket of every call that names none."""

PROFILE_PREFIX = "profile:"

PROFILE_PATTERN = f"{PROFILE_PREFIX}*"
"""The name of the pattern from which profiles are made."""

RESERVED_NAMES = frozenset(
    {"sys", "system", "temp", "main", "memory", "lakehouse", "information_schema", "pg_catalog"}
)
"""Names that DuckDB or the server itself uses as schemas."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}(:[a-z0-9][a-z0-9_.-]{0,62})?")
MAX_NAME_LENGTH = 127
"""Characters of the longest name: two parts of 63 with a colon between them."""

_LEGACY_URL = re.compile(r"lakehouse(?:-(?P<sanitised>[^:/]+)://|://(?P<name>[^/]+)/)(?P<key>.+)", re.DOTALL)


def is_valid_name(name: str) -> bool:
    """Tell whether `name` may be a bucket's name."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED_NAMES


def is_profile(name: str) -> bool:
    """Tell whether a bucket of this name belongs to a profile."""
    return name.startswith(PROFILE_PREFIX)


def sanitise(name: str) -> str:
    """Return the form of a bucket's name inside a legacy `lakehouse-<name>://` URL."""
    return re.sub(r"[^a-z0-9]", "-", name)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A named storage location; `uri` is its root (`file:///…` for local folders).

    `quota_bytes` is what its objects may take, None for no bound.
    """

    name: str
    uri: str
    aliases: tuple[str, ...] = ()
    read_only: bool = False
    quota_bytes: int | None = None

    @property
    def is_profile(self) -> bool:
        """Whether the bucket belongs to a profile."""
        return is_profile(self.name)


@dataclass(frozen=True, slots=True)
class BucketPattern:
    """Where the buckets of profiles lie that are made while the server runs.

    Each has a folder of its own name in `parent`, a URI; `inside` is the rest of its root's path.
    `quota_bytes` is what the objects of each may take, None for no bound.
    """

    parent: str
    inside: str = ""
    read_only: bool = False
    quota_bytes: int | None = None

    def uri(self, name: str) -> str | None:
        """Return the root of a bucket by its name, None where the pattern does not make it."""
        if not name.startswith(PROFILE_PREFIX) or not is_valid_name(name):
            return None
        return f"{self.parent}/{name.removeprefix(PROFILE_PREFIX)}{self.inside}"


class BucketRegistry:
    """Resolves a bucket's name or alias, or says which names are valid; the only place that does.

    Beside configured buckets there are those of profiles that were made by a pattern: `learn` brings them in.
    `epoch` is another number after each change. Used from any thread; only one thread learns.
    """

    def __init__(self, buckets: Iterable[Bucket], pattern: BucketPattern | None = None) -> None:
        self._buckets = {bucket.name: bucket for bucket in buckets}
        self.pattern = pattern
        self.epoch = 0
        self._configured = tuple(self._buckets.values())
        self._configured_names = frozenset(self._buckets)
        self._canonical = {name: name for name in self._buckets}
        self._canonical.update(
            {alias: bucket.name for bucket in self._buckets.values() for alias in bucket.aliases}
        )
        self._sanitised: dict[str, list[str]] = {}
        for written, name in self._canonical.items():
            owners = self._sanitised.setdefault(sanitise(written), [])
            if name not in owners:
                owners.append(name)

    def __iter__(self) -> Iterator[Bucket]:
        """Iterate over the buckets in configured order, then over those that were made."""
        return iter(list(self._buckets.values()))

    @property
    def configured(self) -> tuple[Bucket, ...]:
        """The buckets that the configuration names, in its order."""
        return self._configured

    def is_configured(self, name: str) -> bool:
        """Tell whether the configuration names a bucket, which then nobody can drop."""
        return name in self._configured_names

    def learn(self, profiles: Iterable[tuple[str, bool]]) -> None:
        """Take in profiles that were made, or dropped: short name, whether it is there."""
        for short, is_live in profiles:
            name = PROFILE_PREFIX + short
            bucket = self.made(name)
            if bucket is None:
                continue
            if is_live:
                self._buckets[name] = bucket
                self._canonical[name] = name
                owners = self._sanitised.setdefault(sanitise(name), [])
                owners += [name] if name not in owners else []
            elif self._buckets.pop(name, None) is not None:
                del self._canonical[name]
                self._sanitised[sanitise(name)].remove(name)
            self.epoch += 1

    def made(self, name: str) -> Bucket | None:
        """Return what the pattern makes of a name, whether it is there or not; None for other names."""
        uri = self.pattern.uri(name) if self.pattern is not None else None
        if self.is_configured(name) or self.pattern is None or uri is None:
            return None
        return Bucket(name, uri, (), self.pattern.read_only, self.pattern.quota_bytes)

    def find(self, written: str) -> Bucket | None:
        """Return the bucket of a name or alias, None when it is unknown."""
        return self._buckets.get(self._canonical.get(written, ""))

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical names in configured order."""
        return tuple(self._buckets)

    def canonical(self, written: str) -> str | None:
        """Return the canonical name of a name or alias, None when it is unknown."""
        return self._canonical.get(written)

    def known(self, name: str) -> Bucket:
        """Return the bucket of a name or alias that was found before. Raises NotFoundError if it is gone."""
        found = self.find(name)
        if found is None:
            raise NotFoundError(f"bucket {name[:80]!r} is not there any more")
        return found

    def visible(self, identity: Identity) -> list[Bucket]:
        """Return the buckets that exist for a caller, in order."""
        return [bucket for bucket in self if identity.may("read", bucket.name)]

    def resolve(self, identity: Identity, written: str) -> Bucket:
        """Return the bucket of a name or alias, as a caller wrote it.

        Raises InvalidArgumentError when it cannot be a bucket's name at all, NotFoundError with
        the names that exist for the caller when there is no such bucket among them.
        """
        found = self.find(written)
        if found is not None and identity.may("read", found.name):
            return found
        if not _NAME.fullmatch(written):
            raise InvalidArgumentError(
                f"{written[:80]!r} is not a bucket name: lower-case letters, digits, '_', '.' and '-', "
                "at most 63 of them, with one ':' between two such parts for a profile"
            )
        names = [bucket.name for bucket in self.visible(identity)]
        hint = offer(written, names, "buckets", more="FROM sys.buckets")
        raise NotFoundError(f"no bucket {written!r}; {hint}")

    def profile(self, identity: Identity, name: str) -> Bucket:
        """Return the bucket of a profile by its short name or its full one.

        Raises NotFoundError with what it could be instead, of what exists for the caller.
        """
        name = name.removeprefix(PROFILE_PREFIX)
        found = self._buckets.get(PROFILE_PREFIX + name)
        if found is not None and identity.may("read", found.name):
            return found
        seen = [bucket.name for bucket in self.visible(identity) if bucket.is_profile]
        shown = [each.removeprefix(PROFILE_PREFIX) for each in seen]
        hint = offer(name, shown, "profiles", more="list_profiles")
        raise NotFoundError(f"no profile {name[:80]!r}; {hint}")

    def check_profiles(self, identity: Identity, names: Iterable[str]) -> None:
        """Raise NotFoundError for the first profile among names of buckets that is not there any more."""
        for name in names:
            if is_profile(name) and name not in self._buckets:
                self.profile(identity, name)

    def split_legacy_url(self, key: str) -> tuple[str, str] | None:
        """Split a legacy URL into (bucket as written there, key); None when `key` is not one.

        `lakehouse://<bucket>/<key>` names the bucket itself. `lakehouse-<bucket>://<key>` holds
        its sanitised form: it is answered with the canonical name when exactly one bucket has
        that form, else with the sanitised form, which `canonical` then does not know.
        """
        found = _LEGACY_URL.fullmatch(key)
        if found is None:
            return None
        if found["name"] is not None:
            return found["name"], found["key"]
        owners = self._sanitised.get(found["sanitised"], [])
        return (owners[0] if len(owners) == 1 else f"lakehouse-{found['sanitised']}"), found["key"]

    def locate(self, written: str, key: str) -> tuple[str | None, str, str]:
        """Return (canonical bucket or None, bucket as written, key) of a stored ref.

        A legacy URL in the key wins over the bucket field.
        """
        name, plain = self.split_legacy_url(key) or (written, key)
        return self._canonical.get(name), name, plain
