"""What runs on a connection is cancelled when that connection closes, and no other."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flight_server.engine.watcher import HangupWatcher

ROUNDS = 600


class Running:
    """Something at work that notes when it is cancelled."""

    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


def test_a_descriptor_that_is_used_again_is_another_connection() -> None:
    watcher = HangupWatcher()

    def connections(_: int) -> list[bool]:
        found = []
        for number in range(ROUNDS):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                running: Any = Running()
                watcher.add(ours.fileno())
                watcher.set_running(ours.fileno(), running)
                if number % 2:
                    theirs.close()
                else:
                    time.sleep(0.0003)
                    found.append(running.is_cancelled)
                watcher.remove(ours.fileno())
        return found

    with ThreadPoolExecutor(6) as threads:
        assert not any(any(found) for found in threads.map(connections, range(6)))


def test_a_closed_connection_cancels_what_runs_on_it() -> None:
    watcher = HangupWatcher()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        running: Any = Running()
        watcher.add(ours.fileno())
        theirs.close()
        watcher.set_running(ours.fileno(), running)
        deadline = time.monotonic() + 5
        while not running.is_cancelled and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.is_cancelled
        watcher.remove(ours.fileno())
