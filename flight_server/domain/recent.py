"""A map of bounded size that forgets what was not used for longest."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class RecentMap(Generic[Key, Value]):
    """Keeps the entries used last, as many as together weigh no more than `size`.

    Safe for threads: `_lock` guards the entries and their weight.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._weight = 0

    def get(self, key: Key) -> Value | None:
        """Return what is kept under a key, None when nothing is."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._weight = 0

    def pop(self, key: Key) -> Value | None:
        """Forget what is kept under a key and return it, None when nothing is."""
        with self._lock:
            value, weight = self._entries.pop(key, (None, 0))
            self._weight -= weight
            return value

    def put(self, key: Key, value: Value, weight: int = 1) -> None:
        """Keep a value; those used least recently go when all together weigh too much."""
        with self._lock:
            _, replaced = self._entries.pop(key, (None, 0))
            self._entries[key] = value, weight
            self._weight += weight - replaced
            while self._weight > self._size:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._weight -= dropped
