"""Rows that a search has found, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flight_server.vectors.source import Floats, Ints, Mask

NOWHERE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Places of rows with their distances; `blocks` and `positions` say where in memory, -1 for nowhere."""

    objects: Ints
    rows: Ints
    distances: Floats
    blocks: Ints
    positions: Ints

    @classmethod
    def none(cls) -> "Hits":
        """Return no hits."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, np.empty(0, np.float32), empty, empty)

    @classmethod
    def elsewhere(cls, objects: Ints, rows: Ints, distances: Floats) -> "Hits":
        """Return hits that are not in memory."""
        nowhere = np.full(len(objects), NOWHERE, np.int64)
        return cls(objects, rows, distances, nowhere, nowhere)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.objects)

    def take(self, chosen: Ints | Mask) -> "Hits":
        """Return some of them, in this order."""
        return Hits(
            self.objects[chosen],
            self.rows[chosen],
            self.distances[chosen],
            self.blocks[chosen],
            self.positions[chosen],
        )

    def best(self, k: int) -> "Hits":
        """Return the k nearest, nearest first; equal ones by place, and each place once."""
        order = np.lexsort((self.blocks == NOWHERE, self.rows, self.objects, self.distances))
        ordered = self.take(order)
        _, first = np.unique(np.stack([ordered.objects, ordered.rows]), axis=1, return_index=True)
        return ordered.take(np.sort(first)[:k])


def joined(parts: Sequence[Hits]) -> Hits:
    """Return the hits of several searches together."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Hits.none()
    return Hits(
        np.concatenate([part.objects for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.blocks for part in parts]),
        np.concatenate([part.positions for part in parts]),
    )
