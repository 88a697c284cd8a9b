"""Sessions: the client says goodbye."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.flight.wire import messages

if TYPE_CHECKING:
    from flight_server.services.sessions import SessionService

_CLOSED = 1


@dataclass(frozen=True, slots=True)
class SessionHandlers:
    """Answers CloseSession."""

    sessions: "SessionService"

    async def close(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """End the caller's session; the body is the bare message, not an Any."""
        messages.parse("CloseSessionRequest", body)
        self.sessions.close(call.session_id)
        return (messages.encode("CloseSessionResult", status=_CLOSED),)
