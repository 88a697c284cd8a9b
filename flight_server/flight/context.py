"""CallContext from a call's headers and its caller."""

from collections.abc import Awaitable, Callable

from flight_server.domain.bucket import PRIMARY, PROFILE_PREFIX, BucketRegistry
from flight_server.domain.call import CallContext, UploadTerms
from flight_server.domain.dataset import IngestMode
from flight_server.errors import InvalidArgumentError
from flight_server.flight.interceptors.authentication import Caller
from flight_server.flight.wire.headers import (
    COMPRESSION,
    DICTIONARIES,
    EVOLVE,
    EXPECTED_ROWS,
    IDEMPOTENCY_KEY,
    MODE,
    Headers,
)

_MAX_KEY_CHARACTERS = 200
_MAX_ROW_DIGITS = 18
_NO_TERMS = UploadTerms()
_COMPRESSIONS = {"lz4": "lz4", "zstd": "zstd", "none": None}
_TRUTH = {"true": True, "false": False}


def build(
    headers: Headers, caller: Caller, registry: BucketRegistry, has_left: Callable[[], Awaitable[bool]]
) -> CallContext:
    """Return the context of a call.

    Raises NotFoundError for an unknown bucket, InvalidArgumentError for a malformed header.
    """
    session = caller.session
    asked = (
        registry.profile(caller.identity, headers.profile.lower()) if headers.profile is not None else None
    )
    named = None if headers.bucket is None else registry.resolve(caller.identity, headers.bucket).name
    selected = named or (asked.name if asked else None)
    return CallContext(
        identity=caller.identity,
        session_id=session.id,
        bucket=selected or session.bucket or _of_profile(session.profile) or PRIMARY,
        named_bucket=named,
        schemas=() if selected else session.schemas,
        mode=_mode(headers.mode) if headers.mode is not None else None,
        upload=_terms(headers),
        compression=_compression(headers.compression) if headers.compression is not None else None,
        dictionaries=_truth(DICTIONARIES, headers.dictionaries),
        is_java=headers.is_java,
        has_left=has_left,
        profile=session.profile if asked is None else asked.name.removeprefix(PROFILE_PREFIX),
    )


def _of_profile(profile: str | None) -> str | None:
    return None if profile is None else PROFILE_PREFIX + profile


def _mode(written: str) -> IngestMode:
    try:
        return IngestMode(written)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{written[:80]!r} is not a mode; the header {MODE} takes one of: {', '.join(IngestMode)}"
        ) from error


def _compression(written: str) -> str | None:
    try:
        return _COMPRESSIONS[written.lower()]
    except KeyError as error:
        raise InvalidArgumentError(
            f"the header {COMPRESSION} takes one of: {', '.join(_COMPRESSIONS)}, not {written[:80]!r}"
        ) from error


def _truth(header: str, written: str | None) -> bool:
    if written is not None and written.lower() not in _TRUTH:
        raise InvalidArgumentError(f"the header {header} is true or false, not {written[:80]!r}")
    return written is not None and _TRUTH[written.lower()]


def _terms(headers: Headers) -> UploadTerms:
    rows, evolve, key = headers.expected_rows, headers.evolve, headers.idempotency_key
    if rows is None and evolve is None and key is None:
        return _NO_TERMS
    if rows is not None and not (rows.isdecimal() and len(rows) <= _MAX_ROW_DIGITS):
        raise InvalidArgumentError(f"the header {EXPECTED_ROWS} is a number of rows, not {rows[:80]!r}")
    if key is not None and len(key) > _MAX_KEY_CHARACTERS:
        raise InvalidArgumentError(
            f"the header {IDEMPOTENCY_KEY} has {len(key)} characters, more than {_MAX_KEY_CHARACTERS}"
        )
    return UploadTerms(
        expected_rows=None if rows is None else int(rows),
        idempotency_key=key,
        evolves=_truth(EVOLVE, evolve),
    )
