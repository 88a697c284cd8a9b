"""Named places in the order of a commit where tests make the process die or its storage fail.

The environment variable `FLIGHT_SERVER_FAULT` arms one: `<place>` or `<place>:<n>` for the n-th time
that it is reached. Without it a place costs one comparison.
"""

import errno
import os
import signal
from collections.abc import Callable

VARIABLE = "FLIGHT_SERVER_FAULT"

PLACES = (
    "ingest-objects-stored",
    "ingest-committed",
    "commit-ready",
    "import-ready",
    "migrate-ready",
    "sweep-buried",
    "sweep-deleted",
    "backup-held",
    "restore-ready",
    "compact-stored",
    "compact-committed",
    "object-written",
    "object-closed",
)
"""Places where the process is killed."""

FULL_DISK = "disk-full"
"""The place where writing an object fails because there is no space left, from the n-th time on."""

STORAGE_FAILURES = {"storage-eio": errno.EIO, "storage-enospc": errno.ENOSPC}
"""Places at which the n-th operation on storage of an engine process fails, and only that one → its error."""

_place, _, _count = os.environ.get(VARIABLE, "").partition(":")
_first = int(_count or 1)
_reached = 0
_is_storage_armed = _place in STORAGE_FAILURES


def reach(place: str) -> None:
    """Die, or raise OSError, if this place is armed."""
    if place == _place:
        _reach_armed()


def operate() -> None:
    """Raise OSError if this operation on storage is the one that is to fail."""
    if _is_storage_armed:
        _operate_armed()


def _operate_armed() -> None:
    global _reached
    _reached += 1
    if _reached == _first:
        _fail(STORAGE_FAILURES[_place])


def _reach_armed() -> None:
    global _reached
    _reached += 1
    if _reached >= _first:
        _ACTIONS.get(_place, _die)()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(number: int = errno.ENOSPC) -> None:
    raise OSError(number, os.strerror(number))


_ACTIONS: dict[str, Callable[[], None]] = {FULL_DISK: _fail}
