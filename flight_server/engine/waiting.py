"""Waits for a lock, but only as long as the statement that waits is wanted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Check: TypeAlias = Callable[[], None]
"""Raises what ends a wait, such as CallCancelledError; does nothing otherwise."""

_LOOK_SECONDS = 0.05


def patiently() -> None:
    """Wait for as long as it takes."""


@contextmanager
def held(lock: threading.Lock, check: Check) -> Iterator[None]:
    """Hold a lock; a thread that waits for one cannot be interrupted, so it looks every now and then."""
    while not lock.acquire(timeout=_LOOK_SECONDS):
        check()
    try:
        yield
    finally:
        lock.release()
