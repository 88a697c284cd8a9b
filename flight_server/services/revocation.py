"""Cuts what goes on in the name of those who may no longer: sessions, statements, streams.

Every second each login is asked again. One that is no longer good (revoked, expired, another password) loses
its sessions and calls; one whose grants have become fewer loses the calls that began under the old ones.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import cache

from flight_server.auth.authenticator import Authenticator
from flight_server.auth.refused import RefusedError
from flight_server.auth.users import ApiToken, User
from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.identity import VERBS, Identity
from flight_server.domain.login import Login
from flight_server.errors import PermissionDeniedError, UnauthenticatedError
from flight_server.services.cancel import CancelService
from flight_server.services.live_calls import LiveCalls
from flight_server.services.sessions import SessionService
from flight_server.telemetry import audit

_LOG = logging.getLogger("flight_server.auth")

_LOOK_SECONDS = 1.0


class Revocation:
    """Watches the users and what runs in their name; used from the event loop only."""

    def __init__(
        self,
        authenticator: Authenticator,
        sessions: SessionService,
        cancel: CancelService,
        registry: BucketRegistry,
        calls: LiveCalls,
    ) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        self._cancel = cancel
        self._registry = registry
        self._calls = calls

    async def watch(self) -> None:
        """Look every second, until cancelled; a look that fails is logged, and the next one follows."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self._authenticator.has_changed:
                    await self._refresh()
                self._cut_refused()
            except Exception:
                _LOG.exception("who may no longer could not be looked for")

    async def _refresh(self) -> None:
        """Read the users again; cancel what runs in sessions whose identities may do less than before."""
        before = self._authenticator.users
        former = {
            session.id: (session.login, self._now(session.login)) for session in self._sessions.of_logins()
        }
        await self._authenticator.refresh()
        after = self._authenticator.users
        _tell("user", before.users.values(), after.users.values())
        _tell("token", before.tokens.values(), after.tokens.values())
        for name in _begun_anew(before.users, after.users):
            self._cancel.forget(name)
        has_less = cache(self._has_less)
        for session_id, (login, identity) in former.items():
            now = self._now(login)
            if identity is not None and now is not None and has_less(identity, now):
                self._cancel.cancel_session(session_id)

    def _cut_refused(self) -> None:
        for session_id in self._sessions.close_refused(lambda login: self._now(login) is not None):
            self._cancel.cancel_session(session_id)
        has_less = cache(self._has_less)
        for call in self._calls:
            if call.login is None:
                continue
            now = self._now(call.login)
            if now is None:
                call.end(UnauthenticatedError("the login has expired or was revoked; log in again"))
            elif now is not call.identity and has_less(call.identity, now):
                call.end(PermissionDeniedError("the grants of this identity have changed; try again"))
            else:
                call.identity = now  # so that the next look has nothing to compare

    def _now(self, login: Login | None) -> Identity | None:
        """Return what a login stands for, None when it is no longer good."""
        try:
            return None if login is None else self._authenticator.identity(login)
        except RefusedError:
            return None

    def _has_less(self, before: Identity, now: Identity) -> bool:
        return before != now and any(
            before.may(verb, bucket.name) and not now.may(verb, bucket.name)
            for bucket in self._registry
            for verb in VERBS
        )


def _begun_anew(before: Mapping[str, User], after: Mapping[str, User]) -> list[str]:
    """Return the names that may be another person's now: each who is added anew has an epoch of its own."""
    return [name for name, user in before.items() if name in after and after[name].epoch != user.epoch]


def _tell(kind: str, before: Iterable[User | ApiToken], after: Iterable[User | ApiToken]) -> None:
    """Write what has changed into the audit log."""
    old, new = {_key(item): item for item in before}, {_key(item): item for item in after}
    for key in old.keys() | new.keys():
        if old.get(key) != new.get(key):
            item = new.get(key)
            known = "changed" if key in old else "added"
            verb = "removed" if item is None else "revoked" if item.revoked else known
            grants = None if item is None or item.grants is None else [str(grant) for grant in item.grants]
            audit.record(f"{kind}_{verb}", name=key, grants=grants, owner=getattr(item, "owner", None))


def _key(item: User | ApiToken) -> str:
    return item.name if isinstance(item, User) else item.id
