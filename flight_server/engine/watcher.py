"""Sees that the gateway has closed a connection, while the thread that serves it is at work."""

import select
import threading

from flight_server.engine.statement import Running

_INTERRUPT_AGAIN_SECONDS = 0.02


class HangupWatcher:
    """Cancels what runs on a connection when the gateway closes it.

    One thread waits for all connections; a connection is registered once, so a statement pays
    nothing. `_lock` guards what runs and what has closed. What runs on a closed connection is
    interrupted until it has ended: it may have been between two steps.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._lock = threading.Lock()
        self._running: dict[int, Running | None] = {}
        self._closed: set[int] = set()
        threading.Thread(target=self._watch, name="hangup-watcher", daemon=True).start()

    def add(self, descriptor: int) -> None:
        """Begin to watch a connection."""
        with self._lock:
            self._running[descriptor] = None
        self._poll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def remove(self, descriptor: int) -> None:
        """Stop watching, before the connection is closed here."""
        with self._lock:
            del self._running[descriptor]
            self._closed.discard(descriptor)
        self._poll.unregister(descriptor)

    def set_running(self, descriptor: int, running: Running | None) -> None:
        """Say what is to be cancelled when the connection closes."""
        with self._lock:
            self._running[descriptor] = running

    def _watch(self) -> None:
        while True:
            found = self._poll.poll(_INTERRUPT_AGAIN_SECONDS if self._closed else None)
            with self._lock:
                numbers = (number for number, _ in found if number in self._running)
                self._closed.update(number for number in numbers if _is_closed(number))
                at_work = [self._running[number] for number in self._closed]
            for running in at_work:
                if running is not None:
                    running.cancel()


def _is_closed(descriptor: int) -> bool:
    """Tell whether the other side has gone: another connection may have got the descriptor meanwhile."""
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))
