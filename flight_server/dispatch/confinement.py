"""What an engine process is left with when it starts, as its launcher is told."""

import json
import logging
import os
import pwd
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flight_server.dispatch import landlock
from flight_server.domain.execution import MAX_CONNECTIONS, STACK_BYTES
from flight_server.domain.grants import GrantSet
from flight_server.domain.location import local_root
from flight_server.errors import UnavailableError

_log = logging.getLogger("flight_server.dispatch")

_PACKAGE = Path(__file__).parent.parent
_GIB = 1024**3
_OVERHEAD_BYTES = 24 * _GIB + MAX_CONNECTIONS * STACK_BYTES
"""Addresses beside the memory budget: libraries, allocators, and the stacks of threads, mostly unused."""

_LEAST_FILE_BYTES = 256 * _GIB
_MAX_FILES = 65_536


@dataclass(frozen=True, slots=True)
class Confinement:
    """Folders that may be read and written, and bounds in bytes.

    With `connects` it may open TCP connections. `user` is user and group id to run as, None for the
    gateway's own. `confines` is off only where the cost of it is measured.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    memory_bytes: int
    file_bytes: int
    connects: bool = False
    user: tuple[int, int] | None = None
    niceness: int = 0
    confines: bool = True

    def encoded(self) -> bytes:
        """Return it as the launcher reads it."""
        return json.dumps(
            {
                "reads": self.reads,
                "writes": self.writes,
                "connects": self.connects,
                "user": self.user,
                "niceness": self.niceness,
                "confines": self.confines,
                "limits": {
                    "AS": self.memory_bytes + _OVERHEAD_BYTES,
                    "FSIZE": max(self.file_bytes, _LEAST_FILE_BYTES),
                    "NOFILE": _MAX_FILES,
                },
                "package": str(_PACKAGE),
                "gateway": os.getpid(),
            }
        ).encode()


def roots(grants: GrantSet, user: tuple[int, int] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the folders of a grant set that are read only, and those that are written too; make them.

    Raises UnavailableError for one that is not there and cannot be made.
    """
    found = [(granted.name, granted.uri, granted.may_write) for granted in grants.buckets]
    if grants.pattern is not None:
        found.append(("of profiles", grants.pattern.parent, not grants.pattern.read_only))
    reads: list[str] = []
    writes: list[str] = []
    for name, uri, may_write in sorted(found):
        root = local_root(uri)
        _make(name, root, user)
        (writes if may_write else reads).append(str(root))
    return tuple(reads), tuple(writes)


def _make(name: str, root: Path, user: tuple[int, int] | None) -> None:
    if root.is_dir():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        if user is not None:
            os.chown(root, *user)
    except OSError as error:
        raise UnavailableError(f"bucket {name} cannot be used: {error.strerror}") from error


def user_ids(name: str | None) -> tuple[int, int] | None:
    """Return user and group id of a user of this machine. Raises KeyError for an unknown one."""
    if name is None:
        return None
    found = pwd.getpwnam(name)
    return found.pw_uid, found.pw_gid


def python_path(directory: Path, *, has_factories: bool) -> str:
    """Return where an engine process looks for modules: this package, and what factories may lie beside it.

    The package is found by a link, so that no folder has to be readable in which other things lie.
    """
    library = directory / "lib"
    library.mkdir()
    library.chmod(0o755)
    (library / _PACKAGE.name).symlink_to(_PACKAGE)
    return os.pathsep.join([str(library), *([str(_PACKAGE.parent)] if has_factories else [])])


def factory_folders(extra: Iterable[str]) -> tuple[str, ...]:
    """Return what embedders that are made by a factory may read: modules, and the folders that are named."""
    return (str(_PACKAGE.parent), *(path for path in sys.path if path), *extra)


def tell_strength() -> None:
    """Say, loudly where it must be, how far engine processes can be confined on this machine."""
    found = landlock.version()
    if not found:
        _log.warning(
            "THIS KERNEL HAS NO LANDLOCK: engine processes are kept from files that are not theirs by "
            "DuckDB's own settings alone; use Linux 5.13 or later with lsm=landlock, or `engine.user`"
        )
    else:
        _log.info("engine processes are confined by Landlock, version %d", found)
