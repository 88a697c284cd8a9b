"""The engine processes of this gateway: one for each grant set at work, some spare, a new one when one ends.

    a grant set is asked for ──▶ its process ──▶ leased for each request
    it has none ──▶ a place is free, or somebody's idle process goes ──▶ a spare, or a new process
    all places are in use ──▶ wait for one; callers get them in turn

A process that ends takes its connections with it; whoever asks next gets another. One that keeps the state
of a session, or is at work, is never taken from its grant set.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from flight_server.dispatch.channel import Channel
from flight_server.dispatch.process import EngineProcess, ProcessOptions
from flight_server.dispatch.spares import Spares
from flight_server.dispatch.turns import Turns
from flight_server.domain.grants import GrantSet
from flight_server.errors import ResourceExhaustedError

_log = logging.getLogger("flight_server.dispatch")

_GRACE_SECONDS = 1.0
"""How long an engine process may go on with a statement after its deadline before it is killed."""

_TURN_SECONDS = 1.0
"""How long a grant set has its process to itself while others wait for one."""

_LINGER_SECONDS = 0.5
"""How long a process that has become idle stays: most callers ask twice, and a start takes as long."""

TASK = ""
"""Who asks where nobody calls: names of identities are not empty."""

_MAX_WAITING = 1_000
_MAX_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How the engine process of a grant set is configured, how many work, and how many wait beside them.

    `wait_seconds` bounds how long a caller waits for one.
    """

    process: Callable[[GrantSet], ProcessOptions]
    spares: int
    max_processes: int = 1
    wait_seconds: float = 30.0


@dataclass(slots=True, eq=False)
class _Seat:
    """The place of a grant set among those at work; `since` is when its turn began."""

    grants: GrantSet
    since: float
    process: EngineProcess | None = None
    callers: Counter[str] = field(default_factory=Counter)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    used: float = 0.0
    uses: int = 0

    @property
    def keeps_state(self) -> bool:
        """Whether the process keeps what a session would lose with it."""
        return self.process is not None and self.process.is_running and bool(self.process.sessions)

    def enter(self, caller: str) -> None:
        self.callers[caller] += 1
        self.uses += 1

    def leave(self, caller: str, now: float) -> None:
        self.callers[caller] -= 1
        if not self.callers[caller]:
            del self.callers[caller]
        self.used = now


