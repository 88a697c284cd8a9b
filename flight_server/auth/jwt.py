"""JSON Web Tokens of one configured issuer.

The algorithms are fixed by the configuration and by the key, never by the token (RFC 8725, sections 3.1 and
3.2). Keys come from a file, or from a JWKS document that is fetched over https and kept.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jwt
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from flight_server.auth.refused import RefusedError
from flight_server.domain.identity import check_name, parse_grant
from flight_server.domain.login import Login, LoginKind
from flight_server.errors import FailedPreconditionError, InvalidArgumentError
from flight_server.settings.auth import JwtSettings

_FAMILIES: Mapping[type, tuple[str, ...]] = {
    rsa.RSAPublicKey: ("RS", "PS"),
    ec.EllipticCurvePublicKey: ("ES",),
    ed25519.Ed25519PublicKey: ("EdDSA",),
    ed448.Ed448PublicKey: ("EdDSA",),
}
"""Kind of key → how the names of its algorithms begin."""

_LEEWAY_SECONDS = 5
_MAX_TOKEN_CHARACTERS = 8192
_MAX_DOCUMENT_BYTES = 1024 * 1024
_FETCH_SECONDS = 5.0
_FRESH_SECONDS = 600.0
_LEAST_SECONDS = 10.0
"""How long nothing is fetched after the last fetch, whatever unknown keys tokens name."""


class Keys(Protocol):
    """Where the keys come from that tokens are signed with."""

    async def find(self, key_id: str | None) -> object:
        """Return a key. Raises RefusedError when there is none of that id."""


class FileKey:
    """The one key of a PEM file. Raises FailedPreconditionError when there is none in it."""

    def __init__(self, path: Path) -> None:
        try:
            self._key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise FailedPreconditionError(
                "auth.jwt.public_key_file cannot be read: it must be a public key in PEM form"
            ) from error

    async def find(self, key_id: str | None) -> object:
        """Return the key, whatever a token calls it."""
        del key_id
        return self._key


class FetchedKeys:
    """The keys of a JWKS document, fetched again when they are old or one is not among them.

    When that fails the last ones stay good.
    """

    def __init__(self, url: str, least_seconds: float = _LEAST_SECONDS) -> None:
        self._url = url
        self._least_seconds = least_seconds
        self._pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(), retries=False)
        self._keys: Mapping[str | None, object] = {}
        self._fetched_at = -_FRESH_SECONDS
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> object:
        """Return the key of an id, or the only one. Raises RefusedError when there is none of that id."""
        if self._is_due(key_id):
            async with self._fetching:
                if self._is_due(key_id):
                    self._fetched_at = time.monotonic()
                    self._keys = await asyncio.to_thread(self._fetch) or self._keys
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if key_id is None or key_id not in self._keys:
            raise RefusedError("signed with an unknown key")
        return self._keys[key_id]

    def _is_due(self, key_id: str | None) -> bool:
        age = time.monotonic() - self._fetched_at
        return age > _FRESH_SECONDS or (key_id not in self._keys and age > self._least_seconds)

    def _fetch(self) -> Mapping[str | None, object]:
        """Return the document's keys, none when it cannot be had."""
        try:
            answer = self._pool.request(
                "GET", self._url, redirect=False, preload_content=False, timeout=_FETCH_SECONDS
            )
            body = answer.read(_MAX_DOCUMENT_BYTES)
            answer.close()
            if answer.status != 200:
                return {}
            return {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(body)).keys}
        except (urllib3.exceptions.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError):
            return {}


class JwtCheck:
    """Checks tokens of an issuer."""

    def __init__(self, settings: JwtSettings, keys: Keys | None = None) -> None:
        """Take keys from where the settings say, unless they are given."""
        self._settings = settings
        self._keys = keys or _configured(settings)

    async def login(self, token: str) -> Login:
        """Return who a token says that its bearer is. Raises RefusedError with what is wrong with it."""
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise RefusedError("too long a JWT")
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,  # type: ignore[arg-type]  # one of _FAMILIES
                algorithms=self._algorithms(key),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", self._settings.name_claim]},
            )
            return self._login(claims)
        except (jwt.PyJWTError, InvalidArgumentError, ValueError, TypeError) as error:
            raise RefusedError(f"JWT: {type(error).__name__}") from error

    def _algorithms(self, key: object) -> list[str]:
        families = next((names for kind, names in _FAMILIES.items() if isinstance(key, kind)), ())
        return [name for name in self._settings.algorithms if name.startswith(families)]

    def _login(self, claims: Mapping[str, Any]) -> Login:
        name = claims[self._settings.name_claim]
        if not isinstance(name, str):
            raise TypeError("the name must be a text")
        claim = self._settings.grants_claim
        written = [] if claim is None else claims.get(claim, [])
        if not isinstance(written, Sequence) or isinstance(written, str):
            raise TypeError("grants must be a list")
        grants = tuple(str(parse_grant(grant)) for grant in written)
        return Login(check_name(name), LoginKind.JWT, self._settings.issuer, float(claims["exp"]), grants)


def _configured(settings: JwtSettings) -> Keys:
    if settings.public_key_file is not None:
        return FileKey(settings.public_key_file)
    return FetchedKeys(settings.jwks_url or "")
