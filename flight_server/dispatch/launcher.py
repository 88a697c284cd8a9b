"""Prepares a fresh process and then becomes an engine process; standard library only.

Run as a script: `launcher.py DESCRIPTOR DIRECTORY NICENESS`. What an engine process must never have is
taken away here, before any library starts a thread.
"""

import os
import resource
import signal
import sys

_KEPT_VARIABLES = (
    "PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT", "FLIGHT_SERVER_FAULT",
)  # fmt: skip


def main(descriptor: str, directory: str, niceness: str) -> None:
    """Give up terminal signals, core dumps and the environment, then execute the engine process."""
    # Ctrl-C reaches the whole process group; the gateway drains and then ends its engine processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    os.nice(int(niceness))
    os.set_inheritable(int(descriptor), True)
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment["TMPDIR"] = directory
    # Products of a matrix and a vector wait for memory: more threads of BLAS only spin beside requests.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    os.chdir(directory)
    command = [sys.executable, "-m", "flight_server.engine_process", descriptor, directory]
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell, our own module


if __name__ == "__main__":
    main(*sys.argv[1:])
