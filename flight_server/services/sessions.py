"""Sessions: what the server remembers of a client between two calls.

A session is found, in this order, by
  1. the bearer token minted at Handshake: signed, and it carries the session's id, so that a
     worker which did not mint it makes the session anew. With authentication it also carries the
     login, which is asked again at each call;
  2. for callers who log in with every call, their login and connection;
  3. the cookie of anonymous callers, which holds such a token too; one that is not valid counts as none;
  4. the peer's address, for anonymous callers on loopback (one connection keeps one address);
  5. nothing: other anonymous callers get a session of their own, and a cookie to find it by.

A session ends when it is closed or when no call has used it for the idle time. A call in flight
keeps it alive. Whoever holds state for a session registers with `on_close`.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from flight_server.domain.identity import Identity
from flight_server.domain.login import Login
from flight_server.domain.session import Holding
from flight_server.errors import (
    FailedPreconditionError,
    ResourceExhaustedError,
    UnauthenticatedError,
)

TOKEN_SECONDS = 7 * 86_400
"""Age up to which a token opens a session that is not (or no longer) known here."""

_LOOPBACK_PEERS = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_SALT = "flight-server session"
_INVALID = "the bearer token is not of this server or has expired; connect again"


@dataclass(slots=True, eq=False)
class Session:
    """State of one client between calls; changed only on the event loop's thread.

    `principal` is who the session was made for. Its options: `bucket` (canonical name), `schemas` where bare
    names are looked for first, `profile`, `statement_timeout` in seconds, `settings` of DuckDB. `holdings`
    say what an engine process keeps for it, `transaction_id` is the open transaction. `last_used` is a
    monotonic time in seconds, `created_at` in microseconds since 1970 UTC. `key` is what it was found by
    (token, cookie, login with peer, or peer); `peer` is the address of the one connection that finds it, and
    empty when others do too. `login` is what its caller proved, None for anonymous ones.
    `left_at` is the monotonic time at which its last call ended,
    `has_expired` says that it ended because of that.
    """

    id: str
    principal: str
    key: str
    last_used: float
    login: Login | None = None
    peer: str = ""
    bucket: str | None = None
    schemas: tuple[str, ...] = ()
    profile: str | None = None
    statement_timeout: float | None = None
    settings: dict[str, str] = field(default_factory=dict)
    holdings: tuple[Holding, ...] = ()
    transaction_id: bytes | None = None
    active_calls: int = 0
    was_minted: bool = False
    is_new: bool = False
    has_expired: bool = False
    left_at: float = field(default_factory=time.monotonic)
    created_at: int = field(default_factory=lambda: time.time_ns() // 1_000)

    def is_idle(self, seconds: float) -> bool:
        """Tell whether it has had no call for some seconds."""
        return not self.active_calls and time.monotonic() - self.left_at > seconds

    @property
    def holds_state(self) -> bool:
        """Whether a client would notice that the session is gone; a login's token makes its session anew."""
        options = (self.bucket, self.profile, self.statement_timeout, self.transaction_id)
        is_set = any(option is not None for option in options)
        is_minted = self.was_minted and self.login is None
        return bool(is_minted or is_set or self.schemas or self.settings or self.holdings)


