"""Messages kept in memory, within one budget of bytes: bound parameters and results of polled queries.

Results make room for whatever else comes, since their statement can run again; parameters make room for
parameters only. Whoever has the most makes room first, with what is oldest: nobody drives out others.
"""

import uuid
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flight_server.errors import ResourceExhaustedError


@dataclass(slots=True)
class _Kept:
    """What somebody has here; `size` is in bytes, `is_whole` says that a result is complete."""

    owner: str
    messages: list[bytes] = field(default_factory=list)
    size: int = 0
    is_whole: bool = False


class HeldMessages:
    """Keeps messages by key; used from the event loop only."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._parameters: OrderedDict[str, _Kept] = OrderedDict()
        self._results: OrderedDict[str, _Kept] = OrderedDict()

    def keep(self, messages: Sequence[bytes], owner: str) -> str:
        """Keep parameters and return their key. Raises ResourceExhaustedError when they are too large."""
        size = sum(map(len, messages))
        if size > self._budget:
            raise ResourceExhaustedError(
                f"statement and parameters take {size} bytes, at most {self._budget} are held"
            )
        while self._bytes + size > self._budget:
            entries = self._results or self._parameters
            self._drop(entries, _first_to_go(entries, owner, 0 if self._results else size))
        key = uuid.uuid4().hex
        self._parameters[key] = _Kept(owner, list(messages), size)
        self._bytes += size
        return key

    def parameters(self, key: str) -> Sequence[bytes] | None:
        """Return what `keep` kept, None when it had to go."""
        found = self._parameters.get(key)
        return None if found is None else found.messages

    def begin(self, key: str, owner: str) -> None:
        """Begin to keep a result."""
        self._results[key] = _Kept(owner)

    def add(self, key: str, message: bytes) -> bool:
        """Add a message to a result; False when it had to go, or finds no room and goes."""
        result = self._results.get(key)
        if result is None:
            return False
        self._results.move_to_end(key)
        while self._bytes + len(message) > self._budget:
            going = _first_to_go(self._results, result.owner, len(message))
            self._drop(self._results, going)
            if going == key:
                return False
        result.messages.append(message)
        result.size += len(message)
        self._bytes += len(message)
        return True

    def finish(self, key: str) -> None:
        """Say that a result is complete; does nothing when it had to go."""
        if key in self._results:
            self._results[key].is_whole = True

    def result(self, key: str) -> Sequence[bytes] | None:
        """Return the messages of a complete result, None when there is none or it had to go."""
        found = self._results.get(key)
        return found.messages if found is not None and found.is_whole else None

    def drop(self, key: str) -> None:
        """Keep a result no longer; does nothing when it went already."""
        if key in self._results:
            self._drop(self._results, key)

    def _drop(self, entries: OrderedDict[str, _Kept], key: str) -> None:
        self._bytes -= entries.pop(key).size


def _first_to_go(entries: Mapping[str, _Kept], comer: str, size: int) -> str:
    """Return the oldest entry of whoever has the most, once so many bytes of a comer are there too."""
    held = Counter({comer: size})
    oldest: dict[str, str] = {}
    for key, kept in entries.items():
        held[kept.owner] += kept.size
        oldest.setdefault(kept.owner, key)
    return oldest[max(oldest, key=lambda owner: held[owner])]
