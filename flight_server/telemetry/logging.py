"""Logging set-up: text lines on standard error."""

import logging

LEVELS = ("debug", "info", "warning", "error")
"""The levels that `configure` takes, most talkative first."""

_ROOT = "flight_server"


def configure(level: str) -> None:
    """Send the server's log records of at least `level` (one of `LEVELS`) to standard error.

    Calling it again replaces the level and keeps the one handler.
    """
    logger = logging.getLogger(_ROOT)
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
