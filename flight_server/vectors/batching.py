"""Searches that run at the same time are answered together.

The first to come searches at once; those that come meanwhile wait, and one of them then searches for all
of them. So nobody waits for company, and many searchers share one pass over the vectors.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flight_server.vectors.source import Check

MAX_TOGETHER = 64

_LOOK_SECONDS = 0.05

Query = TypeVar("Query")
Answer = TypeVar("Answer")

Work = Callable[[Sequence[Query]], Sequence[Answer]]


@dataclass(slots=True, eq=False)
class _Seat(Generic[Query, Answer]):
    query: Query
    called: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    answer: Answer | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Table(Generic[Query, Answer]):
    waiting: list[_Seat[Query, Answer]] = field(default_factory=list)


class Coalescer(Generic[Query, Answer]):
    """Brings searches of one key together. `_lock` guards the tables; a key has one while somebody leads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[Hashable, _Table[Query, Answer]] = {}

    def answer(self, key: Hashable, query: Query, work: Work[Query, Answer], check: Check) -> Answer:
        """Return the answer to a query; `work` answers any number of queries of this key.

        An error of the work is raised by all that it was for.
        """
        seat: _Seat[Query, Answer] = _Seat(query)
        with self._lock:
            seat.leads = key not in self._tables
            self._tables.setdefault(key, _Table()).waiting.append(seat)
        if not seat.leads:
            self._wait(key, seat, check)
        if seat.leads:
            self._lead(key, seat, work)
        if seat.error is not None:
            raise seat.error
        return seat.answer  # type: ignore[return-value]  # without an error there is one

    def _wait(self, key: Hashable, seat: _Seat[Query, Answer], check: Check) -> None:
        try:
            while not seat.called.wait(_LOOK_SECONDS):
                check()
        except BaseException:
            with self._lock:
                self._leave(key, seat)
            raise

    def _leave(self, key: Hashable, seat: _Seat[Query, Answer]) -> None:
        waiting = self._tables[key].waiting if key in self._tables else []
        if seat in waiting:
            waiting.remove(seat)
        if seat.leads:
            self._hand_on(key)

    def _lead(self, key: Hashable, own: _Seat[Query, Answer], work: Work[Query, Answer]) -> None:
        with self._lock:
            waiting = self._tables[key].waiting
            waiting.remove(own)
            seats = [own, *waiting[: MAX_TOGETHER - 1]]
            del waiting[: MAX_TOGETHER - 1]
        try:
            answers = work([seat.query for seat in seats])
            for seat, answer in zip(seats, answers, strict=True):
                seat.answer = answer
        except BaseException as error:
            for seat in seats:
                seat.error = error
        with self._lock:
            self._hand_on(key)
        for seat in seats[1:]:
            seat.called.set()

    def _hand_on(self, key: Hashable) -> None:
        waiting = self._tables[key].waiting
        if not waiting:
            del self._tables[key]
            return
        waiting[0].leads = True
        waiting[0].called.set()
