"""What engine processes keep for sessions: dropped when a session ends, and told once when it is gone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.call import CallContext
from flight_server.errors import StateLostError
from flight_server.services.sessions import Session, SessionService


class KeptState:
    """Follows what engine processes keep; used from the event loop only."""

    def __init__(self, sessions: SessionService, dispatcher: Dispatcher) -> None:
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._forgetting: set[asyncio.Task[None]] = set()
        sessions.on_close(self.forget)

    def forget(self, session: Session) -> None:
        """Have dropped what an engine process keeps for a session that ends, or has lost it."""
        if session.holdings:
            task = asyncio.ensure_future(self._dispatcher.forget(session.id))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    @contextmanager
    def noting_loss(self, call: CallContext) -> Iterator[None]:
        """Let a session go on without what an engine process has lost of it, once told what that is.

        A process of other grants than the caller has now keeps it still: nobody can reach it there.
        """
        try:
            yield
        except StateLostError as error:
            session = self._sessions.find(call.session_id)
            lost = ", ".join(map(str, session.holdings)) if session is not None else ""
            if session is None or not lost:
                raise StateLostError(
                    "this statement reads what a session kept that has been closed since: run it again"
                ) from error
            is_elsewhere = self._dispatcher.is_keeping(session.id)
            why = "what you may reach has changed" if is_elsewhere else "an engine process ended"
            self.forget(session)
            session.holdings = ()
            raise StateLostError(f"{why}, and with it this session's {lost}") from error
