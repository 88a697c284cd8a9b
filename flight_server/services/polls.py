"""Queries that run in the background, for clients that ask from time to time how far they are.

    started ──▶ running ──▶ finished: its result is held, or (too large) its ticket runs it again
                   │  └──▶ failed: whoever asks is told why
                   └── cancelled, or nobody asked until it expired ──▶ gone

1. Each answer says until when the next one must have been asked for.
2. A result is fetched with the statement's ordinary ticket, in memory or not.
"""

import asyncio
import contextlib
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.call import CallContext
from flight_server.domain.identity import fingerprint
from flight_server.domain.statement import Plan, PollStatus
from flight_server.errors import (
    FailedPreconditionError,
    LakehouseError,
    NotFoundError,
    ResourceExhaustedError,
)
from flight_server.services.handles import Handles
from flight_server.services.held import HeldMessages
from flight_server.services.queries import Queries
from flight_server.services.query import QueryService

_KIND = "poll"
_ANSWER_SECONDS = 0.05
"""How long the first answer waits: most queries are done by then."""

_NEWS_SECONDS = 1.0
_LONGEST_SECONDS = 120.0
_HELD_SECONDS = 600.0
_MAX_POLLS = 1_000


@dataclass(slots=True, eq=False)
class _Poll:
    """One polled query; `expires` is in seconds since 1970 UTC, `may` what its owner might do then."""

    owner: str
    may: str
    plan: Plan
    task: asyncio.Task[None]
    expires: float
    expiry: asyncio.TimerHandle


class PollService:
    """Runs polled queries; used from the event loop only."""

    def __init__(
        self,
        query: QueryService,
        queries: Queries,
        dispatcher: Dispatcher,
        handles: Handles,
        held: HeldMessages,
        idle_seconds: float,
    ) -> None:
        """Expire what nobody has asked for in `idle_seconds`, two minutes at most."""
        self._query = query
        self._queries = queries
        self._dispatcher = dispatcher
        self._handles = handles
        self._held = held
        self._lifetime = min(idle_seconds, _LONGEST_SECONDS)
        self._polls: dict[str, _Poll] = {}

    async def start(self, call: CallContext, plan: Plan) -> PollStatus:
        """Run a planned query in the background; what has had its effects already is done.

        Raises ResourceExhaustedError when too many are under way.
        """
        if plan.query_id is None or not plan.handle:
            return PollStatus(plan)
        owner, may = call.identity.name, fingerprint(call.identity)
        if len(self._polls) >= _MAX_POLLS:
            self._make_room(owner)
        self._held.begin(plan.query_id, owner)
        task = asyncio.ensure_future(self._run(call, plan))
        task.add_done_callback(_noticed)
        poll = _Poll(owner, may, plan, task, *self._expiring(plan.query_id))
        self._polls[plan.query_id] = poll
        return await self._status(call, plan.query_id, poll, _ANSWER_SECONDS)

    async def poll(self, call: CallContext, handle: bytes) -> PollStatus:
        """Tell how far a polled query is, after a second at most; raise what it failed with.

        Raises NotFoundError when it has expired or the caller's grants have changed, CallCancelledError when
        it was cancelled, FailedPreconditionError when it runs in another process.
        """
        fields = self._handles.open(_KIND, call, handle).fields
        if not self._queries.is_of_here(fields["query"]):
            raise FailedPreconditionError(
                "this query runs in another process of the server: poll it on the connection that began it"
            )
        poll = self._polls.get(fields["query"])
        if poll is None:
            self._queries.check(fields["query"])
            raise NotFoundError("this poll has expired: nobody asked for it in time; start the query again")
        if poll.may != fingerprint(call.identity):
            self._expire(fields["query"])
            raise NotFoundError("your grants have changed since this query began: start it again")
        return await self._status(call, fields["query"], poll, _NEWS_SECONDS)

    def stop(self) -> None:
        """End all that runs."""
        for query_id in [*self._polls]:
            self._expire(query_id)

    def _make_room(self, comer: str) -> None:
        """Expire the oldest poll of whoever has most of them, unless that is who comes.

        Raises ResourceExhaustedError.
        """
        owners = Counter(poll.owner for poll in self._polls.values())
        ((most, count),) = owners.most_common(1)
        if count <= owners[comer] + 1:
            raise ResourceExhaustedError(f"{_MAX_POLLS} polled queries are under way: wait, or cancel some")
        self._expire(next(query_id for query_id, poll in self._polls.items() if poll.owner == most))

    def _expiring(self, query_id: str) -> tuple[float, asyncio.TimerHandle]:
        loop = asyncio.get_running_loop()
        return time.time() + self._lifetime, loop.call_later(self._lifetime, self._expire, query_id)

    def _expire(self, query_id: str) -> None:
        poll = self._polls.pop(query_id, None)
        if poll is None:
            return
        poll.expiry.cancel()
        if not poll.task.cancel():
            asyncio.get_running_loop().call_later(_HELD_SECONDS, self._held.drop, query_id)

    async def _status(self, call: CallContext, query_id: str, poll: _Poll, seconds: float) -> PollStatus:
        poll.expiry.cancel()  # not while somebody asks, however long the answer takes
        progress = None
        try:
            await asyncio.wait((poll.task,), timeout=min(seconds, self._lifetime / 2))
            if not poll.task.done():
                progress = await self._progress(call, query_id)
        finally:
            poll.expires, poll.expiry = self._expiring(query_id)
        if poll.task.done():
            self._queries.check(query_id)
            poll.task.result()
            return PollStatus(poll.plan)
        handle = self._handles.seal(_KIND, call, {"query": query_id}, expires=poll.expires)
        return PollStatus(poll.plan, handle, progress, poll.expires)

    async def _progress(self, call: CallContext, query_id: str) -> float | None:
        progress = None
        with contextlib.suppress(LakehouseError):  # an engine process that has just ended
            progress = await self._dispatcher.of(call.identity).progress(query_id)
        self._queries.measured(query_id, progress)
        return progress

    async def _run(self, call: CallContext, plan: Plan) -> None:
        """Hold a query's result; one that finds no room is left to its ticket."""
        assert plan.query_id is not None  # noqa: S101 - start() looks
        try:
            async with aclosing(self._query.stream(call, plan.handle, measured=True)) as messages:
                async for message in messages:
                    if not self._held.add(plan.query_id, message):
                        break
                else:
                    self._held.finish(plan.query_id)
                    return
            self._queries.planned(plan.query_id)
        except BaseException:
            self._held.drop(plan.query_id)
            raise


def _noticed(task: asyncio.Task[None]) -> None:
    """Take note of a failure that nobody may ask for."""
    if not task.cancelled():
        task.exception()
