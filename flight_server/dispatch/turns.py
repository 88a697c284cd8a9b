"""Who waits for an engine process, and whose turn it is: that of the caller who was served longest ago."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flight_server.domain.grants import GrantSet
from flight_server.domain.recent import RecentMap

_REMEMBERED_CALLERS = 10_000

Place = TypeVar("Place")


@dataclass(frozen=True, slots=True, eq=False)
class Turn(Generic[Place]):
    """A caller who waits for the engine process of a grant set; `place` is given when it is there."""

    grants: GrantSet
    caller: str
    place: asyncio.Future[Place] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns(Generic[Place]):
    """Those who wait, in the order in which they came; used from the event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[Turn[Place], None] = {}
        self._served: RecentMap[str, int] = RecentMap(_REMEMBERED_CALLERS)
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def join(self, grants: GrantSet, caller: str) -> Turn[Place]:
        """Wait for the engine process of a grant set."""
        turn: Turn[Place] = Turn(grants, caller)
        self._waiting[turn] = None
        return turn

    def leave(self, turn: Turn[Place]) -> None:
        """Wait no longer."""
        self._waiting.pop(turn, None)

    def first(self) -> Turn[Place] | None:
        """Return whose turn it is, None when nobody waits."""
        return min(self._waiting, key=lambda turn: self._served.get(turn.caller) or 0, default=None)

    def take(self, grants: GrantSet) -> Iterator[Turn[Place]]:
        """Yield all who wait for a grant set; they are served now."""
        for turn in [each for each in self._waiting if each.grants == grants]:
            del self._waiting[turn]
            self._served.put(turn.caller, next(self._numbers))
            yield turn
