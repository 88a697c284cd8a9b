"""The users file: who there is, with hashes of their secrets and with their grants.

It is one JSON document, readable for its owner alone. Whoever changes it holds a lock, writes it aside and
renames it, so that a reader sees it before or after, never between; see `UsersFile.changing`.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from flight_server.domain.identity import Grant, check_name, parse_grant
from flight_server.errors import FailedPreconditionError, InvalidArgumentError

_VERSION = 1
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class User:
    """One user; without a `password_hash` it logs in by other means.

    `epoch` changes with the password: a login of before is then no longer good. `certificates` are names in
    certificates that stand for it. Somebody who is `revoked` may not log in by any means.
    """

    name: str
    grants: tuple[Grant, ...] = ()
    password_hash: str | None = None
    certificates: tuple[str, ...] = ()
    revoked: bool = False
    epoch: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token that programs log in with: `digest` is the SHA-256 of its secret part.

    Without `grants` it may do what its owner may, else what both allow. Moments are in seconds since 1970
    UTC, `expires_at` is None for one that is good until it is revoked. `label` is for people.
    """

    id: str
    owner: str
    digest: str
    label: str
    created_at: int
    grants: tuple[Grant, ...] | None = None
    expires_at: int | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Users:
    """What the users file said at one moment; by name, and tokens by id."""

    users: Mapping[str, User] = field(default_factory=dict)
    tokens: Mapping[str, ApiToken] = field(default_factory=dict)

    def with_user(self, user: User) -> "Users":
        """Return the same with a user added or changed."""
        return replace(self, users={**self.users, user.name: user})

    def with_token(self, token: ApiToken) -> "Users":
        """Return the same with a token added or changed."""
        return replace(self, tokens={**self.tokens, token.id: token})

    def without_tokens_of(self, owner: str) -> "Users":
        """Return the same without the tokens of a user."""
        return replace(self, tokens={id_: each for id_, each in self.tokens.items() if each.owner != owner})

    def get(self, name: str) -> User:
        """Return a user. Raises FailedPreconditionError with those that there are."""
        found = self.users.get(name)
        if found is None:
            known = ", ".join(sorted(self.users)) or "none yet"
            raise FailedPreconditionError(f"there is no user {name[:80]!r}; there are: {known}")
        return found


class UsersFile:
    """Reads and changes a users file; one that does not exist has no users."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """What changes whenever the file does, None where there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> Users:
        """Return what the file says.

        Raises FailedPreconditionError when it cannot be understood or others may read it.
        """
        try:
            with self._path.open(encoding="utf-8") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise FailedPreconditionError("the users file is open to others: chmod 600 it")
                return _decoded(json.load(file))
        except FileNotFoundError:
            return Users()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidArgumentError) as error:
            raise FailedPreconditionError(
                f"the users file cannot be read ({type(error).__name__}); the commands "
                "'flight-server users' and 'flight-server tokens' write it"
            ) from error

    @contextmanager
    def changing(self) -> Iterator["Change"]:
        """Hold the file's lock, and write what the block has put into `users` of what is yielded."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(self._path.suffix + ".lock"), os.O_RDWR | os.O_CREAT, _MODE)
        try:
            flock(lock, LOCK_EX)
            change = Change(self.read())
            yield change
            self._write(change.users)
        finally:
            os.close(lock)

    def _write(self, users: Users) -> None:
        aside = self._path.with_suffix(f"{self._path.suffix}.{secrets.token_hex(4)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(_encoded(users), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@dataclass(slots=True)
class Change:
    """A change of the users file: what is in `users` at the end is written."""

    users: Users


def _encoded(users: Users) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "users": [_written(user) for user in users.users.values()],
        "tokens": [_written(token) for token in users.tokens.values()],
    }


def _written(of: User | ApiToken) -> dict[str, Any]:
    grants = None if of.grants is None else [str(grant) for grant in of.grants]
    return asdict(of) | {"grants": grants}


def _decoded(document: Mapping[str, Any]) -> Users:
    if document["version"] != _VERSION:
        raise FailedPreconditionError("the users file is of another version of this server")
    users = [_user(written) for written in document["users"]]
    tokens = [ApiToken(**{**written, "grants": _grants(written)}) for written in document["tokens"]]
    return Users({user.name: user for user in users}, {token.id: token for token in tokens})


def _user(written: Mapping[str, Any]) -> User:
    check_name(written["name"])
    values = {
        **written,
        "grants": _grants(written) or (),
        "certificates": tuple(written.get("certificates", ())),
    }
    return User(**values)


def _grants(written: Mapping[str, Any]) -> tuple[Grant, ...] | None:
    grants = written.get("grants")
    return None if grants is None else tuple(map(parse_grant, grants))
