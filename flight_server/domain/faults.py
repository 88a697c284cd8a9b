"""Named places in the order of a write where tests make the process die or its storage fail.

The environment variable `FLIGHT_SERVER_FAULT` arms one: `<place>` or `<place>:<n>` for the n-th time
that it is reached, `<place>:every-<n>` for each n-th time. Without it a place costs one comparison.
"""

import errno
import os
import signal
from collections.abc import Callable
from enum import StrEnum

VARIABLE = "FLIGHT_SERVER_FAULT"


class Place(StrEnum):
    """Where a process is killed: the engine process at the first five, the gateway or a command at the rest.

    An upload, a compaction or a statement that writes passes `OBJECT_WRITTEN` to `WRITE_TOLD` in this order.
    """

    OBJECT_WRITTEN = "object-written"
    OBJECT_CLOSED = "object-closed"
    WRITE_READY = "write-ready"
    WRITE_TOLD = "write-told"
    OBJECT_DELETED = "object-deleted"
    INGEST_STORED = "ingest-objects-stored"
    INGEST_COMMITTED = "ingest-committed"
    STATEMENT_STORED = "statement-stored"
    STATEMENT_RECORDED = "statement-recorded"
    COMMIT_READY = "commit-ready"
    COMMIT_MADE = "commit-made"
    TRANSACTION_COMMITTED = "transaction-committed"
    TRANSACTION_DISCARDED = "transaction-discarded"
    COMPACT_STORED = "compact-stored"
    COMPACT_COMMITTED = "compact-committed"
    SWEEP_BURIED = "sweep-buried"
    SWEEP_DELETED = "sweep-deleted"
    IMPORT_READY = "import-ready"
    MIGRATE_READY = "migrate-ready"
    BACKUP_HELD = "backup-held"
    RESTORE_READY = "restore-ready"


FULL_DISK = "disk-full"
"""The place where writing an object fails because there is no space left, from the n-th time on."""

STORAGE_FAILURES = {"storage-eio": errno.EIO, "storage-enospc": errno.ENOSPC}
"""Places at which the n-th operation on storage of an engine process fails, and only that one → its error."""

_EVERY = "every-"

_place, _, _count = os.environ.get(VARIABLE, "").partition(":")
_first = int(_count.removeprefix(_EVERY) or 1)
_is_repeated = _count.startswith(_EVERY)
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
    if _reached == _first or (_is_repeated and _reached % _first == 0):
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
