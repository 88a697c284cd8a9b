"""Lets short work go first: threads that work for long step back for the others of the machine.

DuckDB runs a query in the thread that asks for it, with the help of threads of its own. Both kinds
compete with whatever answers short queries: the gateway, other threads here, clients on this machine.
Linux has a niceness for each thread; whoever is nice still gets all that nobody else wants.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue

from flight_server.domain.execution import STACK_BYTES

_log = logging.getLogger("flight_server.engine")
_NICENESS = 10
_LONG_SECONDS = 0.25
"""How long work may take before its thread steps back."""

_TASKS = Path("/proc/self/task")


class Priorities:
    """Has threads step back that work for long, and gives them their priority back."""

    def __init__(self) -> None:
        self._has_work = threading.Event()
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        self._stepped_back: set[int] = set()
        if sys.platform == "linux":
            self._normal = os.getpriority(os.PRIO_PROCESS, 0)
            threading.Thread(target=self._watch, name="priorities", daemon=True).start()

    @contextlib.contextmanager
    def working(self) -> Iterator[Callable[[], bool]]:
        """Note that the thread works in this block; yield what tells, after it, whether it is as it was.

        One that is not may do no further work: only a privileged process can raise a priority.
        """
        thread = threading.get_native_id()
        is_normal = [True]
        with self._lock:
            self._began[thread] = time.monotonic()
        self._has_work.set()
        try:
            yield lambda: is_normal[0]
        finally:
            with self._lock:
                del self._began[thread]
                if thread in self._stepped_back:
                    self._stepped_back.discard(thread)
                    is_normal[0] = _set(thread, self._normal)

    def _watch(self) -> None:
        while self._has_work.wait():
            time.sleep(_LONG_SECONDS / 2)
            before = time.monotonic() - _LONG_SECONDS
            with self._lock:
                if not self._began:
                    self._has_work.clear()
                long = [thread for thread, began in self._began.items() if began < before]
                for thread in long:
                    if thread not in self._stepped_back and _set(thread, self._normal + _NICENESS):
                        self._stepped_back.add(thread)


class Starter:
    """Starts threads with the priority of the process, whatever that of the one that asks."""

    def __init__(self) -> None:
        threading.stack_size(STACK_BYTES)
        self._waiting: SimpleQueue[tuple[Callable[[], None], Callable[[], None]]] = SimpleQueue()
        threading.Thread(target=self._run, name="starter", daemon=True).start()

    def start(self, work: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Have a new thread work; where there can be no more threads, do what is to be done otherwise."""
        self._waiting.put((work, otherwise))

    def _run(self) -> None:
        while True:
            work, otherwise = self._waiting.get()
            try:
                threading.Thread(target=work, daemon=True).start()
            except RuntimeError as error:
                _log.error("%s: a connection is closed", error)
                otherwise()


@contextlib.contextmanager
def helpers() -> Iterator[None]:
    """Have the threads that are started in this block, by whomever, step back for good."""
    before = _threads()
    yield
    for thread, niceness in _threads().items():
        if thread not in before:
            _set(thread, niceness + _NICENESS)


def _threads() -> Mapping[int, int]:
    """Return the threads of this process with their niceness; none where that cannot be known."""
    if sys.platform != "linux":
        return {}
    numbers = [int(task.name) for task in _TASKS.iterdir()]
    return {number: os.getpriority(os.PRIO_PROCESS, number) for number in numbers}


def _set(thread: int, niceness: int) -> bool:
    """Give a thread a niceness; tell whether it has got it."""
    try:
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except OSError:  # not allowed, or the thread has just ended
        return False
    return True
