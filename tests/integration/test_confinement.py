"""What the launcher takes away, tried out by a program that stands in the place of the engine process."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flight_server.dispatch import confinement, landlock
from flight_server.dispatch.confinement import Confinement
from flight_server.dispatch.engine_user import EngineUser
from flight_server.errors import FailedPreconditionError

pytestmark = pytest.mark.skipif(landlock.version() < 4, reason="this kernel has no Landlock that knows TCP")

_PROBE = """
import json, os, pathlib, resource, socket, subprocess, sys
asked = json.loads(pathlib.Path("asked.json").read_text())

def reach(port):
    socket.create_connection(("127.0.0.1", port), 2).close()

def listen(port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))

TRIES = {
    "read": lambda path: pathlib.Path(path).read_bytes(),
    "list": os.listdir,
    "write": lambda path: pathlib.Path(path).write_text("x"),
    "remove": os.unlink,
    "link": lambda path: os.link(path, "stolen"),
    "run": lambda path: subprocess.run([path], check=True),
    "connect": reach,
    "listen": listen,
    "signal": lambda process: os.kill(process, 0),
}

def outcome(kind, target):
    try:
        TRIES[kind](target)
    except Exception as error:
        return getattr(error, "strerror", None) or type(error).__name__
    return "done"

said = {
    "outcomes": [outcome(*each) for each in asked],
    "environment": sorted(os.environ),
    "threads": pathlib.Path("/proc/self/status").read_text().partition("Threads:")[2].split()[0],
    "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0]
               for name in ("AS", "FSIZE", "CORE", "NOFILE")},
    "user": [os.getuid(), os.getgid(), os.getgroups()],
    "stdin": sys.stdin.read(),
}
pathlib.Path("said.json").write_text(json.dumps(said))
"""
_PYTHON = Path("/usr/bin/python3")
"""One that every user can run; that of these tests may lie in somebody's home."""

_NEEDS_ROOT = pytest.mark.skipif(
    os.getuid() != 0 or not _PYTHON.exists(), reason="needs root, and a Python that others may run"
)

_DENIED = {"Permission denied", "Operation not permitted", "Invalid cross-device link"}


class Launched:
    """The launcher with a program of ours as the package that it executes."""

    def __init__(self, folder: Path) -> None:
        self.own = folder / "own"
        self.package = self.own / "lib" / "flight_server"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        (self.package / "dispatch").mkdir()
        for name in ("__init__.py", "landlock.py"):
            source = Path(landlock.__file__).with_name(name)
            (self.package / "dispatch" / name).write_bytes(source.read_bytes())
        (self.package / "engine_process.py").write_text(_PROBE)

    def run(
        self, confined: Confinement, asked: list[tuple[str, Any]], python: str = sys.executable
    ) -> dict[str, Any]:
        (self.own / "asked.json").write_text(json.dumps(asked, default=str))
        if confined.user is not None:
            os.chown(self.own, *confined.user)
        told = json.loads(confined.encoded()) | {"package": str(self.package)}
        with socket.socket(socket.AF_UNIX) as listener:
            subprocess.run(
                [
                    python,
                    str(Path(landlock.__file__).with_name("launcher.py")),
                    str(listener.fileno()),
                    str(self.own),
                ],
                input=json.dumps(told).encode(),
                pass_fds=(listener.fileno(),),
                env={"PYTHONPATH": str(self.package.parent), "CANARY_SECRET": "x", "TZ": "UTC"},
                check=True,
                timeout=30,
            )
        said: dict[str, Any] = json.loads((self.own / "said.json").read_text())
        return said


@pytest.fixture
def launched(tmp_path: Path) -> Launched:
    return Launched(tmp_path)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("read", "written", "foreign")}
    for folder in found.values():
        folder.mkdir()
        (folder / "object").write_text("canary")
        (folder / "object").chmod(0o755)
    return found


def open_to_others(folder: Path, *more: Path) -> None:
    """Let every user into folders, the first of which lies in pytest's own."""
    own = folder.relative_to(tempfile.gettempdir()).parents
    for opened in (folder, *more, *(Path(tempfile.gettempdir()) / part for part in own if part.parts)):
        opened.chmod(0o755)


