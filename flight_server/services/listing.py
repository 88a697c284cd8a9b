"""Lists datasets as one caller sees them: of the buckets it may read, with what its transaction staged."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from heapq import merge
from itertools import islice

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import Dataset, DatasetFilter, Namespace, fold_name
from flight_server.domain.staging import Snapshot
from flight_server.services.resolution import Names
from flight_server.services.transactions import TransactionService

PAGE_DATASETS = 200
"""Datasets a page: described and sent at once."""

_READ_DATASETS = 1_000
"""Datasets read at once behind the first page: each read costs a sort of all that are left."""


def _place(dataset: Dataset) -> tuple[str, str]:
    return dataset.namespace, dataset.name


class DatasetListing:
    """Pages through datasets in the order of namespace and name."""

    def __init__(self, names: Names, transactions: TransactionService) -> None:
        self._names = names
        self._transactions = transactions

    def snapshot(self, call: CallContext) -> Snapshot:
        """Return what a listing shows: the newest commit, or the open transaction of the call's session."""
        return self._transactions.snapshot(self._transactions.of_session(call))

    def namespaces(self, call: CallContext) -> dict[str, Namespace]:
        """Return the schemas that the caller may read, in the order of their names."""
        found = self._names.namespaces(call.identity, self.snapshot(call))
        return {space.name: space for space in sorted(found, key=lambda space: space.name)}

    async def pages(
        self, snapshot: Snapshot, wanted: DatasetFilter, is_wanted: Callable[[Dataset], bool]
    ) -> AsyncIterator[list[Dataset]]:
        """Yield the datasets wanted, `PAGE_DATASETS` at a time; the catalog is read in a thread.

        `is_wanted` decides; what `wanted` says of them already need not be read.
        """
        found = filter(is_wanted, datasets(self._names, snapshot, wanted))
        while page := await asyncio.to_thread(lambda: list(islice(found, PAGE_DATASETS))):
            yield page


def datasets(names: Names, snapshot: Snapshot, wanted: DatasetFilter) -> Iterator[Dataset]:
    """Yield the datasets of a snapshot in the order of namespace and name, read page by page."""
    spaces = frozenset(wanted.namespaces)
    staged = _staged(names, snapshot, spaces)
    stored = (
        dataset
        for dataset in _stored(names, snapshot.commit, wanted, spaces)
        if (dataset.namespace, fold_name(dataset.name)) not in snapshot.datasets
    )
    return merge(stored, staged, key=_place)


def _stored(names: Names, commit: int, wanted: DatasetFilter, spaces: Collection[str]) -> Iterator[Dataset]:
    after: tuple[str, str] | None = None
    limit = PAGE_DATASETS
    while page := names.catalog.list_datasets(commit, wanted, after, limit):
        yield from (dataset for dataset in page if dataset.namespace in spaces)
        after, limit = _place(page[-1]), _READ_DATASETS


def _staged(names: Names, snapshot: Snapshot, spaces: Collection[str]) -> list[Dataset]:
    """Return the datasets that the transaction has changed, as it left them, in order."""
    found = [item for item in snapshot.datasets.values() if item is not None and item.namespace in spaces]
    return sorted((names.staged(item, snapshot) for item in found), key=_place)
