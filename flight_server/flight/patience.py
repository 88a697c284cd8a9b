"""Clients that stand still: whoever takes no rows, or sends none, for too long is cut off."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc.aio

from flight_server.domain.execution import CANCELLED
from flight_server.errors import CallCancelledError, DeadlineExceededError


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds a client may take no message, and send none; None for any time."""

    reading: float | None = None
    writing: float | None = None

    async def send(self, context: Any, message: bytes) -> None:
        """Send a message of a stream.

        Raises CallCancelledError when the client has died, which may show here first, and
        DeadlineExceededError when it takes nothing.
        """
        try:
            async with asyncio.timeout(self.reading):
                await context.write(message)
        except grpc.aio.BaseError as error:
            raise CallCancelledError(CANCELLED) from error
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"nothing was read for {self.reading:g} s (limits.read_idle): run it again, and read on"
            ) from error


class PromptRequests(AsyncIterator[bytes]):
    """The messages of a client, which may let so many seconds pass between two; None for any time."""

    def __init__(self, requests: AsyncIterator[bytes], seconds: float | None) -> None:
        self._requests = requests
        self._seconds = seconds

    async def __anext__(self) -> bytes:
        """Return the next one. Raises DeadlineExceededError when it does not come."""
        try:
            async with asyncio.timeout(self._seconds):
                return await anext(self._requests)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"nothing was sent for {self._seconds:g} s (limits.write_idle), so nothing was stored: send "
                "it again, without a pause as long as this"
            ) from error
