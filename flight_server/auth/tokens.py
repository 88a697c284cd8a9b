"""API tokens: for programs, with part of their owner's grants where that is enough.

A token is `fst_<id>_<secret>`. The secret has 256 random bits, so its SHA-256 is as good as it and cannot
be searched; that alone is kept.
"""

import hmac
import secrets
from hashlib import sha256

PREFIX = "fst_"

_ID_BYTES = 6
_SECRET_BYTES = 32


def make() -> tuple[str, str, str]:
    """Return the id of a new token, its text, which is told once, and the digest to keep."""
    token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    return token_id, f"{PREFIX}{token_id}_{secret}", digest(secret)


def split(text: str) -> tuple[str, str]:
    """Return a token's id and secret, empty texts where it has none."""
    token_id, _, secret = text.removeprefix(PREFIX).partition("_")
    return token_id, secret


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


def has_digest(secret: str, kept: str) -> bool:
    """Tell whether a secret is the one whose digest was kept, in the same time whatever it is."""
    return hmac.compare_digest(digest(secret), kept)
