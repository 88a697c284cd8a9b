"""CallContext from a call's headers and its caller."""

from collections.abc import Callable

from flight_server.domain.bucket import PRIMARY, BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import IngestMode
from flight_server.errors import InvalidArgumentError
from flight_server.flight.interceptors.authentication import Caller
from flight_server.flight.wire.headers import MODE, Headers


def build(
    headers: Headers, caller: Caller, registry: BucketRegistry, is_cancelled: Callable[[], bool]
) -> CallContext:
    """Return the context of a call.

    Raises NotFoundError for an unknown bucket, InvalidArgumentError for a malformed bucket or mode.
    """
    named = registry.resolve(headers.bucket).name if headers.bucket is not None else None
    return CallContext(
        identity=caller.identity,
        session_id=caller.session.id,
        bucket=named or caller.session.bucket or PRIMARY,
        named_bucket=named,
        mode=_mode(headers.mode) if headers.mode is not None else None,
        is_cancelled=is_cancelled,
    )


def _mode(written: str) -> IngestMode:
    try:
        return IngestMode(written)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{written[:80]!r} is not a mode; the header {MODE} takes one of: {', '.join(IngestMode)}"
        ) from error
