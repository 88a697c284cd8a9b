"""Handles and tickets: signed values that carry what a statement needs, so that no state is kept.

A handle is a version byte, then parts with their sizes before them (an envelope, the statement's
fields, the bound parameter messages), then a signature over all of it. What is too large to travel
in a handle is held in memory.
"""

import hmac
import json
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from itsdangerous import BadSignature, Signer

from flight_server.domain.call import CallContext
from flight_server.errors import FailedPreconditionError, NotFoundError
from flight_server.services.held import HeldMessages

_VERSION = b"\x01"
_PURPOSE = b"flight-server handle"
_SIZE = struct.Struct("<I")
_CARRIED_BYTES = 64 * 1024
LONGEST_SECONDS = 24 * 3600
"""How long a handle is good for at most, renewed or not; versions that it may name are kept longer."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a handle said: its fields and the parameter messages bound to it."""

    fields: Mapping[str, Any]
    messages: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Renewed:
    """A handle that is good until another moment, in seconds since 1970 UTC."""

    handle: bytes
    expires: float


class Handles:
    """Seals and opens handles; what is large is held."""

    def __init__(self, secret_keys: Sequence[bytes], held: HeldMessages) -> None:
        derived = [hmac.digest(key, _PURPOSE, "sha256") for key in secret_keys]
        # Derived once here and not by the signer, which would do it again for every handle.
        self._signer = Signer(derived, key_derivation="none", digest_method=sha256)
        self._held = held

    def seal(
        self,
        kind: str,
        call: CallContext,
        fields: Mapping[str, Any],
        messages: Sequence[bytes] = (),
        expires: float | None = None,
    ) -> bytes:
        """Return a handle of a kind that only its caller's principal can open.

        It is good for a day, or until `expires`, in seconds since 1970 UTC.
        """
        until = time.time() + LONGEST_SECONDS
        envelope: dict[str, Any] = {
            "kind": kind,
            "principal": call.identity.name,
            "expires": until if expires is None else expires,
            "until": until,
        }
        body = (_json(fields), *messages)
        if sum(map(len, body)) > _CARRIED_BYTES:
            envelope["held"] = self._held.keep(body, call.identity.name)
            body = ()
        return self._signed(envelope, body)

    def _signed(self, envelope: Mapping[str, Any], body: Sequence[bytes]) -> bytes:
        sized = [_SIZE.pack(len(part)) + part for part in (_json(envelope), *body)]
        return self._signer.sign(b"".join([_VERSION, *sized]))

    def open(self, kind: str, call: CallContext, handle: bytes) -> Opened:
        """Return what a handle carries.

        Raises NotFoundError when it is not one of this kind, for this caller, or has expired;
        FailedPreconditionError when its parameters are no longer held.
        """
        envelope, body = self._verified(kind, call, handle)
        if "held" in envelope:
            held = self._held.parameters(envelope["held"])
            if held is None:
                raise FailedPreconditionError(
                    "a long statement or its large parameters are no longer held here; prepare it again"
                )
            body = tuple(held)
        return Opened(json.loads(body[0]), body[1:])

    def renew(self, kind: str, call: CallContext, handle: bytes, expires: float) -> Renewed:
        """Return the same handle, good until a later moment, a day after it was sealed at the latest.

        Raises NotFoundError like `open`.
        """
        envelope, body = self._verified(kind, call, handle)
        envelope["expires"] = max(envelope["expires"], min(expires, envelope["until"]))
        return Renewed(self._signed(envelope, body), envelope["expires"])

    def is_ours(self, handle: bytes) -> bool:
        """Tell whether this server made a handle, for whomever."""
        return self._signer.validate(handle)

    def _verified(
        self, kind: str, call: CallContext, handle: bytes
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        try:
            data = self._signer.unsign(handle)
        except BadSignature as error:
            raise NotFoundError(_UNKNOWN) from error
        envelope, body = _split(data)
        if envelope["kind"] != kind or envelope["principal"] != call.identity.name:
            raise NotFoundError(_UNKNOWN)
        if envelope["expires"] < time.time():
            raise NotFoundError("this statement handle or ticket has expired; plan or prepare it again")
        return envelope, body


_UNKNOWN = "unknown statement handle or ticket: it is not of this server, or not yours"


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _split(data: bytes) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    parts, at = [], len(_VERSION)
    if data[:at] != _VERSION:
        raise NotFoundError(_UNKNOWN)
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        parts.append(data[at : at + size])
        at += size
    return json.loads(parts[0]), tuple(parts[1:])