class EnginePool:
    """Keeps engine processes at work, at most `max_processes`; used from the event loop only."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._seats: dict[GrantSet, _Seat] = {}
        self._turns: Turns[_Seat] = Turns()
        self._spares = Spares(self._started, options.spares)
        self._gone: Counter[GrantSet] = Counter()
        self._leased: dict[Channel, EngineProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, grants: GrantSet) -> None:
        """Start the process of a grant set, then spares in the background. Raises UnavailableError."""
        await self._working(self._placed(grants))

    async def stop(self) -> None:
        """End all processes."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = [seat.process for seat in self._seats.values() if seat.process is not None]
        await asyncio.gather(self._spares.stop(), *(process.stop() for process in running))

    @contextlib.asynccontextmanager
    async def connection(self, grants: GrantSet, caller: str) -> AsyncIterator[Channel]:
        """Lease a connection for one request; one that is left in the middle is cancelled.

        Raises UnavailableError when no engine process can be had, ResourceExhaustedError when all of them
        are others' for too long.
        """
        seat = await self._entered(grants, caller)
        try:
            process = await self._working(seat)
            async with process.connection() as channel:
                self._leased[channel] = process
                try:
                    yield channel
                finally:
                    del self._leased[channel]
        finally:
            self._left(seat, caller)

    def keeps(self, channel: Channel, session_id: str, *, has_state: bool) -> None:
        """Take note of whether the process of a connection keeps state of a session."""
        sessions = self._leased[channel].sessions
        (sessions.add if has_state else sessions.discard)(session_id)

    def keeping(self, session_id: str) -> list[GrantSet]:
        """Return the grant sets whose processes keep state of a session."""
        return [
            seat.grants
            for seat in self._seats.values()
            if seat.keeps_state and seat.process is not None and session_id in seat.process.sessions
        ]

    def running(self) -> Iterator[GrantSet]:
        """Yield the grant sets that have a process."""
        for seat in list(self._seats.values()):
            if seat.process is not None and seat.grants in self._seats:
                yield seat.grants

    def end_overdue(self, channel: Channel) -> None:
        """Cancel what runs on a connection, and kill its process when that does not end it in time."""
        channel.is_detached = True
        self._spawn(self._end(channel, self._leased[channel]))

    async def _end(self, channel: Channel, process: EngineProcess) -> None:
        if not await channel.ended(_GRACE_SECONDS):
            _log.warning("an engine process did not end a statement at its deadline and is killed")
            process.kill()

    async def _entered(self, grants: GrantSet, caller: str) -> _Seat:
        """Return the place of a grant set, entered; wait for one where others have all."""
        seat = self._seats.get(grants)
        if seat is not None and not self._is_over(seat, caller):
            seat.enter(caller)
            return seat
        if seat is None and not len(self._turns) and self._make_room():
            seat = self._placed(grants)
            seat.enter(caller)
            return seat
        return await self._waited(grants, caller)

    async def _waited(self, grants: GrantSet, caller: str) -> _Seat:
        if len(self._turns) >= _MAX_WAITING:
            raise ResourceExhaustedError("too many callers wait for an engine process: try again in 10 s")
        turn = self._turns.join(grants, caller)
        self._serve()
        try:
            async with asyncio.timeout(self._options.wait_seconds):
                return await turn.place
        except BaseException as error:
            if turn.place.done() and not turn.place.cancelled():
                self._left(
                    turn.place.result(), caller
                )  # it was given at the last moment, and nobody takes it
            if isinstance(error, TimeoutError):
                raise ResourceExhaustedError(
                    f"all {self._options.max_processes} engine processes were at work for other callers for "
                    f"{self._options.wait_seconds:g} s: try again in 5 s"
                ) from error
            raise
        finally:
            self._turns.leave(turn)

    def _is_over(self, seat: _Seat, caller: str) -> bool:
        """Tell whether others' turn has come; a caller at work goes on, for it may need this to end."""
        if not len(self._turns) or seat.keeps_state or caller in seat.callers or caller == TASK:
            return False
        return self._now() - seat.since >= _TURN_SECONDS

    def _left(self, seat: _Seat, caller: str) -> None:
        seat.leave(caller, self._now())
        self._serve()

    def _serve(self) -> None:
        """Give places to those who wait, as far as there are any."""
        while (turn := self._turns.first()) is not None:
            seat = self._seats.get(turn.grants)
            if seat is None:
                if not self._make_room():
                    return
                seat = self._placed(turn.grants)
            self._admit(seat)

    def _admit(self, seat: _Seat) -> None:
        seat.since = self._now()
        for turn in self._turns.take(seat.grants):
            if not turn.place.done():
                seat.enter(turn.caller)
                turn.place.set_result(seat)

    def _placed(self, grants: GrantSet) -> _Seat:
        now = self._now()
        self._seats[grants] = seat = _Seat(grants, now, used=now)
        return seat

    def _make_room(self) -> bool:
        """Have a place for one more; the one that was idle for longest goes."""
        if len(self._seats) < self._options.max_processes:
            return True
        now = self._now()
        idle = [seat for seat in self._seats.values() if not seat.callers and not seat.keeps_state]
        oldest = min(idle, key=lambda seat: seat.used, default=None)
        if oldest is None:
            return False
        ripe = oldest.used + _LINGER_SECONDS
        if now < ripe:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(ripe - now, self._ripened)
            return False
        self._evict(oldest)
        return True

    def _ripened(self) -> None:
        self._timer = None
        self._serve()

    def _evict(self, seat: _Seat) -> None:
        del self._seats[seat.grants]
        self._gone[seat.grants] += seat.uses
        if len(self._gone) > _MAX_REMEMBERED:
            self._gone = Counter(dict(self._gone.most_common(_MAX_REMEMBERED // 2)))
        if seat.process is not None:
            self._spawn(self._ended(seat.process))

    async def _ended(self, process: EngineProcess) -> None:
        await process.stop()
        self._fill()

    async def _working(self, seat: _Seat) -> EngineProcess:
        if seat.process is not None and seat.process.is_running:
            return seat.process
        async with seat.starting:
            if seat.process is None or not seat.process.is_running:
                await self._replace(seat)
        assert seat.process is not None  # noqa: S101 - _replace has set it or raised
        return seat.process

    async def _replace(self, seat: _Seat) -> None:
        """Put a spare, or a new process, in the place of one that has ended, or that never was."""
        if seat.process is not None:
            _log.warning("an engine process has ended; another takes its place")
            ended, seat.process = seat.process, None
            self._spawn(ended.stop())
        while (spare := self._spares.take(seat.grants)) is not None:
            if await spare.answers():  # whatever ended the one may have ended the other
                seat.process = spare
                break
            self._spawn(spare.stop())
        else:
            seat.process = await self._started(seat.grants)
        seat.since = self._now()  # a turn does not go by while a process starts
        self._fill()

    def _fill(self) -> None:
        """Have spares started, while nobody waits: for those used most that have no place, if any."""
        if len(self._turns) or not self._options.spares or not self._seats:
            return
        wanted = [grants for grants, _ in self._gone.most_common() if grants not in self._seats]
        if not wanted:
            most_used = max(self._seats.values(), key=lambda seat: seat.uses)
            wanted = [most_used.grants] * self._options.spares
        self._spawn(self._spares.fill(wanted))

    async def _started(self, grants: GrantSet) -> EngineProcess:
        process = EngineProcess(self._options.process(grants))
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

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Leases:
    """Connections to the engine process of one grant set, for one caller."""

    pool: EnginePool
    grants: GrantSet
    caller: str

    def connection(self) -> AbstractAsyncContextManager[Channel]:
        """Lease a connection for one request, as `EnginePool.connection`."""
        return self.pool.connection(self.grants, self.caller)

    def keeps(self, channel: Channel, session_id: str, *, has_state: bool) -> None:
        """Take note of whether the engine process keeps state of a session."""
        self.pool.keeps(channel, session_id, has_state=has_state)

    def end_overdue(self, channel: Channel) -> None:
        """Cancel what runs on a connection, by force where it must be."""
        self.pool.end_overdue(channel)