class SessionService:
    """Makes, finds and ends sessions; every method is O(1) and runs on the event loop's thread."""

    def __init__(
        self, secret_keys: tuple[bytes, ...], idle_seconds: float, max_sessions: int, max_own: int
    ) -> None:
        """Sign with the last of `secret_keys`, accept all; everybody who logs in has at most `max_own`."""
        self._serializer = URLSafeTimedSerializer(list(secret_keys), salt=_SALT)
        self._idle_seconds = idle_seconds
        self._max_sessions = max_sessions
        self._max_own = max_own
        # least recently used first, so that expiry only looks at the front
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._by_key: dict[str, Session] = {}
        self._by_principal: dict[str, OrderedDict[str, Session]] = {}
        self._callbacks: list[Callable[[Session], None]] = []
        self._enter_callbacks: list[Callable[[Session], None]] = []

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._sessions)

    def on_close(self, callback: Callable[[Session], None]) -> None:
        """Register what is called, once, with each session that ends."""
        self._callbacks.append(callback)

    def on_enter(self, callback: Callable[[Session], None]) -> None:
        """Register what is called with a session right before each of its calls."""
        self._enter_callbacks.append(callback)

    def mint(self, principal: str, login: Login | None = None) -> tuple[str, Session]:
        """Make a session and the bearer token that finds it.

        Raises ResourceExhaustedError when there are too many sessions.
        """
        session_id = uuid.uuid4().hex
        token = self._token(session_id, principal, login)
        session = self._add(session_id, principal, token, login)
        session.was_minted = True
        return token, session

    def logged_in(self, token: str) -> Session | None:
        """Return the session of somebody who logged in at a handshake; None for any other token.

        Whether the login is still good is for the caller to ask. Raises ResourceExhaustedError when the
        session has to be made and there are too many.
        """
        session = self._by_key.get(token)
        if session is None:
            try:
                session = self._verified(token)
            except UnauthenticatedError:
                return None
        if session.login is None or not session.was_minted:
            return None
        self._touch(session)
        self._expire()
        return session

    def connected(self, principal: str, login: Login, peer: str) -> tuple[Session, bool]:
        """Return the session of somebody who logs in with every call on a connection, and if it is a new one.

        Raises ResourceExhaustedError when it has to be made and there are too many.
        """
        key = "\n".join((peer, principal, login.kind, login.reference))
        known = self._by_key.get(key)
        session = known or self._add(uuid.uuid4().hex, principal, key, login)
        session.peer, session.login = peer, login
        self._touch(session)
        self._expire()
        return session, known is None

    def resume(self, token: str | None, cookie: str | None, peer: str, principal: str) -> Session:
        """Return an anonymous call's session by its token, cookie or loopback peer; else a new one: `is_new`.

        Raises UnauthenticatedError for a forged or expired token, ResourceExhaustedError when the
        session has to be made and there are too many.
        """
        if token is not None:
            session = self._by_key.get(token) or self._verified(token)
            if session.login is not None:
                raise UnauthenticatedError(_INVALID)
        else:
            session = self._of_cookie(cookie) or self._anonymous(peer, principal)
        self._touch(session)
        self._expire()
        return session

    def _of_cookie(self, cookie: str | None) -> Session | None:
        if cookie is None:
            return None
        try:
            return self._by_key.get(cookie) or self._verified(cookie)
        except UnauthenticatedError:
            return None

    def _anonymous(self, peer: str, principal: str) -> Session:
        if not peer.startswith(_LOOPBACK_PEERS):
            session_id = uuid.uuid4().hex
            session = self._add(session_id, principal, self._token(session_id, principal))
            session.is_new = True
            return session
        session = self._by_key.get(peer) or self._add(uuid.uuid4().hex, principal, peer)
        session.peer = peer
        return session

    def _token(self, session_id: str, principal: str, login: Login | None = None) -> str:
        carried: list[Any] = [session_id, principal]
        token: str = self._serializer.dumps(carried if login is None else [*carried, login.written()])
        return token

    def get(self, session_id: str) -> Session:
        """Return a session by its id; raises FailedPreconditionError when it has ended."""
        session = self._sessions.get(session_id)
        if session is None:
            raise FailedPreconditionError("this session has ended; connect again")
        return session

    def find(self, session_id: str) -> Session | None:
        """Return a session by its id, None when it has ended."""
        return self._sessions.get(session_id)

    def all(self, identity: Identity) -> list[Session]:
        """Return the sessions that a caller may see: its own, an admin everybody's; from any thread."""
        known = list(self._sessions.values())  # one operation of the interpreter
        return [session for session in known if identity.is_admin or session.principal == identity.name]

    def idle_peers(self, seconds: float) -> dict[str, str]:
        """Return the sessions that no call of their one connection has used for some seconds: id → peer."""
        before = time.monotonic() - seconds
        return {
            session.id: session.peer
            for session in self._sessions.values()
            if session.peer.startswith(_LOOPBACK_PEERS)
            and session.last_used < before
            and not session.active_calls
        }

    def of_logins(self) -> list[Session]:
        """Return the sessions of those who have logged in."""
        return [session for session in self._sessions.values() if session.login is not None]

    def close_refused(self, is_good: Callable[[Login], bool]) -> list[str]:
        """End the sessions whose logins are no longer good, and return their ids."""
        logins = {session.login for session in self._sessions.values() if session.login is not None}
        refused = {login for login in logins if not is_good(login)}
        ids = [session.id for session in self._sessions.values() if session.login in refused]
        for session_id in ids:
            self.close(session_id)
        return ids

    def enter(self, session: Session) -> None:
        """Note that a call of the session begins; `leave` must follow."""
        for callback in self._enter_callbacks:
            callback(session)
        session.active_calls += 1

    def leave(self, session: Session) -> None:
        """Note that a call of the session is over."""
        session.active_calls -= 1
        session.left_at = time.monotonic()
        if session.id in self._sessions:
            self._touch(session)

    def close(self, session_id: str) -> None:
        """End a session; does nothing when it has ended already."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        self._by_key.pop(session.key, None)
        own = self._by_principal[session.principal]
        own.pop(session.id, None)
        if not own:
            del self._by_principal[session.principal]
        for callback in self._callbacks:
            callback(session)

    def _verified(self, token: str) -> Session:
        try:
            session_id, principal, *rest = self._serializer.loads(token, max_age=TOKEN_SECONDS)
            login = Login.read(*rest) if rest else None
        except (BadData, ValueError, TypeError, KeyError) as error:
            raise UnauthenticatedError(_INVALID) from error
        session = self._add(session_id, principal, token, login)
        session.was_minted = True
        return session

    def _add(self, session_id: str, principal: str, key: str, login: Login | None = None) -> Session:
        self._expire()
        if login is not None and len(self._by_principal.get(principal, ())) >= self._max_own:
            self._evict_own(principal)
        if len(self._sessions) >= self._max_sessions:
            self._evict()
        session = Session(session_id, principal, key, time.monotonic(), login)
        self._sessions[session_id] = session
        self._by_key[key] = session
        self._by_principal.setdefault(principal, OrderedDict())[session_id] = session
        return session

    def _touch(self, session: Session) -> None:
        session.last_used = time.monotonic()
        self._sessions.move_to_end(session.id)
        self._by_principal[session.principal].move_to_end(session.id)

    def _expire(self) -> None:
        oldest_allowed = time.monotonic() - self._idle_seconds
        while self._sessions:
            session = next(iter(self._sessions.values()))
            if session.last_used >= oldest_allowed:
                return
            if session.active_calls:
                self._touch(session)
            else:
                session.has_expired = True
                self.close(session.id)

    def _evict(self) -> None:
        """Make room by ending the oldest session that holds nothing: its next call gets a new one."""
        for session in self._sessions.values():
            if not session.holds_state and not session.active_calls:
                self.close(session.id)
                return
        raise ResourceExhaustedError(
            f"the server has its maximum of {self._max_sessions} sessions; close some and try again"
        )

    def _evict_own(self, principal: str) -> None:
        """Make room for somebody by ending the oldest own session that its token can bring back."""
        for session in self._by_principal[principal].values():
            if not session.holds_state and not session.active_calls:
                self.close(session.id)
                return
        raise ResourceExhaustedError(
            f"{principal} has the maximum of {self._max_own} sessions; close some and try again"
        )
