"""Batches of searches: the vectors of an upload, answered with the nearest rows of each."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.vectors import BatchSearch
from flight_server.domain.call import CallContext
from flight_server.services.searched import SearchedDatasets
from flight_server.services.transactions import TransactionService


@dataclass(frozen=True, slots=True)
class BatchService:
    """Searches datasets for all vectors that a client sends; `timeout` bounds a batch, in seconds."""

    datasets: SearchedDatasets
    transactions: TransactionService
    dispatcher: Dispatcher
    timeout: float | None

    async def search(
        self,
        call: CallContext,
        path: tuple[str, ...],
        arguments: Mapping[str, object],
        messages: AsyncIterator[bytes],
    ) -> AsyncGenerator[bytes, None]:
        """Yield the FlightData messages of the answer. Raises NotFoundError for an unknown dataset."""
        snapshot = self.transactions.snapshot(self.transactions.joined(call, None))
        dataset, searched = self.datasets.named(call.identity, path, snapshot)
        records = self.datasets.names.indexes(dataset)
        asked = BatchSearch(searched, records, arguments, self.timeout)
        async with aclosing(self.dispatcher.of(call.identity).vectors.exchange(asked, messages)) as answer:
            async for message in answer:
                yield message
