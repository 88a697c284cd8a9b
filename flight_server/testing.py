"""A real server for the tests of your own project.

from flight_server.testing import serve

with serve(buckets={"primary": {"uri": "/tmp/p"}}, limits={"sessions": 5}) as server:
    connection = adbc_driver_flightsql.dbapi.connect(server.uri)

with serve(users={"ann": {"password": "…", "grants": ["primary=read"]}}) as server:
    connection = dbapi.connect(server.uri, {"username": "ann", "password": "…"})
"""

import functools
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flight_server.auth.changes import UserChanges
from flight_server.auth.passwords import hashed
from flight_server.auth.users import UsersFile
from flight_server.config import ENVIRONMENT_PREFIX
from flight_server.errors import FailedPreconditionError

START_SECONDS = 30.0
"""How long a server may take to say that it is ready."""

STOP_SECONDS = 10.0
"""How long a server may take to stop before it is killed."""

_READY = "flight-server ready "


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `uri` is what clients connect to."""

    uri: str
    host: str
    port: int
    data_dir: Path
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def logged(self) -> str:
        """Return what the server has written to standard error so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")


@contextmanager
def serve(
    buckets: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    data_dir: Path | None = None,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """Start a server in a process of its own, and stop it at the end of the `with` block.

    `buckets` maps names to their settings (`uri`, `aliases`, `read_only`); None means the default
    ones. `settings` are named as in the configuration file, sections as mappings. The port is a
    free one, the data directory a temporary one that is removed at the end, unless they are given;
    no spare engine process is started (`engine={"spares": 1}` does), so that a start is quick, and
    nothing is compacted in the background (`catalog={"compact_beyond": 200}` does).
    Variables `FLIGHT_SERVER__…` of the calling process are not passed on.
    `users` maps names to `password`, `grants` and `certificates`, each of which may be left out; they are
    written into `users.json` of the data directory, and everybody has to log in.

    Raises FailedPreconditionError with what the server wrote to standard error when it does not start.
    """
    if buckets is not None:
        settings["buckets"] = {name: dict(bucket) for name, bucket in buckets.items()}
    with ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flight-server-")))
        log = stack.enter_context(tempfile.TemporaryFile())
        if users is not None:
            settings["auth"] = {**settings.get("auth", {}), "users_file": _written(users, folder)}
        engine = {"spares": 0, **settings.pop("engine", {})}
        catalog = {"compact_beyond": 0, **settings.pop("catalog", {})}
        values = {"port": 0, **settings, "engine": engine, "catalog": catalog, "data_dir": str(folder)}
        process = stack.enter_context(_process(_environment(values), log))
        uri = _await_ready(process, log)
        host, _, port = uri.rpartition("//")[2].rpartition(":")
        yield Server(uri, host, int(port), folder, process, log)


def _written(users: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    path = folder / "users.json"
    path.unlink(missing_ok=True)
    changes = UserChanges(UsersFile(path), functools.cache(hashed))  # a tenth of a second for each
    for name, user in users.items():
        changes.add_user(name, user.get("grants", ()), user.get("password"), user.get("certificates", ()))
    return str(path)


def _environment(settings: Mapping[str, Any]) -> dict[str, str]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    ours = {
        f"{ENVIRONMENT_PREFIX}{name.upper()}": json.dumps(value, default=str)
        if isinstance(value, Mapping)
        else str(value)
        for name, value in settings.items()
    }
    return inherited | ours


@contextmanager
def _process(environment: dict[str, str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server; a session of its own keeps the terminal's Ctrl-C to the caller, who stops it."""
    with subprocess.Popen(
        [sys.executable, "-m", "flight_server", "serve"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_ready(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    line = _first_line(process, time.monotonic() + START_SECONDS)
    if line.startswith(_READY):
        return line.removeprefix(_READY).strip()
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    raise FailedPreconditionError(f"the server did not start:\n{said or 'it wrote nothing'}")


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Return what the server printed up to a newline, its end, or the deadline."""
    line = b""
    with selectors.DefaultSelector() as selector:
        pipe = process.stdout
        if pipe is None:
            return ""
        selector.register(pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(pipe.fileno(), 4096)
            if not chunk:
                break
            line += chunk
    return line.decode(errors="replace")
