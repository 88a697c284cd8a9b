"""Who calls, and in which session.

Where authentication is off everybody is the one local identity, whatever the credentials say; that they can
be understood is checked all the same.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from flight_server.auth.authenticator import Authenticator
from flight_server.auth.refused import RefusedError
from flight_server.domain.identity import LOCAL, Identity
from flight_server.domain.login import Login
from flight_server.errors import InvalidArgumentError, LakehouseError, UnauthenticatedError
from flight_server.flight.wire import messages
from flight_server.flight.wire.headers import BasicCredentials, Headers
from flight_server.services.sessions import Session, SessionService
from flight_server.telemetry import audit

_SHOWN_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity and its session, and how it logged in, None where nobody does."""

    identity: Identity
    session: Session
    login: Login | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a call comes from: the address, and what returns the PEM of the certificate that TLS verified."""

    address: str
    certificate: Callable[[], bytes | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Authentication:
    """Turns credentials into callers and session tokens; without an authenticator everybody is local.

    `token_seconds` is how long the token of a handshake is good for.
    """

    sessions: SessionService
    authenticator: Authenticator | None = None
    token_seconds: float = 0

    async def caller(self, headers: Headers, peer: Peer) -> Caller:
        """Return who makes an ordinary call.

        Raises UnauthenticatedError when the credentials are not good, ResourceExhaustedError after too many
        that were not, or when there are too many sessions.
        """
        if self.authenticator is None:
            session = self.sessions.resume(headers.token, headers.cookie, peer.address, LOCAL.name)
            return Caller(LOCAL, session)
        with _telling(headers, peer):
            known = self.sessions.logged_in(headers.token) if headers.token is not None else None
            if known is not None and known.login is not None:
                return Caller(self.authenticator.identity(known.login), known, known.login)
            login = await _login(self.authenticator, headers, peer)
            identity = self.authenticator.identity(login)
        session, is_made = self.sessions.connected(identity.name, login, peer.address)
        if is_made:
            _tell(identity, login, peer)
        return Caller(identity, session, login)

    async def log_in(self, headers: Headers, peer: Peer) -> str:
        """Log in at a handshake and return the token of the new session.

        Raises UnauthenticatedError and ResourceExhaustedError like `caller`.
        """
        if self.authenticator is None:
            return self.sessions.mint(LOCAL.name)[0]
        with _telling(headers, peer):
            login = await _login(self.authenticator, headers, peer)
            identity = self.authenticator.identity(login)
        _tell(identity, login, peer)
        until = time.time() + self.token_seconds
        bounded = replace(login, expires_at=min(until, login.expires_at or until))
        return self.sessions.mint(identity.name, bounded)[0]


async def _login(authenticator: Authenticator, headers: Headers, peer: Peer) -> Login:
    if headers.token is not None:
        return await authenticator.bearer(headers.token)
    if headers.basic is not None:
        return await authenticator.basic(headers.basic.username, headers.basic.password, peer.address)
    certificate = peer.certificate()
    if certificate is None:
        raise RefusedError("no credentials")
    return authenticator.certificate(certificate)


@contextmanager
def _telling(headers: Headers, peer: Peer) -> Iterator[None]:
    """Write into the audit log who was refused in the block, and why."""
    try:
        yield
    except LakehouseError as error:
        name = headers.basic.username[:_SHOWN_CHARACTERS] if headers.basic is not None else None
        reason = error.reason if isinstance(error, RefusedError) else error.message
        audit.record("login_refused", name=name, peer=peer.address, reason=reason)
        raise


def _tell(identity: Identity, login: Login, peer: Peer) -> None:
    audit.record("login", name=identity.name, by=login.kind, peer=peer.address)


def decode_payload(payload: bytes) -> BasicCredentials:
    """Decode the BasicAuth message that older clients put into the Handshake.

    Raises UnauthenticatedError when it is not one.
    """
    try:
        message = messages.parse("BasicAuth", payload)
    except InvalidArgumentError as error:
        raise UnauthenticatedError("the handshake's payload is not a BasicAuth message") from error
    return BasicCredentials(message.username, message.password)
