"""The user that engine processes run as: it must reach the buckets, and no secret of the server."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flight_server.dispatch.confinement import user_ids
from flight_server.errors import FailedPreconditionError

_CHECK_SECONDS = 30
_LOOK = """
import json, os, sys
asked = json.loads(sys.argv[1])
print(json.dumps({
    "readable": [path for path in asked["secrets"] if os.access(path, os.R_OK)],
    "closed": [path for path in asked["reads"] if not os.access(path, os.R_OK | os.X_OK)]
    + [path for path in asked["writes"] if not os.access(path, os.R_OK | os.W_OK | os.X_OK)],
}))
"""
"""What that user is asked; nobody else knows it as surely as the system does."""


@dataclass(frozen=True, slots=True)
class EngineUser:
    """A user by name; `secrets` are files that it must not read, the others are folders of buckets."""

    name: str
    secrets: Sequence[Path]
    reads: Sequence[Path]
    writes: Sequence[Path]

    def check(self) -> None:
        """Raise FailedPreconditionError with all that is wrong; what is not there yet is not looked at."""
        if os.getuid() != 0:
            raise FailedPreconditionError(
                f"engine.user is {self.name!r}, and only root can start processes of other users: start the "
                "server as root, or leave the setting out"
            )
        try:
            user = user_ids(self.name)
        except KeyError as error:
            raise FailedPreconditionError(f"engine.user: there is no user {self.name!r} here") from error
        assert user is not None  # noqa: S101 - it has a name
        if user[0] == 0:
            raise FailedPreconditionError("engine.user must not be root, who may read everything")
        found = self._look(user)
        problems = [f"{path} can be read by it: take that away with chmod" for path in found["readable"]]
        problems += [f"{path} is a bucket's folder that it cannot use: chown it" for path in found["closed"]]
        if problems:
            raise FailedPreconditionError(f"engine.user {self.name!r}: {'; '.join(problems)}")

    def _look(self, user: tuple[int, int]) -> dict[str, list[str]]:
        asked = {
            "secrets": [str(path) for path in self.secrets if path.exists()],
            "reads": [str(path) for path in self.reads if path.exists()],
            "writes": [str(path) for path in self.writes if path.exists()],
        }
        try:
            done = subprocess.run(  # noqa: S603 - our own text, by our own Python
                [sys.executable, "-I", "-S", "-c", _LOOK, json.dumps(asked)],
                user=user[0],
                group=user[1],
                extra_groups=[],
                cwd="/",
                env={},
                capture_output=True,
                check=True,
                timeout=_CHECK_SECONDS,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise FailedPreconditionError(
                f"engine.user {self.name!r} cannot run {sys.executable}: install Python and this package "
                "where every user may read them"
            ) from error
        found: dict[str, list[str]] = json.loads(done.stdout)
        return found
