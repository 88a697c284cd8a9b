"""Errors → gRPC status: the only place that translates."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from flight_server import errors

_LOG = logging.getLogger("flight_server.errors")

_CODES: Mapping[type, grpc.StatusCode] = {
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ConflictError: grpc.StatusCode.ABORTED,
    errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CallCancelledError: grpc.StatusCode.CANCELLED,
    errors.UnimplementedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}

_MAX_MESSAGE_BYTES = 2_500
"""Percent-encoding may triple it, and clients refuse more than 8 KiB of trailers."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the client is told about a failed call."""

    code: grpc.StatusCode
    message: str


def from_error(error: Exception) -> Status:
    """Translate an error; what is not a LakehouseError is logged and told by a reference only."""
    if isinstance(error, errors.LakehouseError):
        code = next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), grpc.StatusCode.INTERNAL)
        return Status(code, _shortened(error.message))
    reference = secrets.token_hex(4)
    _LOG.error("internal error %s", reference, exc_info=error)
    return Status(
        grpc.StatusCode.INTERNAL,
        f"internal error; the server's log has the details under reference {reference}",
    )


def _shortened(message: str) -> str:
    encoded = message.encode(errors="replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[:_MAX_MESSAGE_BYTES].decode(errors="ignore") + " …"
