"""Who calls, and what they may do."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Verb = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class Grant:
    """Verbs allowed on the buckets whose name matches a pattern (`*` matches anything)."""

    bucket_pattern: str
    verbs: frozenset[Verb]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls; its grants decide which buckets exist for it."""

    name: str
    grants: tuple[Grant, ...]

    def may(self, verb: Verb, bucket: str) -> bool:
        """Tell whether one of the grants allows `verb` on `bucket`."""
        return any(verb in grant.verbs and fnmatchcase(bucket, grant.bucket_pattern) for grant in self.grants)

    @property
    def is_admin(self) -> bool:
        """Whether this is an admin of the whole server: of every bucket there is or will be."""
        return any("admin" in grant.verbs and grant.bucket_pattern == "*" for grant in self.grants)


LOCAL = Identity("local", (Grant("*", frozenset(("read", "write", "admin"))),))
"""The one all-powerful identity of a server without authentication."""
