"""Call headers, read once: gRPC metadata → one frozen value."""

import base64
import binascii
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from flight_server.errors import InvalidArgumentError, UnauthenticatedError

BUCKET = "x-lakehouse-bucket"
PROFILE = "x-lakehouse-profile"
MODE = "x-lakehouse-mode"
EXPECTED_ROWS = "x-lakehouse-expected-rows"
EVOLVE = "x-lakehouse-evolve"
IDEMPOTENCY_KEY = "x-idempotency-key"
COMPRESSION = "x-lakehouse-compression"
DICTIONARIES = "x-lakehouse-dictionaries"
AUTHORIZATION = "authorization"
COOKIE, SET_COOKIE = "cookie", "set-cookie"
_USER_AGENT, _JAVA = "user-agent", "grpc-java"
AUTH_TOKEN = "auth-token-bin"  # noqa: S105 (the name of a header)

_BEARER, _BASIC = "bearer", "basic"
_COOKIE_NAME = "lakehouse-session"


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """A user name and a password."""

    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers that mean something here; None where one is absent or blank.

    `token` comes from `authorization: Bearer …` or, with older clients, from `auth-token-bin`; `cookie`
    is the value of ours among those that the client keeps. `is_java` says that the client speaks
    through grpc-java, as JDBC drivers do.
    """

    bucket: str | None = None
    profile: str | None = None
    mode: str | None = None
    expected_rows: str | None = None
    evolve: str | None = None
    idempotency_key: str | None = None
    compression: str | None = None
    dictionaries: str | None = None
    token: str | None = None
    cookie: str | None = None
    basic: BasicCredentials | None = None
    is_java: bool = False


_NO_HEADERS, _NO_HEADERS_OF_JAVA = Headers(), Headers(is_java=True)
OURS = (BUCKET, PROFILE, MODE, EXPECTED_ROWS, EVOLVE, IDEMPOTENCY_KEY, COMPRESSION, DICTIONARIES)
"""The headers that are this server's own."""

_KNOWN = frozenset((*OURS, AUTHORIZATION, AUTH_TOKEN, COOKIE))


def read(metadata: Iterable[tuple[str, str | bytes]] | None) -> Headers:
    """Read the headers of a call.

    Raises InvalidArgumentError for values that are no text or contradict each other,
    UnauthenticatedError for credentials that cannot be understood.
    """
    found: dict[str, list[str | bytes]] = {}
    is_java = False
    for key, value in metadata or ():
        if key in _KNOWN:
            found.setdefault(key, []).append(value)
        elif key == _USER_AGENT:
            # gRPC appends its own name to the one that an application gives itself.
            is_java = isinstance(value, str) and _JAVA in value
    if not found:
        return _NO_HEADERS_OF_JAVA if is_java else _NO_HEADERS
    authorization = _single(AUTHORIZATION, found.get(AUTHORIZATION, ()))
    scheme, _, credentials = (authorization or "").partition(" ")
    scheme, credentials = scheme.lower(), credentials.strip()
    if scheme not in ("", _BEARER, _BASIC):
        raise UnauthenticatedError("the authorization header must be 'Basic …' or 'Bearer …'")
    return Headers(
        bucket=_single(BUCKET, found.get(BUCKET, ())),
        profile=_single(PROFILE, found.get(PROFILE, ())),
        mode=_single(MODE, found.get(MODE, ())),
        expected_rows=_single(EXPECTED_ROWS, found.get(EXPECTED_ROWS, ())),
        evolve=_single(EVOLVE, found.get(EVOLVE, ())),
        idempotency_key=_single(IDEMPOTENCY_KEY, found.get(IDEMPOTENCY_KEY, ())),
        compression=_single(COMPRESSION, found.get(COMPRESSION, ())),
        dictionaries=_single(DICTIONARIES, found.get(DICTIONARIES, ())),
        token=credentials if scheme == _BEARER else _single(AUTH_TOKEN, found.get(AUTH_TOKEN, ())),
        cookie=_cookie(found.get(COOKIE, ())),
        basic=decode_basic(credentials) if scheme == _BASIC else None,
        is_java=is_java,
    )


def decode_basic(encoded: str) -> BasicCredentials:
    """Decode the credentials of HTTP Basic (RFC 7617); padding may be missing, as with ADBC.

    Raises UnauthenticatedError when they are malformed.
    """
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise UnauthenticatedError("the Basic credentials are not base64 of 'user:password'") from error
    username, colon, password = decoded.partition(":")
    if not colon:
        raise UnauthenticatedError("the Basic credentials are not base64 of 'user:password'")
    return BasicCredentials(username, password)


def encode_cookie(token: str) -> str:
    """Return the value of the header that gives a client its session's cookie."""
    return f"{_COOKIE_NAME}={token}; HttpOnly; SameSite=Strict"


def _cookie(values: Iterable[str | bytes]) -> str | None:
    """Return the value of our cookie, None when there is none or it cannot be understood."""
    found: SimpleCookie = SimpleCookie()
    for value in values:
        with suppress(CookieError):
            found.load(value if isinstance(value, str) else value.decode("latin-1"))
    return found[_COOKIE_NAME].value if _COOKIE_NAME in found else None


def _single(name: str, values: Iterable[str | bytes]) -> str | None:
    distinct = {_text(name, value) for value in values} - {""}
    if len(distinct) > 1:
        raise InvalidArgumentError(f"the header {name} is given with different values; send it once")
    return distinct.pop() if distinct else None


def _text(name: str, value: str | bytes) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not (text.isascii() and (text.isprintable() or not text.strip())):
        raise InvalidArgumentError(f"the header {name} must be plain ASCII text")
    return text.strip()
