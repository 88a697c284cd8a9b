"""One line per call."""

import logging
import time

_LOG = logging.getLogger("flight_server.access")


class AccessRecord:
    """What is written about one call when it is over; handlers' results fill it in on the way.

    `command` is a name of ours (command, ticket or action), never text of the client; `bytes`
    counts what was streamed in or out.
    """

    __slots__ = ("_started", "bucket", "bytes", "command", "method", "principal", "status")

    def __init__(self, method: str) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self.method = method
        self.command = self.principal = self.bucket = "-"
        self.status = "OK"
        self.bytes = 0

    def write(self) -> None:
        """Write the line."""
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
