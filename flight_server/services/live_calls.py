"""The calls that run now: who makes them, how many are anybody's, and how one is ended from outside."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flight_server.domain.identity import Identity
from flight_server.domain.login import Login
from flight_server.errors import LakehouseError, ResourceExhaustedError


@dataclass(slots=True, eq=False)
class LiveCall:
    """One call; `ended` says why it was ended from outside."""

    task: "asyncio.Task[object] | None"
    identity: Identity
    login: Login | None
    session_id: str
    ended: LakehouseError | None = None

    def end(self, error: LakehouseError) -> None:
        """End it: its client gets this error."""
        if self.ended is None and self.task is not None:
            self.ended = error
            self.task.cancel()


class LiveCalls:
    """Knows what runs; used from the event loop only."""

    def __init__(self, per_identity: int) -> None:
        """Allow so many calls at once of everybody who logs in."""
        self._per_identity = per_identity
        self._calls: set[LiveCall] = set()
        self._count: Counter[str] = Counter()

    def __iter__(self) -> Iterator[LiveCall]:
        """Yield the calls that ran when this began."""
        return iter(tuple(self._calls))

    @contextmanager
    def running(self, identity: Identity, login: Login | None, session_id: str) -> Iterator[None]:
        """Run a call in this block, in the current task.

        Raises ResourceExhaustedError when the caller has too many, and what the call was ended with.
        """
        name = identity.name
        if login is not None and self._count[name] >= self._per_identity:
            raise ResourceExhaustedError(
                f"{name} has the maximum of {self._per_identity} calls at one time; wait until one is over"
            )
        task = asyncio.current_task()
        call = LiveCall(task, identity, login, session_id)
        self._calls.add(call)
        self._count[name] += 1
        try:
            yield
        except asyncio.CancelledError:
            if call.ended is None or task is None:
                raise
            task.uncancel()
            raise call.ended from None
        finally:
            self._calls.discard(call)
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]
