"""Admission: how many statements that take long work at a time, and who comes next.

A statement is heavy once it has worked for longer than a moment, and from its start when its text was heavy
the last time. Others begin at once: what is known to be short waits for nobody.

1. A heavy statement holds a slot until it ends. One that turns out to be heavy takes its slot even where none
   is free: it is never stopped for want of one.
2. A text that was heavy last time waits for a free slot. So does one not known to be short of a caller who
   holds all the slots that one caller may hold.
3. Callers take turns; of one caller who has waited longest goes first. How many may wait, and how long, is
   bounded.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from flight_server.domain.recent import RecentMap
from flight_server.errors import ResourceExhaustedError

_MOMENT_SECONDS = 1.0
_REMEMBERED_TEXTS = 100_000


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Slots in all and of one caller, how many statements may wait, and for how many seconds."""

    heavy: int
    heavy_per_identity: int
    waiting: int
    wait_seconds: float


@dataclass(slots=True, eq=False)
class Work:
    """A statement at work; while `is_read` it is the client who takes time."""

    caller: str
    has_slot: bool = False
    is_heavy: bool = False
    is_read: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class Admission:
    """Admits statements; used from the event loop only."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._was_heavy: RecentMap[int, bool] = RecentMap(_REMEMBERED_TEXTS)

    @asynccontextmanager
    async def admitted(self, caller: str, purpose: str, sql: str) -> AsyncIterator[Work]:
        """Work on a statement in this block, after a wait where it is known to be heavy.

        A text may be light for one purpose, or caller, and heavy for another. Raises ResourceExhaustedError
        when too many wait, or it has waited for too long.
        """
        work, text = Work(caller), hash((caller, purpose, sql))
        if self._must_wait(caller, text):
            await self._wait(caller)
            work.has_slot = True
        self._watch(work)
        try:
            yield work
        finally:
            if work.timer is not None:
                work.timer.cancel()
            self._was_heavy.put(text, work.is_heavy)
            if work.has_slot:
                self._release(caller)

    def _must_wait(self, caller: str, text: int) -> bool:
        was_heavy = self._was_heavy.get(text)
        if was_heavy is None:
            return self._held[caller] >= self._limits.heavy_per_identity
        return was_heavy

    async def _wait(self, caller: str) -> None:
        """Take a slot, as soon as there is one and it is the caller's turn."""
        if not self._waiting and self._has_slot_for(caller):
            self._held[caller] += 1
            return
        if sum(map(len, self._waiting.values())) >= self._limits.waiting:
            self._give_way(caller)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            self._leave(caller, turn)
            if not isinstance(error, TimeoutError):
                raise
            raise ResourceExhaustedError(
                f"{self._busy} wait for them, this one for {self._limits.wait_seconds:g} s: "
                "try again in a minute"
            ) from error

    def _give_way(self, caller: str) -> None:
        """Refuse the newest statement of whoever has most waiting, or this one if its caller would."""
        error = ResourceExhaustedError(f"{self._busy} already wait for them: try again in a minute")
        most = max(self._waiting, key=lambda each: len(self._waiting[each]), default=caller)
        if len(self._waiting.get(most, ())) <= len(self._waiting.get(caller, ())) + 1:
            raise error
        self._waiting[most].pop().set_exception(error)

    def _leave(self, caller: str, turn: asyncio.Future[None]) -> None:
        """Forget a wait that was given up; if its turn came at that very moment, it is another's."""
        if turn.done() and not turn.cancelled():
            if turn.exception() is None:
                self._release(caller)
        elif turn in (queue := self._waiting.get(caller, deque())):
            queue.remove(turn)
            if not queue:
                del self._waiting[caller]

    def _admit(self) -> None:
        """Give free slots to those who wait, one to each caller in turn."""
        for caller in list(self._waiting):
            queue = self._waiting[caller]
            if not self._has_slot_for(caller):
                continue
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            if not turn.cancelled():
                self._held[caller] += 1
                turn.set_result(None)

    def _has_slot_for(self, caller: str) -> bool:
        limits = self._limits
        return self._held.total() < limits.heavy and self._held[caller] < limits.heavy_per_identity

    def _release(self, caller: str) -> None:
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._admit()

    def _watch(self, work: Work) -> None:
        work.timer = asyncio.get_running_loop().call_later(_MOMENT_SECONDS, self._note, work)

    def _note(self, work: Work) -> None:
        """Note that a statement is heavy, if it was not its client who took the time."""
        if work.is_read:
            self._watch(work)
            return
        work.is_heavy, work.timer = True, None
        if not work.has_slot:
            work.has_slot = True
            self._held[work.caller] += 1

    @property
    def _busy(self) -> str:
        held, waiting = self._held.total(), sum(map(len, self._waiting.values()))
        return (
            f"the server works on {held} statements that take long (limits.heavy_statements), and {waiting}"
        )
