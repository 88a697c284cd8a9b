"""The engine processes of this gateway: one at work, spares warm, a new one when one ends.

A process that ends takes its connections with it. Whoever asks next gets the warm spare, and a
new spare is started meanwhile. One grant set is served, so one process is at work at a time.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass

from flight_server.dispatch.channel import Channel
from flight_server.dispatch.process import EngineProcess, ProcessOptions
from flight_server.errors import LakehouseError

_log = logging.getLogger("flight_server.dispatch")

_GRACE_SECONDS = 1.0
"""How long an engine process may go on with a statement after its deadline before it is killed."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How engine processes are configured, and how many wait beside the one at work."""

    process: ProcessOptions
    spares: int


class EnginePool:
    """Keeps an engine process at work; used from the event loop only."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._active: EngineProcess | None = None
        self._spares: deque[EngineProcess] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._is_stopping = False

    async def start(self) -> None:
        """Start the process that will work, then its spares in the background."""
        self._active = await self._started()
        self._spawn(self._fill())

    async def stop(self) -> None:
        """End all processes."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = [process for process in (self._active, *self._spares) if process is not None]
        await asyncio.gather(*(process.stop() for process in running))

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Channel]:
        """Lease a connection for one request; one that is left in the middle is cancelled.

        Raises UnavailableError when no engine process can be had.
        """
        process = await self._working()
        async with process.connection() as channel:
            yield channel

    def end_overdue(self, channel: Channel) -> None:
        """Cancel what runs on a connection, and kill its process when that does not end it in time."""
        channel.is_detached = True
        self._spawn(self._end(channel, self._active))

    async def _end(self, channel: Channel, process: EngineProcess | None) -> None:
        if not await channel.ended(_GRACE_SECONDS) and process is not None:
            _log.warning("an engine process did not end a statement at its deadline and is killed")
            process.kill()

    async def _working(self) -> EngineProcess:
        if self._active is not None and self._active.is_running:
            return self._active
        async with self._starting:
            if self._active is None or not self._active.is_running:
                await self._replace()
        assert self._active is not None  # noqa: S101 - _replace has set it or raised
        return self._active

    async def _replace(self) -> None:
        """Put a spare, or a new process, in the place of one that has ended."""
        if self._active is not None:
            _log.warning("the engine process has ended; another takes its place")
            ended, self._active = self._active, None
            self._spawn(ended.stop())
        while self._spares and self._active is None:
            self._active = spare = self._spares.popleft()
            if not await spare.answers():  # whatever ended the one may have ended the other
                self._active = None
                self._spawn(spare.stop())
        if self._active is None:
            self._active = await self._started()
        self._spawn(self._fill())

    async def _fill(self) -> None:
        while len(self._spares) < self._options.spares and not self._is_stopping:
            try:
                self._spares.append(await self._started())
            except LakehouseError:
                _log.exception("a spare engine process did not start")
                return

    async def _started(self) -> EngineProcess:
        process = EngineProcess(self._options.process)
        try:
            await process.start()
        except BaseException:
            await process.stop()
            raise
        return process

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
