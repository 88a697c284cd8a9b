"""Credentials that are not good, of every kind that there is."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from flight_server.auth.changes import UserChanges
from flight_server.auth.users import UsersFile
from flight_server.catalog.store import Catalog
from flight_server.domain.login import Login, LoginKind
from flight_server.services.sessions import SessionService
from flight_server.testing import Server

PASSWORD = "a long password"
ISSUER, AUDIENCE = "https://issuer.example", "flight"

SIGNING_KEY = ed25519.Ed25519PrivateKey.generate()
PUBLIC_PEM = SIGNING_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Issued:
    """What the server once gave out: API tokens of three kinds, and a good bearer token of a handshake."""

    good: str
    expired: str
    revoked: str
    of_revoked: str
    bearer: str


def issue(changes: UserChanges, bearer: str) -> Issued:
    """Make API tokens, revoke what is to be revoked."""
    changes.add_user("former", ["*=admin"], PASSWORD)
    issued = Issued(
        changes.add_token("ann", None),
        changes.add_token("ann", None, expires_at=int(time.time()) - 10),
        changes.add_token("ann", None),
        changes.add_token("former", None),
        bearer,
    )
    changes.revoke_token(issued.revoked)
    changes.revoke_user("former")
    return issued


def claims(**others: Any) -> dict[str, Any]:
    """Return the claims of a good JWT, with others in place of some; None leaves one out."""
    good = {"sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    return {name: value for name, value in {**good, **others}.items() if value is not None}


def signed(**others: Any) -> str:
    """Return a JWT of the configured issuer."""
    return jwt.encode(claims(**others), SIGNING_KEY, "EdDSA")


def bad_jwts() -> Mapping[str, str]:
    """Return JWTs that are not good."""
    foreign = ed25519.Ed25519PrivateKey.generate()
    other_kind = rsa.generate_private_key(65537, 2048)
    pem = other_kind.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    header, payload, signature = signed().split(".")
    return {
        "unsigned": jwt.encode(claims(), None, "none"),
        "signed with the public key as a secret": _hs256(claims(), PUBLIC_PEM),
        "signed by another": jwt.encode(claims(), foreign, "EdDSA"),
        "signed by another kind of key": jwt.encode(claims(), pem, "RS256"),
        "altered": f"{header}.{payload[:-4]}AAAA.{signature}",
        "cut": f"{header}.{payload}.",
        "expired": signed(exp=int(time.time()) - 60),
        "without an end": signed(exp=None),
        "not good yet": signed(nbf=int(time.time()) + 600),
        "of another issuer": signed(iss="https://other.example"),
        "without an issuer": signed(iss=None),
        "for another audience": signed(aud="other"),
        "without an audience": signed(aud=None),
        "without a name": signed(sub=None),
        "of a name that cannot be": signed(sub="*"),
        "of a revoked user": signed(sub="former"),
        "with a critical header": jwt.encode(claims(), SIGNING_KEY, "EdDSA", headers={"crit": ["x"], "x": 1}),
    }


def _hs256(claimed: Mapping[str, Any], secret: bytes) -> str:
    """Sign with HMAC and a PEM as the secret, which PyJWT itself refuses to do."""
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    parts = [b'{"alg":"HS256","typ":"JWT"}', json.dumps(claimed).encode()]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(algorithm.sign(text, secret)).rstrip(b"=")).decode()


def bad_bearers(server: Server, issued: Issued) -> Mapping[str, str]:
    """Return tokens of handshakes and API tokens that are not good."""
    users = UsersFile(server.data_dir / "users.json").read().users
    catalog = Catalog.open(f"sqlite:///{server.data_dir / 'catalog.db'}")
    keys = catalog.secret_keys()
    catalog.close()
    ours, foreign = SessionService(keys, 60, 9, 9), SessionService((b"another key",), 60, 9, 9)
    ann = Login("ann", LoginKind.PASSWORD, users["ann"].epoch)
    return {
        "empty": "x",
        "of another server": foreign.mint("ann", ann)[0],
        "altered": issued.bearer[:-3] + ("AAA" if not issued.bearer.endswith("AAA") else "BBB"),
        "expired": ours.mint("ann", Login("ann", LoginKind.PASSWORD, ann.reference, time.time() - 1))[0],
        "of another password": ours.mint("ann", Login("ann", LoginKind.PASSWORD, "0"))[0],
        "of a revoked user": ours.mint("former", Login("former", LoginKind.PASSWORD, users["former"].epoch))[
            0
        ],
        "of nobody who logged in": ours.mint("ann")[0],
        "API token with a wrong secret": issued.good[:-3] + "AAA",
        "API token of no id": "fst__" + "A" * 43,
        "API token that is unknown": "fst_000000000000_" + "A" * 43,
        "API token that has expired": issued.expired,
        "API token that is revoked": issued.revoked,
        "API token of a revoked user": issued.of_revoked,
        "API token without a secret": issued.good.rpartition("_")[0],
    }


def basic(name: str, password: str) -> str:
    """Return the value of the header for Basic."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
