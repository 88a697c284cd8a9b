"""Which objects are being written for changes that are not committed yet: sweep leaves them alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Reservations:
    """The datasets that objects are being written for; used from the event loop only."""

    def __init__(self) -> None:
        self._held: dict[object, tuple[str, float]] = {}

    @contextmanager
    def hold(self, dataset_id: str) -> Iterator[None]:
        """Reserve what is written for a dataset from now to the end of the block."""
        holder = object()
        self._held[holder] = (dataset_id, time.monotonic())
        try:
            yield
        finally:
            del self._held[holder]

    def seconds(self) -> dict[str, float]:
        """Return each reserved dataset's id with the seconds for which it has been written to."""
        now = time.monotonic()
        held: dict[str, float] = {}
        for dataset_id, since in self._held.values():
            held[dataset_id] = max(held.get(dataset_id, 0.0), now - since)
        return held
