"""What clients and statements may use."""

from typing import Annotated

from pydantic import ByteSize, Field

from flight_server.settings.section import MIB, Section

_KIB = 1024
_LONGEST, _LONGEST_OF_USERS = 16 * MIB, 256 * _KIB
_SECONDS_OF_USERS = 600.0


class LimitSettings(Section):
    """What one client or one statement may use; times are in seconds, 0 means no limit.

    `statement_bytes` left out is 16 MiB, where users log in 256 KiB: to read a text takes time in which
    nobody interrupts it. `statement_timeout` left out is no limit, where users log in ten minutes: a few
    statements without end would keep the places of all that take long. `statement_memory` is for the groups
    of a statement, made part by part beyond it.

    Of statements that take long at most `heavy_statements` work at a time, `heavy_per_identity` of one
    caller; others of that kind, up to `heavy_waiting`, wait for their turn, `heavy_wait` seconds at most.
    A client may take no rows for `read_idle` and send none for `write_idle`.
    """

    message_bytes: ByteSize = Field(default=ByteSize(64 * MIB), ge=MIB, le=1024 * MIB)
    statement_bytes: Annotated[ByteSize, Field(ge=1024)] | None = None
    statement_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    statement_memory: Annotated[ByteSize, Field(ge=16 * MIB)] | None = None
    read_idle: float = Field(default=600, ge=0, allow_inf_nan=False)
    write_idle: float = Field(default=600, ge=0, allow_inf_nan=False)
    heavy_statements: int = Field(default=16, ge=1)
    heavy_per_identity: int = Field(default=8, ge=1)
    heavy_waiting: int = Field(default=200, ge=0)
    heavy_wait: float = Field(default=30, ge=0, allow_inf_nan=False)
    sessions: int = Field(default=10_000, ge=1)
    sessions_per_identity: int = Field(default=500, ge=1)
    streams_per_identity: int = Field(default=500, ge=1)
    header_bytes: ByteSize = Field(default=ByteSize(16 * 1024), ge=4096, le=MIB)
    session_idle: float = Field(default=1800, gt=0, allow_inf_nan=False)
    transaction_idle: float = Field(default=1800, gt=0, allow_inf_nan=False)
    held_results_bytes: ByteSize = Field(default=ByteSize(256 * MIB), ge=MIB)
    drain: float = Field(default=30, ge=0, allow_inf_nan=False)

    def longest_statement(self, *, has_users: bool) -> int:
        """Return how many bytes the text of a statement may have."""
        return self.statement_bytes or (_LONGEST_OF_USERS if has_users else _LONGEST)

    def longest_work(self, *, has_users: bool) -> float | None:
        """Return for how many seconds a statement may work, None for any time."""
        if self.statement_timeout is None:
            return _SECONDS_OF_USERS if has_users else None
        return self.statement_timeout or None
