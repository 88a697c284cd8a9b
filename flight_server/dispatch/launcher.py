"""Prepares a fresh process and then becomes an engine process; no library but the standard one.

Run as a script: `launcher.py DESCRIPTOR DIRECTORY`, with a `Confinement` as JSON on standard input. What an
engine process must never have is taken away here, before any library starts a thread. Where the kernel has
no Landlock the limits hold all the same; the gateway says so at its start.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flight_server.dispatch import landlock

_KEPT_VARIABLES = (
    "PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT", "FLIGHT_SERVER_FAULT",
)  # fmt: skip

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
_READABLE = (
    "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero", "/sys/devices/system",
    "/sys/fs/cgroup", "/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/maps", "/proc/self/stat",
    "/proc/self/statm", "/proc/self/status", "/proc/self/task", "/proc/meminfo", "/proc/cpuinfo",
    "/proc/stat", "/proc/sys/vm/overcommit_memory",
)  # fmt: skip
"""What libraries ask the system; what /proc knows of other processes is not among it."""

_OF_NETWORK = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
    "/etc/services", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates",
)  # fmt: skip

_DEATH_SIGNAL = 1
_FIRST_TO_GO = "1000"


def main(descriptor: str, directory: str) -> None:
    """Give up what an engine process may not have, then execute it."""
    asked = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Ctrl-C reaches the whole process group; the gateway drains and then ends its engine processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    os.nice(asked["niceness"])
    os.set_inheritable(int(descriptor), True)
    os.chdir(directory)
    _limit(asked["limits"])
    _become(asked["user"])
    _die_with(asked["gateway"])
    if asked["confines"] and landlock.version():
        landlock.restrict(_rules(asked, directory), may_connect=asked["connects"])
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {"TMPDIR": directory, "HOME": directory}
    # Products of a matrix and a vector wait for memory: more threads of BLAS only spin beside requests.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    command = [sys.executable, "-P", "-m", "flight_server.engine_process", descriptor, directory]
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell, our own module


def _limit(limits: Mapping[str, int]) -> None:
    """Bound address space, files and their size; nothing of a crash is kept."""
    for name, wanted in {"CORE": 0, **limits}.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (bound, bound))
    # Where memory runs out the kernel is to end this one, and not the gateway.
    Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def _become(user: list[int] | None) -> None:
    """Become the user and group of the setting `engine.user`, with no other groups."""
    if user is not None:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])


def _die_with(gateway: int) -> None:
    """End with the gateway, even in the middle of something that never looks."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != gateway:  # it had gone before
        sys.exit(1)


def _rules(asked: Mapping[str, Any], directory: str) -> Iterator[tuple[str, int]]:
    """Yield the paths that stay, with what may be done there."""
    python = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, sys.executable)
    found = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for path in {*python, os.path.realpath(sys.executable), *_LIBRARIES, *found, asked["package"]} - {""}:
        yield path, landlock.RUN
    for path in (*_READABLE, *(_OF_NETWORK if asked["connects"] else ()), *asked["reads"]):
        yield path, landlock.READ
    for path in (*asked["writes"], directory, os.devnull):
        yield path, landlock.WRITE


if __name__ == "__main__":
    main(*sys.argv[1:])
