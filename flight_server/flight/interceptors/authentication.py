"""Who calls, and in which session.

Until users are configured everybody is the one local identity, whatever the credentials say;
that they can be understood is checked all the same.
"""

from dataclasses import dataclass

from flight_server.domain.identity import LOCAL, Identity
from flight_server.errors import InvalidArgumentError, UnauthenticatedError
from flight_server.flight.wire import messages
from flight_server.flight.wire.headers import BasicCredentials, Headers
from flight_server.services.sessions import Session, SessionService


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity and its session."""

    identity: Identity
    session: Session


@dataclass(frozen=True, slots=True)
class Authentication:
    """Turns credentials into callers and session tokens."""

    sessions: SessionService

    def caller(self, headers: Headers, peer: str) -> Caller:
        """Return who makes an ordinary call.

        Raises UnauthenticatedError for a token that is not valid.
        """
        return Caller(LOCAL, self.sessions.resume(headers.token, headers.cookie, peer, LOCAL.name))

    def log_in(self, credentials: BasicCredentials | None) -> str:
        """Make a session for these credentials (None: anonymous) and return its token."""
        del credentials
        token, _ = self.sessions.mint(LOCAL.name)
        return token


def decode_payload(payload: bytes) -> BasicCredentials:
    """Decode the BasicAuth message that older clients put into the Handshake.

    Raises UnauthenticatedError when it is not one.
    """
    try:
        message = messages.parse("BasicAuth", payload)
    except InvalidArgumentError as error:
        raise UnauthenticatedError("the handshake's payload is not a BasicAuth message") from error
    return BasicCredentials(message.username, message.password)
