"""What becomes of work for which there is no thread."""

import threading
from functools import partial
from queue import SimpleQueue

import pytest

from flight_server.engine.priority import Starter


def test_work_without_a_thread_is_given_up_and_the_next_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.stack_size()
    starter, outcomes = Starter(), SimpleQueue[str]()
    threading.stack_size(before)
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def start_or_fail(thread: threading.Thread) -> None:
        if failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    for expected in ("lost", "done"):
        starter.start(partial(outcomes.put, "done"), otherwise=partial(outcomes.put, "lost"))
        assert outcomes.get(timeout=5) == expected
