"""Messages kept in memory, within one budget of bytes: bound parameters and results of polled queries.

Results make room for whatever else comes, since their statement can run again; the oldest goes first.
Parameters make room for parameters only.
"""

import uuid
from collections import OrderedDict
from collections.abc import Sequence

from flight_server.errors import ResourceExhaustedError


class HeldMessages:
    """Keeps messages by key; used from the event loop only."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._parameters: OrderedDict[str, Sequence[bytes]] = OrderedDict()
        self._results: OrderedDict[str, list[bytes]] = OrderedDict()
        self._finished: set[str] = set()

    def keep(self, messages: Sequence[bytes]) -> str:
        """Keep parameters and return their key. Raises ResourceExhaustedError when they are too large."""
        size = _size(messages)
        if size > self._budget:
            raise ResourceExhaustedError(
                f"statement and parameters take {size} bytes, at most {self._budget} are held"
            )
        while not self._makes_room(size):
            self._bytes -= _size(self._parameters.popitem(last=False)[1])
        key = uuid.uuid4().hex
        self._parameters[key] = messages
        self._bytes += size
        return key

    def parameters(self, key: str) -> Sequence[bytes] | None:
        """Return what `keep` kept, None when it had to go."""
        return self._parameters.get(key)

    def begin(self, key: str) -> None:
        """Begin to keep a result."""
        self._results[key] = []

    def add(self, key: str, message: bytes) -> bool:
        """Add a message to a result; False when it had to go, or finds no room and goes."""
        result = self._results.get(key)
        if result is None:
            return False
        self._results.move_to_end(key)
        if not self._makes_room(len(message), growing=key):
            self.drop(key)
            return False
        result.append(message)
        self._bytes += len(message)
        return True

    def finish(self, key: str) -> None:
        """Say that a result is complete; does nothing when it had to go."""
        if key in self._results:
            self._finished.add(key)

    def result(self, key: str) -> Sequence[bytes] | None:
        """Return the messages of a complete result, None when there is none or it had to go."""
        return self._results[key] if key in self._finished else None

    def drop(self, key: str) -> None:
        """Keep a result no longer; does nothing when it went already."""
        self._bytes -= _size(self._results.pop(key, ()))
        self._finished.discard(key)

    def _makes_room(self, size: int, growing: str | None = None) -> bool:
        """Tell whether so many bytes can be added, once the oldest results are gone, not the growing one."""
        while self._bytes + size > self._budget:
            oldest = next(iter(self._results), growing)
            if oldest == growing or oldest is None:
                return False
            self.drop(oldest)
        return True


def _size(messages: Sequence[bytes]) -> int:
    return sum(map(len, messages))
