"""Credentials → logins → identities.

A login is what somebody proved; what it is worth is asked anew at every call, in memory: a user who is
revoked, or whose password changed, is out at once when the file's change has been noticed.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING

from flight_server.auth import tokens
from flight_server.auth.attempts import Attempts
from flight_server.auth.certificates import names
from flight_server.auth.jwt import JwtCheck
from flight_server.auth.passwords import PasswordCheck
from flight_server.auth.refused import RefusedError
from flight_server.auth.users import User, Users, UsersFile
from flight_server.domain.identity import MAX_USER_NAME, Grant, Identity, bound, parse_grant
from flight_server.domain.login import Login, LoginKind
from flight_server.domain.recent import RecentMap
from flight_server.errors import FailedPreconditionError
from flight_server.settings.auth import AuthSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LOG = logging.getLogger("flight_server.auth")

_REMEMBERED = 10_000
_REMEMBERED_SECONDS = 60.0
"""How long a password that was right is known to be: clients may send it with every call."""

_MAX_PASSWORD_CHARACTERS = 1024
_JWT_START = "eyJ"


class Authenticator:
    """Knows who callers are; used from the event loop only."""

    def __init__(self, settings: AuthSettings) -> None:
        """Read the users. Raises FailedPreconditionError when a file cannot be used."""
        self._self_grants = tuple(map(parse_grant, settings.self_grants))
        self._file = UsersFile(settings.users_file) if settings.users_file is not None else None
        self._stamp = self._file.stamp if self._file else None
        self._users = self._file.read() if self._file else Users()
        self._jwt = JwtCheck(settings.jwt) if settings.jwt is not None else None
        self._attempts = Attempts(settings.failed_logins)
        self._passwords = PasswordCheck()
        self._key = secrets.token_bytes(32)
        self._right: RecentMap[bytes, tuple[str, float]] = RecentMap(_REMEMBERED)
        self._checking: dict[bytes, asyncio.Task[bool]] = {}
        self._identities: RecentMap[Login, Identity] = RecentMap(_REMEMBERED)
        self._kinds: Mapping[LoginKind, Callable[[Login], Identity]] = {
            LoginKind.PASSWORD: self._of_password,
            LoginKind.TOKEN: self._of_token,
            LoginKind.JWT: self._of_jwt,
            LoginKind.CERTIFICATE: self._of_certificate,
        }
        if not self._users.users and self._jwt is None:
            _LOG.warning("nobody can log in yet: add users with 'flight-server users add NAME'")

    @property
    def users(self) -> Users:
        """The users as they were last read."""
        return self._users

    def close(self) -> None:
        """Check no more passwords."""
        self._passwords.close()

    @property
    def has_changed(self) -> bool:
        """Whether the users file is another than the one that was read."""
        return self._file is not None and self._file.stamp != self._stamp

    async def refresh(self) -> None:
        """Read the users again; when the file cannot be read that is logged, and those of before stay."""
        if self._file is None:
            return
        self._stamp = self._file.stamp
        try:
            self._users = await asyncio.to_thread(self._file.read)
        except FailedPreconditionError as error:
            _LOG.error("%s; the users of before stay", error.message)
            return
        self._identities.clear()
        self._right.clear()

    async def basic(self, name: str, password: str, peer: str) -> Login:
        """Return the login of a name and password.

        Raises RefusedError when they are not right, ResourceExhaustedError after too many that were not.
        """
        if len(name) > MAX_USER_NAME or len(password) > _MAX_PASSWORD_CHARACTERS:
            raise RefusedError("too long a name or password")  # before anything remembers it
        user = self._users.users.get(name)
        written = f"{len(name)} {name}{password}".encode()
        digest = hmac.digest(self._key, written, "sha256")
        epoch, until = self._right.get(digest) or ("", 0.0)
        if user is None or user.epoch != epoch or until < time.monotonic():
            await self._check(user, name, password, digest, peer)
        current = self._users.users.get(name)
        if user is None or current is None or current.epoch != user.epoch:
            raise RefusedError("the user is gone, or its password has changed")
        return Login(name, LoginKind.PASSWORD, user.epoch)

    async def _check(self, user: User | None, name: str, password: str, digest: bytes, peer: str) -> None:
        """Check a password, once for all calls that bring it at this moment."""
        checking = self._checking.get(digest)
        if checking is None:
            self._attempts.check(name, peer)
            checking = asyncio.ensure_future(self._compare(user, name, password, peer))
            self._checking[digest] = checking
            checking.add_done_callback(partial(self._checked, digest))
        if not await asyncio.shield(checking) or user is None:
            raise RefusedError("wrong name or password")
        self._right.put(digest, (user.epoch, time.monotonic() + _REMEMBERED_SECONDS))

    async def _compare(self, user: User | None, name: str, password: str, peer: str) -> bool:
        kept = user.password_hash if user is not None and not user.revoked else None
        async with self._passwords.turn():  # what waits has not failed yet: many may log in at once
            self._attempts.begin(name, peer)
            is_right = await self._passwords.is_right(password, kept)
        if is_right:
            self._attempts.succeeded(name, peer)
        return is_right

    def _checked(self, digest: bytes, task: asyncio.Task[bool]) -> None:
        self._checking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # those who wait for it have it, if any still do

    async def bearer(self, token: str) -> Login:
        """Return the login of an API token or a JWT. Raises RefusedError."""
        if token.startswith(tokens.PREFIX):
            return self._api_token(token)
        if self._jwt is not None and token.startswith(_JWT_START):
            return await self._jwt.login(token)
        raise RefusedError("no token of this server, or an expired one")

    def _api_token(self, text: str) -> Login:
        token_id, secret = tokens.split(text)
        token = self._users.tokens.get(token_id)
        kept = token.digest if token is not None else hashlib.sha256().hexdigest()
        if not tokens.has_digest(secret, kept) or token is None:
            raise RefusedError("unknown API token")
        return Login(token.owner, LoginKind.TOKEN, token.id, token.expires_at)

    def certificate(self, pem: bytes) -> Login:
        """Return the login of a client certificate that TLS has verified. Raises RefusedError."""
        found, until = names(pem)
        owners = [user for user in self._users.users.values() if found.intersection(user.certificates)]
        if len(owners) != 1:
            raise RefusedError("a certificate of nobody, or of several users")
        name = min(found.intersection(owners[0].certificates))
        return Login(owners[0].name, LoginKind.CERTIFICATE, name, until)

    def identity(self, login: Login) -> Identity:
        """Return who a login stands for now. Raises RefusedError when it is no longer good."""
        if login.expires_at is not None and login.expires_at <= time.time():
            raise RefusedError("expired")
        known = self._identities.get(login)
        if known is None:
            known = self._kinds[login.kind](login)
            self._identities.put(login, known)
        return known

    def _of_password(self, login: Login) -> Identity:
        user = self._user(login.name)
        if user.epoch != login.reference:
            raise RefusedError("the password has changed")
        return self._identity(user.name, user.grants)

    def _of_token(self, login: Login) -> Identity:
        token = self._users.tokens.get(login.reference)
        if token is None or token.revoked or token.owner != login.name:
            raise RefusedError("the API token is revoked")
        identity = self._identity(token.owner, self._user(token.owner).grants)
        if token.grants is None:
            return identity
        return Identity(f"{token.owner}#{token.id}", identity.grants, bound(token.grants, token.owner))

    def _of_jwt(self, login: Login) -> Identity:
        user = self._users.users.get(login.name, User(login.name))
        if user.revoked:
            raise RefusedError("the user is revoked")
        return self._identity(user.name, (*user.grants, *map(parse_grant, login.grants)))

    def _of_certificate(self, login: Login) -> Identity:
        user = self._user(login.name)
        if login.reference not in user.certificates:
            raise RefusedError("the certificate is no longer the user's")
        return self._identity(user.name, user.grants)

    def _user(self, name: str) -> User:
        user = self._users.users.get(name)
        if user is None or user.revoked:
            raise RefusedError("the user is gone or revoked")
        return user

    def _identity(self, name: str, grants: tuple[Grant, ...]) -> Identity:
        return Identity(name, bound((*grants, *self._self_grants), name))
