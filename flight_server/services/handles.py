"""Handles and tickets: signed values that carry what a statement needs, so that no state is kept.

A handle is a version byte, then parts with their sizes before them (an envelope, the statement's
fields, the bound parameter messages), then a signature over all of it. What is too large to travel
in a handle is held in memory.
"""

import hmac
import json
import struct
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from itsdangerous import BadSignature, Signer

from flight_server.domain.call import CallContext
from flight_server.errors import FailedPreconditionError, NotFoundError, ResourceExhaustedError

_VERSION = b"\x01"
_PURPOSE = b"flight-server handle"
_SIZE = struct.Struct("<I")
_CARRIED_BYTES = 64 * 1024
_LIFETIME_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Opened:
    """What a handle said: its fields and the parameter messages bound to it."""

    fields: Mapping[str, Any]
    messages: tuple[bytes, ...]


class Handles:
    """Seals and opens handles; `_held` keeps what is large, the oldest go when the budget is spent."""

    def __init__(self, secret_keys: Sequence[bytes], held_bytes: int) -> None:
        derived = [hmac.digest(key, _PURPOSE, "sha256") for key in secret_keys]
        # Derived once here and not by the signer, which would do it again for every handle.
        self._signer = Signer(derived, key_derivation="none", digest_method=sha256)
        self._budget = held_bytes
        self._held: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._held_bytes = 0

    def seal(
        self, kind: str, call: CallContext, fields: Mapping[str, Any], messages: Sequence[bytes] = ()
    ) -> bytes:
        """Return a handle of a kind that only its caller's principal can open."""
        envelope: dict[str, Any] = {
            "kind": kind,
            "principal": call.identity.name,
            "expires": time.time() + _LIFETIME_SECONDS,
        }
        body = (_json(fields), *messages)
        if sum(map(len, body)) > _CARRIED_BYTES:
            envelope["held"] = self._hold(body)
            body = ()
        sized = [_SIZE.pack(len(part)) + part for part in (_json(envelope), *body)]
        return self._signer.sign(b"".join([_VERSION, *sized]))

    def open(self, kind: str, call: CallContext, handle: bytes) -> Opened:
        """Return what a handle carries.

        Raises NotFoundError when it is not one of this kind, for this caller, or has expired;
        FailedPreconditionError when its parameters are no longer held.
        """
        try:
            data = self._signer.unsign(handle)
        except BadSignature as error:
            raise NotFoundError(_UNKNOWN) from error
        envelope, body = _split(data)
        is_foreign = envelope["kind"] != kind or envelope["principal"] != call.identity.name
        if is_foreign or envelope["expires"] < time.time():
            raise NotFoundError(_UNKNOWN)
        if "held" in envelope:
            held = self._held.get(envelope["held"])
            if held is None:
                raise FailedPreconditionError(
                    "a long statement or its large parameters are no longer held here; prepare it again"
                )
            body = held
        return Opened(json.loads(body[0]), body[1:])

    def _hold(self, messages: tuple[bytes, ...]) -> str:
        size = sum(map(len, messages))
        if size > self._budget:
            raise ResourceExhaustedError(
                f"statement and parameters take {size} bytes, at most {self._budget} are held"
            )
        while self._held_bytes + size > self._budget:
            _, dropped = self._held.popitem(last=False)
            self._held_bytes -= sum(map(len, dropped))
        key = uuid.uuid4().hex
        self._held[key] = messages
        self._held_bytes += size
        return key


_UNKNOWN = "unknown statement handle or ticket: it is not of this server, not yours, or has expired"


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
