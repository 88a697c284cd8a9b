"""Commits to the catalog from the event loop: one at a time, in a thread, never split by a cancellation."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flight_server.catalog.store import Catalog
from flight_server.domain.dataset import CommittedChange, DatasetChange

Result = TypeVar("Result")


class Committer:
    """Runs the catalog's write transactions in a thread of its own."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog-writer")

    def close(self) -> None:
        """Wait for the commit under way and end the thread."""
        self._executor.shutdown()

    def newest(self) -> int:
        """Return the newest commit's id."""
        return self._catalog.newest_commit()

    async def commit(
        self, changes: Sequence[DatasetChange], principal: str, summary: str
    ) -> list[CommittedChange]:
        """Make all changes one commit, or none. Raises what `Catalog.commit` raises."""
        return await self.run(lambda: self._catalog.commit(changes, principal, summary))

    async def run(self, write: Callable[[], Result]) -> Result:
        """Run a write transaction to its end even when the caller is cancelled meanwhile."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, write)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            return running.result()
