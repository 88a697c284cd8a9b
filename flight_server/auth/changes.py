"""What the commands do to the users file."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from flight_server.auth import tokens
from flight_server.auth.passwords import hashed
from flight_server.auth.users import ApiToken, User, Users, UsersFile
from flight_server.domain.identity import check_name, parse_grant
from flight_server.errors import AlreadyExistsError, FailedPreconditionError


class UserChanges:
    """Changes a users file, each time as a whole; `hash_password` makes what is kept of a password."""

    def __init__(self, file: UsersFile, hash_password: Callable[[str], str] = hashed) -> None:
        self._file = file
        self._hashed = hash_password

    def users(self) -> Sequence[User]:
        """Return the users by name."""
        return sorted(self._file.read().users.values(), key=lambda user: user.name)

    def tokens(self) -> Sequence[ApiToken]:
        """Return the API tokens, those made first first."""
        return sorted(self._file.read().tokens.values(), key=lambda token: token.created_at)

    def user(self, name: str) -> User:
        """Return a user. Raises FailedPreconditionError when there is none of that name."""
        return self._file.read().get(name)

    def add_user(
        self, name: str, grants: Iterable[str], password: str | None, certificates: Iterable[str] = ()
    ) -> None:
        """Add a user, or let one in anew who was revoked.

        Raises AlreadyExistsError for one who is there, InvalidArgumentError for what is no name or grant.
        """
        parsed = tuple(map(parse_grant, grants))
        kept = self._hashed(password) if password is not None else None
        user = User(check_name(name), parsed, kept, tuple(certificates))
        with self._file.changing() as change:
            known = change.users.users.get(name)
            if known is not None and not known.revoked:
                raise AlreadyExistsError(
                    f"there is a user {name!r} already; 'users grant' and 'users passwd' change it"
                )
            _check_certificates(change.users, user)
            change.users = change.users.without_tokens_of(name).with_user(user)

    def grant(self, name: str, grants: Iterable[str]) -> None:
        """Replace a user's grants. Raises FailedPreconditionError and InvalidArgumentError."""
        parsed = tuple(map(parse_grant, grants))
        with self._file.changing() as change:
            change.users = change.users.with_user(replace(change.users.get(name), grants=parsed))

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password. Raises FailedPreconditionError."""
        kept = self._hashed(password)
        with self._file.changing() as change:
            before = change.users.get(name)
            anew = User(name, before.grants, kept, before.certificates, before.revoked)
            change.users = change.users.with_user(anew)

    def revoke_user(self, name: str) -> None:
        """Let a user in no more. Raises FailedPreconditionError when there is none of that name."""
        with self._file.changing() as change:
            change.users = change.users.with_user(replace(change.users.get(name), revoked=True))

    def add_token(
        self, owner: str, grants: Iterable[str] | None, label: str = "", expires_at: int | None = None
    ) -> str:
        """Make an API token of a user and return its text. Raises FailedPreconditionError."""
        parsed = None if grants is None else tuple(map(parse_grant, grants))
        token_id, text, digest = tokens.make()
        token = ApiToken(token_id, owner, digest, label, int(time.time()), parsed, expires_at)
        with self._file.changing() as change:
            if change.users.get(owner).revoked:
                raise FailedPreconditionError(f"{owner} is revoked; 'users add' lets it in anew")
            change.users = change.users.with_token(token)
        return text

    def revoke_token(self, written: str) -> str:
        """Revoke an API token by its id or text, and return its id. Raises FailedPreconditionError."""
        token_id, _ = tokens.split(written)
        with self._file.changing() as change:
            token = change.users.tokens.get(token_id)
            if token is None:
                raise FailedPreconditionError(
                    "there is no such token; 'flight-server tokens list' shows the ids"
                )
            change.users = change.users.with_token(replace(token, revoked=True))
        return token_id


def _check_certificates(users: Users, user: User) -> None:
    for other in users.users.values():
        shared = set(user.certificates).intersection(other.certificates)
        if shared and other.name != user.name:
            raise AlreadyExistsError(f"{min(shared)} stands for {other.name} already")