def confined(folders: dict[str, Path]) -> Confinement:
    return Confinement((str(folders["read"]),), (str(folders["written"]),), 1 << 30, 1 << 30)


def test_an_engine_process_reaches_its_own_buckets_and_nothing_else(
    launched: Launched, folders: dict[str, Path]
) -> None:
    read, written, foreign = (folders[name] for name in ("read", "written", "foreign"))
    (written / "way_out").symlink_to(foreign)
    with socket.create_server(("127.0.0.1", 0)) as canary:
        port = canary.getsockname()[1]
        allowed = [
            ("read", read / "object"),
            ("list", read),
            ("write", written / "new"),
            ("remove", written / "new"),
            ("write", "scratch"),
        ]
        denied = [
            ("write", read / "new"),
            ("remove", read / "object"),
            ("read", foreign / "object"),
            ("list", foreign),
            ("write", foreign / "new"),
            ("remove", foreign / "object"),
            ("read", written / "way_out" / "object"),
            ("link", foreign / "object"),
            ("list", foreign.parent),
            ("list", "/"),
            ("list", "/tmp"),  # noqa: S108 - it must not be seen
            ("read", "/etc/passwd"),
            ("read", f"/proc/{os.getpid()}/environ"),
            ("read", f"/proc/{os.getpid()}/cmdline"),
            ("list", f"/proc/{os.getpid()}/fd"),
            ("read", "/proc/net/unix"),
            ("run", written / "object"),
            ("run", foreign / "object"),
            ("connect", port),
            ("listen", 0),
        ]
        said = launched.run(confined(folders), [*allowed, *denied])
    assert said["outcomes"][: len(allowed)] == ["done"] * len(allowed)
    refused = dict(zip(denied, said["outcomes"][len(allowed) :], strict=True))
    assert {each: said for each, said in refused.items() if said not in _DENIED} == {}


def test_an_engine_process_starts_alone_with_bounds_and_without_the_servers_variables(
    launched: Launched, folders: dict[str, Path]
) -> None:
    said = launched.run(confined(folders), [])
    assert said["threads"] == "1"
    assert "CANARY_SECRET" not in said["environment"]
    assert said["stdin"] == ""
    assert said["limits"]["AS"] < 1 << 37
    assert said["limits"]["CORE"] == 0
    assert said["limits"]["FSIZE"] < 1 << 40


def test_embedders_may_connect_and_nothing_is_confined_where_that_is_measured(
    launched: Launched, folders: dict[str, Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        asked = [("connect", endpoint.getsockname()[1]), ("read", folders["foreign"] / "object")]
        said = launched.run(replace(confined(folders), connects=True), asked)
        assert said["outcomes"][0] == "done"
        assert said["outcomes"][1] in _DENIED
        assert launched.run(replace(confined(folders), confines=False), asked[1:])["outcomes"] == ["done"]


@_NEEDS_ROOT
def test_engine_processes_run_as_the_user_that_is_configured(
    launched: Launched, folders: dict[str, Path], tmp_path: Path
) -> None:
    open_to_others(tmp_path)
    user = confinement.user_ids("nobody")
    said = launched.run(replace(confined(folders), user=user), [("write", "scratch")], str(_PYTHON))
    assert said["user"] == [*(user or ()), []]
    assert said["outcomes"] == ["done"]


@_NEEDS_ROOT
def test_the_start_looks_at_what_the_engines_user_can_reach(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(_PYTHON))
    open_to_others(tmp_path, *folders.values())
    secret = tmp_path / "catalog.db"
    secret.touch(0o644)
    user = EngineUser("nobody", [secret, tmp_path / "gone"], [folders["read"]], [folders["written"]])
    with pytest.raises(FailedPreconditionError, match=r"catalog\.db can be read by it.*written is a bucket"):
        user.check()
    secret.chmod(0o600)
    os.chown(folders["written"], *(confinement.user_ids("nobody") or ()))
    user.check()
    for name, said in (("no_such_user", "there is no user"), ("root", "must not be root")):
        with pytest.raises(FailedPreconditionError, match=said):
            replace(user, name=name).check()
