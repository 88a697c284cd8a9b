"""Passwords as argon2id hashes (RFC 9106, its second recommendation: 64 MiB, 3 passes)."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from flight_server.errors import ResourceExhaustedError

_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
_WAITING = 1_000
"""How many wait: those of an address that may fail no more leave at once when their turn comes."""

_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def hashed(password: str) -> str:
    """Return a password's hash with a salt of its own; it takes a tenth of a second and 64 MiB."""
    return _HASHER.hash(password)


class PasswordCheck:
    """Compares passwords with hashes beside the event loop, a few at once."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="passwords")
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._under_way = 0
        self._nobodys = hashed(secrets.token_hex())

    def close(self) -> None:
        """Check no more passwords."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a password can be checked. Raises ResourceExhaustedError when too many wait."""
        if self._under_way >= _AT_ONCE + _WAITING:
            raise ResourceExhaustedError("too many clients log in at this moment; try again in a second")
        self._under_way += 1
        try:
            async with self._turn:
                yield
        finally:
            self._under_way -= 1

    async def is_right(self, password: str, of: str | None) -> bool:
        """Tell whether a password has a hash, in the same time when there is none (`of` is None)."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._verify, password, of)

    def _verify(self, password: str, of: str | None) -> bool:
        try:
            return _HASHER.verify(self._nobodys if of is None else of, password) and of is not None
        except (VerificationError, InvalidHashError):
            return False
