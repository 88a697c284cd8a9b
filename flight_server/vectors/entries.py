"""What is in memory of one column of vectors, and the states that it goes through.

An entry goes through these states, by the table below:

- cold: nothing of it is in memory;
- loading: one thread reads what a search or an activation wants; others who want it wait for that one;
- hot: it holds what the newest search wanted;
- stale: a search wants objects that came later, which are read next.

What is held is one value that is swapped when something is added or evicted, so a running search keeps
what it began with.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from flight_server.domain.vector import Tier
from flight_server.vectors.batching import Coalescer
from flight_server.vectors.blocks import Block
from flight_server.vectors.hits import Hits
from flight_server.vectors.source import Floats, Mask

_MASKS = 32


class State(StrEnum):
    """Where an entry is in its life."""

    COLD = "cold"
    LOADING = "loading"
    HOT = "hot"
    STALE = "stale"


class Event(StrEnum):
    """What happens to an entry."""

    LOAD = "load"
    LOADED = "loaded"
    FAILED = "failed"
    OUTDATED = "outdated"
    EVICTED = "evicted"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.COLD, Event.LOAD): State.LOADING,
    (State.STALE, Event.LOAD): State.LOADING,
    (State.LOADING, Event.LOADED): State.HOT,
    (State.LOADING, Event.FAILED): State.STALE,
    (State.LOADING, Event.EVICTED): State.LOADING,
    (State.HOT, Event.OUTDATED): State.STALE,
    (State.HOT, Event.EVICTED): State.COLD,
    (State.STALE, Event.EVICTED): State.COLD,
    (State.COLD, Event.OUTDATED): State.COLD,
    (State.STALE, Event.OUTDATED): State.STALE,
    (State.COLD, Event.EVICTED): State.COLD,
}


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What an entry holds: blocks, and the objects that they cover."""

    blocks: tuple[Block, ...] = ()
    covers: frozenset[int] = frozenset()

    @property
    def bytes(self) -> int:
        """Bytes of memory that it takes."""
        return sum(block.bytes for block in self.blocks)

    @property
    def rows(self) -> int:
        """How many vectors it holds."""
        return sum(len(block.rows) for block in self.blocks)


NOTHING = Held()


def held(blocks: Sequence[Block]) -> Held:
    """Return blocks with the objects that they cover."""
    return Held(tuple(blocks), frozenset().union(*(block.covers for block in blocks)))


@dataclass(slots=True, eq=False)
class Entry:
    """A column of a dataset in memory.

    `loads` is held by the one thread that reads; whatever else changes does so under the lock of its
    Activations, but `held`, which anyone may read.
    """

    dataset: str
    column: str
    bucket: str
    loads: threading.Lock = field(default_factory=threading.Lock)
    held: Held = NOTHING
    state: State = State.COLD
    tier: Tier = Tier.SCAN
    reserved: int = 0
    hits: int = 0
    used_at: float = field(default_factory=time.monotonic)
    generation: int = 0
    newest: tuple[int, frozenset[int]] = (0, frozenset())
    masks: OrderedDict[Hashable, Mask | None] = field(default_factory=OrderedDict)
    too_large: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    together: Coalescer[Floats, list[Hits]] = field(default_factory=Coalescer)

    def move(self, event: Event) -> None:
        """Go on to the state that follows."""
        self.state = TRANSITIONS[self.state, event]

    def mask(self, key: Hashable, make: Callable[[], Mask | None]) -> Mask | None:
        """Return a mask that has been made before, or make it."""
        with suppress(KeyError):
            return self.masks[key]
        found = make()
        self.masks[key] = found
        while len(self.masks) > _MASKS:
            with suppress(KeyError):
                self.masks.popitem(last=False)
        return found
