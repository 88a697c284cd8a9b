"""What one call is: who makes it, in which session, about which bucket."""

from collections.abc import Callable
from dataclasses import dataclass

from flight_server.domain.dataset import IngestMode
from flight_server.domain.identity import Identity


@dataclass(frozen=True, slots=True)
class CallContext:
    """Everything a handler or a service may know about its call.

    `bucket` is the canonical current bucket (header, else session, else `primary`);
    `named_bucket` is the canonical bucket that this very call's header named, None without one.
    `is_cancelled` tells whether the client has gone away.
    """

    identity: Identity
    session_id: str
    bucket: str
    named_bucket: str | None
    mode: IngestMode | None
    is_cancelled: Callable[[], bool]
