"""The action `register`: Parquet objects that are in a bucket already become part of a dataset."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import IngestMode
from flight_server.domain.statement import Registration
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire.actions import LONGEST_JSON, check_keys, decode_json, encode_json

if TYPE_CHECKING:
    from flight_server.services.register import RegisterService

_FIELDS = ("bucket", "dataset", "keys", "mode")
_LONGEST = 4 * LONGEST_JSON
"""Bytes of a body: some 50,000 keys, and a folder may stand for any number."""


@dataclass(frozen=True, slots=True)
class RegisterHandlers:
    """Answers the action `register`."""

    service: "RegisterService"

    async def register(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Register the objects and return what the commit did."""
        result = await self.service.register(call, _registration(decode_json(body, _LONGEST)))
        return (encode_json(asdict(result)),)


def _registration(options: dict[str, Any]) -> Registration:
    check_keys("register", options, _FIELDS)
    bucket, dataset, keys = (options.get(name) for name in _FIELDS[:3])
    if not (isinstance(bucket, str) and isinstance(dataset, str)):
        raise InvalidArgumentError("register needs 'bucket' and 'dataset', both texts")
    if not (isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys)):
        raise InvalidArgumentError(
            "register needs 'keys', a list of keys of objects or folders under the bucket's root"
        )
    mode = options.get("mode", IngestMode.CREATE_APPEND.value)
    if mode not in list(IngestMode):
        raise InvalidArgumentError(f"'mode' is one of: {', '.join(IngestMode)}")
    return Registration(bucket, dataset, tuple(keys), IngestMode(mode))
