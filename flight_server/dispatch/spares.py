"""Engine processes that wait ready to take another's place, each confined to its grant set already."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from flight_server.dispatch.process import EngineProcess
from flight_server.domain.grants import GrantSet
from flight_server.errors import LakehouseError

_log = logging.getLogger("flight_server.dispatch")

Start = Callable[[GrantSet], Awaitable[EngineProcess]]


class Spares:
    """Keeps up to `count` spare processes; used from the event loop only."""

    def __init__(self, start: Start, count: int) -> None:
        self._start = start
        self._count = count
        self._ready: deque[tuple[GrantSet, EngineProcess]] = deque()
        self._filling = asyncio.Lock()

    def take(self, grants: GrantSet) -> EngineProcess | None:
        """Return the spare of a grant set that waits for longest, None when there is none."""
        for found in self._ready:
            if found[0] == grants:
                self._ready.remove(found)
                return found[1]
        return None

    async def fill(self, wanted: Sequence[GrantSet]) -> None:
        """Have a spare for each grant set that is wanted, most wanted first; others end."""
        async with self._filling:
            chosen = list(wanted[: self._count])
            for found in list(self._ready):
                if found[0] in chosen:
                    chosen.remove(found[0])
                else:
                    self._ready.remove(found)
                    await found[1].stop()
            for grants in chosen:
                try:
                    self._ready.append((grants, await self._start(grants)))
                except LakehouseError:
                    _log.exception("a spare engine process did not start")
                    return

    async def stop(self) -> None:
        """End them all."""
        ready, self._ready = self._ready, deque()
        await asyncio.gather(*(process.stop() for _, process in ready))
