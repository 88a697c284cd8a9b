"""The action `sweep`: objects and versions that nobody needs."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.domain.statement import Sweep
from flight_server.errors import InvalidArgumentError
from flight_server.flight.progress import reported
from flight_server.flight.wire.actions import check_keys, decode_json

if TYPE_CHECKING:
    from flight_server.services.sweep import SweepService

_DEFAULT = Sweep()


@dataclass(frozen=True, slots=True)
class SweepHandlers:
    """Answers the action `sweep`."""

    service: "SweepService"

    def sweep(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Sweep, or with `dry_run` only report; yield progress, if it is long, and then the report."""
        return reported(partial(self.service.sweep, call.identity, _asked(decode_json(body))))


def _asked(options: dict[str, Any]) -> Sweep:
    check_keys("sweep", options, ("bucket", "older_than_s", "dry_run"))
    bucket, dry_run = options.get("bucket"), options.get("dry_run", _DEFAULT.dry_run)
    older_than = options.get("older_than_s", _DEFAULT.older_than)
    if bucket is not None and not isinstance(bucket, str):
        raise InvalidArgumentError("'bucket' must be a bucket's name")
    if isinstance(older_than, bool) or not isinstance(older_than, int | float) or not older_than >= 0:
        raise InvalidArgumentError("'older_than_s' must be a number of seconds from 0")
    if not isinstance(dry_run, bool):
        raise InvalidArgumentError("'dry_run' must be true or false")
    return Sweep(bucket, float(older_than), dry_run)
