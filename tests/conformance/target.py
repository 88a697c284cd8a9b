"""The server that the cases run against, and how it refuses."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pyarrow as pa
import pyarrow.flight
from adbc_driver_flightsql import dbapi


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to log in; without a user, nobody logs in."""

    uri: str
    username: str | None = None
    password: str = ""


class RefusedError(Exception):
    """The server refused; `status` is the name of the gRPC code."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


_FLIGHT = re.compile(r"(?:Flight|gRPC) (?:returned )?(.+?) (?:error|call|failed)\b")

_ADBC = re.compile(r"\[FlightSQL\].*\((\w+); ", re.DOTALL)
"""How the ADBC driver tells of an error in the middle of a stream: with the name of the gRPC code."""

_STATUSES: Mapping[str, str] = {
    "cancelled": "CANCELLED",
    "RPC": "UNKNOWN",
    "invalid argument": "INVALID_ARGUMENT",
    "timeout": "DEADLINE_EXCEEDED",
    "not found": "NOT_FOUND",
    "already exists": "ALREADY_EXISTS",
    "unauthorized": "PERMISSION_DENIED",
    "resource exhausted": "RESOURCE_EXHAUSTED",
    "precondition failed": "FAILED_PRECONDITION",
    "aborted": "ABORTED",
    "out-of-range": "OUT_OF_RANGE",
    "unimplemented": "UNIMPLEMENTED",
    "internal": "INTERNAL",
    "unavailable": "UNAVAILABLE",
    "data loss": "DATA_LOSS",
    "unauthenticated": "UNAUTHENTICATED",
}
"""What pyarrow says of a gRPC code → its name."""

_ADBC_STATUSES: Mapping[str, str] = {
    "NOT_IMPLEMENTED": "UNIMPLEMENTED",
    "TIMEOUT": "DEADLINE_EXCEEDED",
    "UNAUTHORIZED": "PERMISSION_DENIED",
}
"""ADBC's name of a status → that of the gRPC code, where they differ."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the exceptions of all clients into RefusedError."""
    try:
        yield
    except (pa.ArrowException, pa.ArrowKeyError, OSError, pyarrow.flight.FlightError) as error:
        raise RefusedError(_flight_status(str(error)), str(error)) from error
    except grpc.RpcError as error:
        raise RefusedError(error.code().name, error.details()) from error
    except dbapi.Error as error:
        status = error.status_code.name
        raise RefusedError(_ADBC_STATUSES.get(status, status), str(error)) from error


def _flight_status(message: str) -> str:
    if found := _ADBC.search(message):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found[1]).upper()
    found = _FLIGHT.search(message)
    if found is None:
        raise AssertionError(f"no status in: {message}")
    return _STATUSES[found[1]]
