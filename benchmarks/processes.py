"""Processes: our own children, and what a server's processes use of the machine (Linux's /proc)."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from types import TracebackType

from benchmarks.measure import Contender, LeftOutError

_PROC = Path("/proc")
_STOP_SECONDS = 10.0
_SAMPLE_SECONDS = 0.05
_PARENT, _USER_TICKS, _SYSTEM_TICKS, _PAGES = 1, 11, 12, 21
"""Places in /proc/<pid>/stat, counted from the state behind the name; source: proc(5)."""


@contextmanager
def running(module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a module of ours in a process that ends when its standard input does."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def first_line(process: "subprocess.Popen[str]") -> str:
    """Return the next line that a child prints; raises RuntimeError when it ended instead."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError("a process of the benchmarks ended early")
    return line.strip()


def tell(process: "subprocess.Popen[str]", line: str) -> None:
    """Send a line to a child."""
    if process.stdin is not None:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


@contextmanager
def load(count: int, seconds: float, module: str, *arguments: str) -> Iterator[Contender]:
    """Start processes of clients; each call of the contender gives what they do in a second together.

    They say that they are ready, then take a number of seconds a line and answer what they did in them.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(running(module, *arguments)) for _ in range(count)]
        for process in processes:
            first_line(process)

        def measured() -> float:
            for process in processes:
                tell(process, str(seconds))
            return sum(int(first_line(process)) for process in processes) / seconds

        yield measured


def require_proc() -> None:
    """Raise LeftOutError where processes cannot be looked at."""
    if not (_PROC / "self" / "stat").exists():
        raise LeftOutError("needs Linux's /proc")


def family(pid: int) -> list[int]:
    """Return a process and all of its descendants. Raises LeftOutError without /proc."""
    require_proc()
    parents = {
        int(folder.name): int(fields[_PARENT])
        for folder in _PROC.iterdir()
        if folder.name.isdecimal() and (fields := _stat(int(folder.name)))
    }
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes have used so far."""
    ticks = sum(
        int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS]) for fields in map(_stat, pids) if fields
    )
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory that processes have resident now."""
    pages = sum(int(fields[_PAGES]) for fields in map(_stat, pids) if fields)
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """Return the most memory that this process has had resident.

    getrusage's figure will not do: a child starts with its parent's.
    """
    line = next(line for line in (_PROC / "self" / "status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) * 1024


def _stat(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class MemorySampler:
    """Samples the resident memory of processes while its `with` block runs."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[int] = []

    def __enter__(self) -> "MemorySampler":
        """Begin to sample."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sampling."""
        self._stopping.set()
        self._thread.join()

    def quarter(self, number: int) -> float:
        """Return the median of one quarter of the samples, 0 to 3."""
        size = len(self.samples)
        return median(self.samples[size * number // 4 : size * (number + 1) // 4])

    def _sample(self) -> None:
        while not self._stopping.wait(_SAMPLE_SECONDS):
            self.samples.append(resident_bytes(self._pids))
