"""The statements of this gateway: which run, which ran lately, and how one is ended.

    planned ──its rows are fetched──▶ running ──▶ finished | failed | cancelled
       │  └──────── cancelled ────────▶ cancelled: its ticket is refused
       └── (planning, and whatever has effects, is running as well)

1. A statement is one query, whatever its tickets: fetching a ticket again makes it run again.
2. What was cancelled stays cancelled.
3. Cancelling ends the engine process's work at once; the caller of that work gets CANCELLED.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from flight_server.domain.call import CallContext
from flight_server.domain.execution import CANCELLED, Execution
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.errors import CallCancelledError, NotFoundError

_RECENT = 500
_CANCELLED = 10_000
_SHOWN_CHARACTERS = 4_096


class QueryState(StrEnum):
    """How far a query is."""

    PLANNED = "planned"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CancelStatus(StrEnum):
    """What became of a wish to cancel."""

    CANCELLED = "cancelled"
    NOT_CANCELLABLE = "not cancellable"


@dataclass(slots=True, eq=False)
class Query:
    """A statement; changed on the event loop only. Moments are in microseconds since 1970 UTC.

    `sql` is shortened. `rows` and `bytes` count what it has returned, rows only when it has ended;
    `progress` is 0 to 1, None where it is not known.
    """

    id: str
    session_id: str
    principal: str
    bucket: str
    sql: str
    started_at: int
    state: QueryState = QueryState.PLANNED
    ended_at: int | None = None
    rows: int | None = None
    bytes: int = 0
    progress: float | None = None
    executions: set[Execution] = field(default_factory=set)


class Queries:
    """Knows what runs, and a bounded number of what was planned or has ended; used from the event loop.

    An id begins with the mark of the process that planned the query. `all` may be called from any thread.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(3)
        self._running: dict[str, Query] = {}
        self._recent: OrderedDict[str, Query] = OrderedDict()
        self._cancelled: RecentMap[str, bool] = RecentMap(_CANCELLED)

    def new_id(self) -> str:
        """Return an id for a query that is planned here."""
        return self._mark + secrets.token_hex(8)

    def is_of_here(self, known_id: str) -> bool:
        """Tell whether a query was planned in this process."""
        return known_id.startswith(self._mark)

    def open(self, call: CallContext, sql: str, known_id: str | None = None) -> Query:
        """Return the query of an id; a new one without an id, or when it is long forgotten.

        Raises CallCancelledError when it was cancelled.
        """
        if known_id is not None:
            self.check(known_id)
        query = self._find(known_id) if known_id is not None else None
        if query is None:
            sql = sql if len(sql) <= _SHOWN_CHARACTERS else sql[:_SHOWN_CHARACTERS] + " …"
            query = Query(
                known_id or self.new_id(), call.session_id, call.identity.name, call.bucket, sql, _now()
            )
            self._remember(query)
        return query

    def check(self, known_id: str) -> None:
        """Raise CallCancelledError when a query was cancelled."""
        if self._cancelled.get(known_id):
            raise CallCancelledError(f"{CANCELLED}; plan it again")

    def measured(self, known_id: str, progress: float | None) -> None:
        """Note how much of a running query is done, 0 to 1."""
        query = self._running.get(known_id)
        if query is not None and progress is not None:
            query.progress = progress

    def planned(self, known_id: str) -> None:
        """Note that what has run of a query does not count: it runs when its ticket is fetched."""
        query = self._find(known_id)
        if query is not None and not query.executions and not self._cancelled.get(known_id):
            query.state, query.ended_at, query.progress = QueryState.PLANNED, None, None

    @contextmanager
    def running(self, query: Query, worked: float = 0.0) -> Iterator[Execution]:
        """Run a query in this block, or plan it: `planned` then says that it has not run yet.

        `worked` are the seconds that planning it took.
        """
        execution = Execution(worked)
        query.executions.add(execution)
        query.state, query.ended_at = QueryState.RUNNING, None
        self._recent.pop(query.id, None)
        self._running[query.id] = query
        ended = QueryState.FAILED
        try:
            yield execution
            ended = QueryState.FINISHED
        except (CallCancelledError, asyncio.CancelledError, GeneratorExit):
            ended = QueryState.CANCELLED
            raise
        finally:
            query.executions.discard(execution)
            query.rows = execution.rows
            if not query.executions:
                self._end(query, ended)

    def _end(self, query: Query, state: QueryState) -> None:
        query.state = state
        query.ended_at = _now()
        query.progress = 1.0 if state is QueryState.FINISHED else query.progress
        self._running.pop(query.id, None)
        self._remember(query)

    def _remember(self, query: Query) -> None:
        self._recent[query.id] = query
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def all(self, identity: Identity) -> list[Query]:
        """Return the queries that a caller may see, the oldest first: its own, an admin everybody's."""
        # Each copy is one operation of the interpreter: the event loop may go on meanwhile.
        known = [*list(self._recent.values()), *list(self._running.values())]
        shown = [query for query in known if _may_see(identity, query)]
        return sorted(shown, key=lambda query: query.started_at)

    def forget(self, principal: str) -> None:
        """Forget what has ended of a principal."""
        for query in [each for each in self._recent.values() if each.principal == principal]:
            del self._recent[query.id]

    def cancel(self, identity: Identity, wanted: str) -> CancelStatus:
        """Cancel a query by its id. Raises NotFoundError when the caller has none of that id."""
        query = self._find(wanted)
        if query is None or not _may_see(identity, query):
            raise NotFoundError(
                f"no query {wanted[:80]!r}: it ended long ago, or was never here; sys.queries lists them"
            )
        return self.cancel_planned(query.id)

    def cancel_planned(self, wanted: str) -> CancelStatus:
        """Cancel a query that the caller holds a ticket of; it need not be known here any more.

        Raises NotFoundError when neither it nor its end can be known here.
        """
        query = self._find(wanted)
        if query is None and not self.is_of_here(wanted):
            raise NotFoundError(
                "this query runs in another process of the server, if at all: cancel it on its own connection"
            )
        if query is not None and query.state in (QueryState.FINISHED, QueryState.FAILED):
            return CancelStatus.NOT_CANCELLABLE
        self._cancelled.put(wanted, True)
        if query is not None:
            self._cancel(query)
        return CancelStatus.CANCELLED

    def cancel_session(self, call: CallContext) -> CancelStatus:
        """Cancel what the caller's session runs now. Raises NotFoundError when it runs nothing."""
        if not self.cancel_running(call.session_id):
            raise NotFoundError("this session runs nothing that could be cancelled")
        return CancelStatus.CANCELLED

    def cancel_running(self, session_id: str) -> int:
        """Cancel what a session runs now, and return how many queries that were."""
        found = [query for query in self._running.values() if query.session_id == session_id]
        for query in found:
            self._cancelled.put(query.id, True)
            self._cancel(query)
        return len(found)

    def _cancel(self, query: Query) -> None:
        for execution in query.executions:
            execution.cancel()
        if query.executions:
            query.state = QueryState.CANCELLED
        elif query.state is not QueryState.CANCELLED:
            self._end(query, QueryState.CANCELLED)

    def _find(self, wanted: str) -> Query | None:
        return self._running.get(wanted) or self._recent.get(wanted)


def _may_see(identity: Identity, query: Query) -> bool:
    return query.principal == identity.name or identity.is_admin


def _now() -> int:
    return time.time_ns() // 1_000
