"""An engine process for work in the background, which steps back for others: there while it is needed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from flight_server.dispatch.dispatcher import Dispatcher

_IDLE_SECONDS = 20.0


class AsideEngine:
    """Starts the engine process for whoever comes first, and ends it when nobody needs it for a while."""

    def __init__(self, start: Callable[[], AbstractAsyncContextManager[Dispatcher]]) -> None:
        self._start = start
        self._starting = asyncio.Lock()
        self._running: tuple[AbstractAsyncContextManager[Dispatcher], Dispatcher] | None = None
        self._users = 0
        self._ending: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Dispatcher]:
        """Use the engine process in the block. Raises UnavailableError when it does not start."""
        self._users += 1
        try:
            async with self._starting:
                if self._running is None:
                    engine = self._start()
                    self._running = engine, await engine.__aenter__()
                _, dispatcher = self._running
            yield dispatcher
        finally:
            self._users -= 1
            if self._ending is None or self._ending.done():
                self._ending = asyncio.ensure_future(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        idle = False
        while not idle:
            await asyncio.sleep(_IDLE_SECONDS)
            idle = not self._users
        await self._end()

    async def _end(self) -> None:
        async with self._starting:
            if self._running is not None and not self._users:
                engine, _ = self._running
                self._running = None
                await engine.__aexit__(None, None, None)

    async def close(self) -> None:
        """End the engine process; nobody uses it any more."""
        if self._ending is not None:
            self._ending.cancel()
            with suppress(asyncio.CancelledError):
                await self._ending
        self._users = 0
        await self._end()
