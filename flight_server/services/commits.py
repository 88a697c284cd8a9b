"""Commits to the catalog from the event loop: in a thread, never split by a cancellation.

Commits that wait while another one is made are made together: each has its own id and outcome, and
they share one transaction and one wait for the disk. Nobody waits for company to arrive.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeAlias, TypeVar

from flight_server.catalog.store import Catalog
from flight_server.domain.dataset import CommitRequest, CommittedChange, DatasetChange
from flight_server.errors import LakehouseError

Result = TypeVar("Result")
_Waiting: TypeAlias = tuple[CommitRequest, Future[list[CommittedChange]]]

_TOGETHER = 64
"""How many commits one transaction makes at most: what fails on the way to the disk fails for all of them."""


class Committer:
    """Runs the catalog's write transactions in a thread of its own.

    `_waiting` is filled by the event loop and emptied by that thread.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog-writer")
        self._waiting: deque[_Waiting] = deque()

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
        made: Future[list[CommittedChange]] = Future()
        self._waiting.append((CommitRequest(tuple(changes), principal, summary), made))
        self._executor.submit(self._commit_waiting)
        return await _finished(asyncio.wrap_future(made))

    async def run(self, write: Callable[[], Result]) -> Result:
        """Run a write transaction to its end even when the caller is cancelled meanwhile."""
        return await _finished(asyncio.get_running_loop().run_in_executor(self._executor, write))

    def _commit_waiting(self) -> None:
        """Make the commits that wait; there are none when an earlier turn took them along."""
        taken: list[_Waiting] = []
        with suppress(IndexError):
            while len(taken) < _TOGETHER:
                taken.append(self._waiting.popleft())
        if taken:
            for (_, made), outcome in zip(taken, self._outcomes([each for each, _ in taken]), strict=True):
                if isinstance(outcome, BaseException):
                    made.set_exception(outcome)
                else:
                    made.set_result(outcome)

    def _outcomes(self, requests: Sequence[CommitRequest]) -> Sequence[list[CommittedChange] | BaseException]:
        try:
            if len(requests) > 1:
                return self._catalog.commit_all(requests)
            (alone,) = requests
            return [self._catalog.commit(alone.changes, alone.principal, alone.summary)]
        except LakehouseError as error:
            # Each caller gets an error of its own: raising one adds to its traceback.
            return [type(error)(error.message) for _ in requests]
        except BaseException as error:
            return [error for _ in requests]


async def _finished(running: "asyncio.Future[Result]") -> Result:
    """Wait for work that goes on, and is waited for, when the caller is cancelled."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        return running.result()
