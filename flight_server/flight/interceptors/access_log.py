"""One line per call, and one in the audit log for those that matter there."""

import logging
import time

from flight_server.telemetry import audit

_DENIED = "PERMISSION_DENIED"
_LOG = logging.getLogger("flight_server.access")


class AccessRecord:
    """What is written about one call when it is over; handlers' results fill it in on the way.

    `command` is a name of ours (command, ticket or action), never text of the client; `bytes`
    counts what was streamed in or out. `reason` is what a failed call's client was told; with `is_audited`
    the audit log has a line whatever becomes of the call, else only when it is denied.
    """

    __slots__ = (
        "_started", "bucket", "bytes", "command", "is_audited", "method", "principal", "reason", "status",
    )  # fmt: skip

    def __init__(self, method: str) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self.method = method
        self.command = self.principal = self.bucket = "-"
        self.status, self.reason, self.is_audited = "OK", "", False
        self.bytes = 0

    def write(self) -> None:
        """Write the line, or both."""
        if self.is_audited or self.status == _DENIED:
            audit.record(
                "denied" if self.status == _DENIED else "action",
                name=self.principal,
                method=self.method,
                command=self.command,
                bucket=self.bucket,
                status=self.status,
                reason=self.reason or None,
            )
        _LOG.info(
            "method=%s command=%s principal=%s bucket=%s status=%s ms=%.1f bytes=%d",
            self.method,
            self.command,
            self.principal,
            self.bucket,
            self.status,
            (time.perf_counter() - self._started) * 1_000,
            self.bytes,
        )
