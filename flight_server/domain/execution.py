"""One run of a statement as others see it: how far it is, and how to end it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flight_server.errors import CallCancelledError

CANCELLED = "the statement was cancelled"

MAX_CONNECTIONS = 1_200
"""How many requests one engine process works on at one time, each in a thread of its own."""

STACK_BYTES = 64 * 1024 * 1024
"""Addresses for the stack of such a thread: enough for the deepest tree that DuckDB lets through."""


class Execution:
    """A statement at work; used from the event loop only.

    `rows` counts what it has returned, None until it has ended; `worked` are the seconds that engine
    processes have worked on it, its planning and those that ended meanwhile included.
    """

    __slots__ = ("_stops", "is_cancelled", "rows", "worked")

    def __init__(self, worked: float = 0.0) -> None:
        self.is_cancelled = False
        self.rows: int | None = None
        self.worked = worked
        self._stops: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """End the work under way, and whatever would begin later. It ends with CallCancelledError."""
        self.is_cancelled = True
        for stop in self._stops:
            stop()

    def check(self) -> None:
        """Raise CallCancelledError when the statement was cancelled."""
        if self.is_cancelled:
            raise CallCancelledError(CANCELLED)

    @contextmanager
    def stopped_by(self, stop: Callable[[], None]) -> Iterator[None]:
        """Have `stop` called when a cancellation comes while the block runs.

        Raises CallCancelledError when it has come already.
        """
        self.check()
        self._stops.append(stop)
        try:
            yield
        finally:
            self._stops.remove(stop)
