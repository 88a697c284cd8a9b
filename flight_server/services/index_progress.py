"""How far builds of indexes are in this server, where, and what went wrong with the last one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexWork:
    """Work on the indexes of a dataset: its phase and how much is `done`, 0 to 1; `error` once it failed."""

    phase: str
    done: float
    error: str | None = None


class IndexProgress:
    """Work on indexes by dataset id; written by the event loop, read by any thread."""

    def __init__(self) -> None:
        self._works: dict[str, IndexWork] = {}
        self._making: set[str] = set()

    @contextmanager
    def making(self, table: str) -> Iterator[None]:
        """Note for the block that a table is being made that nobody has recorded so far."""
        self._making.add(table)
        try:
            yield
        finally:
            self._making.discard(table)

    @property
    def tables(self) -> set[str]:
        """The tables that are being made."""
        return set(self._making)

    def tell(self, dataset_id: str, phase: str, done: float) -> None:
        """Note how far the work on a dataset's index is."""
        self._works[dataset_id] = IndexWork(phase, done)

    def fail(self, dataset_id: str, error: str) -> None:
        """Note why it ended without success."""
        self._works[dataset_id] = IndexWork("failed", 0.0, error)

    def end(self, dataset_id: str) -> None:
        """Note that it is done."""
        self._works.pop(dataset_id, None)

    def get(self, dataset_id: str) -> IndexWork | None:
        """Return the work on a dataset's indexes, None when there is none."""
        return self._works.get(dataset_id)
