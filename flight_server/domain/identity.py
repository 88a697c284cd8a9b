"""Who calls, and what they may do."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2s
from typing import Literal, get_args

from flight_server.errors import InvalidArgumentError

Verb = Literal["read", "write", "admin"]

VERBS: tuple[Verb, ...] = get_args(Verb)
"""Every verb, weakest first; each stands for those before it too."""

USER = "{user}"
"""Stands in a grant's pattern for the name of the identity that has the grant."""

_PATTERN = re.compile(r"(?:[a-z0-9_.:*-]|\{user\}){1,140}")
MAX_USER_NAME = 127
"""Characters of a user's longest name."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.@-]{{0,{MAX_USER_NAME - 1}}}")
_PART = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Grant:
    """Verbs allowed on the buckets whose name matches a pattern (`*` matches anything)."""

    bucket_pattern: str
    verbs: frozenset[Verb]

    def __str__(self) -> str:
        """Return it as it is written: `profile:user=read,write`."""
        return f"{self.bucket_pattern}={','.join(verb for verb in VERBS if verb in self.verbs)}"

    def allows(self, verb: Verb, bucket: str) -> bool:
        """Tell whether it lets its holder do this to a bucket."""
        return verb in self.verbs and fnmatchcase(bucket, self.bucket_pattern)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls; its grants decide which buckets exist for it.

    With a `scope` only what that allows too is allowed: that of a token which has part of its owner's grants.
    """

    name: str
    grants: tuple[Grant, ...]
    scope: tuple[Grant, ...] | None = None

    def may(self, verb: Verb, bucket: str) -> bool:
        """Tell whether one of the grants allows `verb` on `bucket`."""
        return any(grant.allows(verb, bucket) for grant in self.grants) and (
            self.scope is None or any(grant.allows(verb, bucket) for grant in self.scope)
        )

    @property
    def is_admin(self) -> bool:
        """Whether this is an admin of the whole server: of every bucket there is or will be."""
        return all(
            any("admin" in grant.verbs and grant.bucket_pattern == "*" for grant in grants)
            for grants in (self.grants, self.scope)
            if grants is not None
        )


@lru_cache(maxsize=1024)
def fingerprint(identity: Identity) -> str:
    """Return a text that changes with what an identity may do, the same in every process."""
    texts = ["\n".join(sorted(map(str, grants))) for grants in (identity.grants, identity.scope or ())]
    return blake2s(json.dumps([*texts, identity.scope is None]).encode(), digest_size=8).hexdigest()


LOCAL = Identity("local", (Grant("*", frozenset(VERBS)),))
"""The one all-powerful identity of a server without authentication."""


def parse_grant(text: str) -> Grant:
    """Read `pattern=verb,…`; a verb brings those that it includes. Raises InvalidArgumentError."""
    pattern, equals, verbs = text.strip().partition("=")
    named = [verb.strip() for verb in verbs.split(",")]
    if not equals or not _PATTERN.fullmatch(pattern) or any(verb not in VERBS for verb in named):
        raise InvalidArgumentError(
            f"{text[:80]!r} is no grant; write a bucket's name or a pattern with '*' or {USER!r}, '=', and "
            f"of {', '.join(VERBS)} what is allowed there, such as 'profile:user=read,write'"
        )
    strongest = max(VERBS.index(verb) for verb in VERBS if verb in named)
    return Grant(pattern, frozenset(VERBS[: strongest + 1]))


def bound(grants: Iterable[Grant], name: str) -> tuple[Grant, ...]:
    """Return grants with the name of their holder in place of `{user}`.

    Those are left out where the name cannot be part of a bucket's.
    """
    can_own = _PART.fullmatch(name) is not None
    return tuple(
        replace(grant, bucket_pattern=grant.bucket_pattern.replace(USER, name))
        for grant in grants
        if can_own or USER not in grant.bucket_pattern
    )


def check_name(name: str) -> str:
    """Return the name of a user. Raises InvalidArgumentError when it cannot be one."""
    if not _NAME.fullmatch(name) or name == LOCAL.name:
        raise InvalidArgumentError(
            f"{name[:80]!r} is no user's name: up to {MAX_USER_NAME} letters, digits, '_', '.', '@' and '-', "
            f"the first one a letter or digit, and not {LOCAL.name!r}, who is everybody where nobody logs in"
        )
    return name
