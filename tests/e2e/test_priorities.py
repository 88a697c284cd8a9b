"""Statements that take long step back for short ones."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.flight
import pytest

from flight_server.testing import serve
from tests import flight_sql
from tests.e2e.test_lifecycle import children, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")

LONG = "SELECT sum(sqrt(i)) AS s FROM range(400000000) t(i)"

UNPRIVILEGED = """
import os, threading, time
from flight_server.engine import priority
lower = os.setpriority
def refuse(which, thread, niceness):
    if niceness <= 0:
        raise PermissionError
    lower(which, thread, niceness)
os.setpriority = refuse
priorities = priority.Priorities()
with priorities.working() as is_as_before:
    time.sleep(1)
print(os.getpriority(os.PRIO_PROCESS, 0), is_as_before())
"""


def niceness(process: int) -> list[int]:
    """The niceness of each thread, the nicest first; those of DuckDB's own are always nice."""
    tasks = (int(task.name) for task in Path(f"/proc/{process}/task").iterdir())
    return sorted((os.getpriority(os.PRIO_PROCESS, task) for task in tasks), reverse=True)


@pytest.mark.slow
def test_a_thread_is_nice_while_its_statement_takes_long() -> None:
    with serve() as server, pyarrow.flight.connect(server.uri) as client:
        flight_sql.query(client, "SELECT 1")
        (engine,) = children(server.process.pid)
        before = niceness(engine).count(10)
        asking = threading.Thread(target=flight_sql.query, args=(client, LONG))
        asking.start()
        eventually(lambda: niceness(engine).count(10) == before + 1)
        asking.join()
        eventually(lambda: niceness(engine).count(10) == before)


def test_a_thread_that_stays_nice_says_so() -> None:
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10", "False"]
