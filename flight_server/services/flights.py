"""Flights: datasets that can be fetched by path, each with a ticket, for ListFlights."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetFilter
from flight_server.domain.pattern import like
from flight_server.domain.staging import Snapshot
from flight_server.domain.statement import Plan
from flight_server.services.listing import DatasetListing
from flight_server.services.query import QueryService
from flight_server.services.resolution import Names
from flight_server.services.sql_schemas import SqlSchemas


@dataclass(frozen=True, slots=True)
class Flight:
    """A dataset by its path [bucket, dataset], and how to fetch it."""

    path: tuple[str, str]
    plan: Plan


class FlightService:
    """Lists what can be fetched by path."""

    def __init__(
        self, names: Names, listing: DatasetListing, sql_schemas: SqlSchemas, query: QueryService
    ) -> None:
        self._names = names
        self._listing = listing
        self._sql_schemas = sql_schemas
        self._query = query

    async def flights(self, call: CallContext, criteria: str) -> AsyncIterator[Flight]:
        """Yield the datasets whose `bucket.dataset` is LIKE the criteria; empty criteria stand for all.

        Raises InvalidArgumentError when the criteria are no pattern.
        """
        is_wanted = like(criteria or "%")
        snapshot = Snapshot(self._names.catalog.newest_commit())
        pages = self._listing.pages(
            snapshot,
            DatasetFilter(tuple(self._listing.namespaces(call))),
            lambda dataset: is_wanted(f"{dataset.namespace}.{dataset.name}"),
        )
        async for page in pages:
            ids = [dataset.id for dataset in page]
            totals = await asyncio.to_thread(self._names.catalog.totals, snapshot.commit, ids)
            known = await self._sql_schemas.get(call.identity, (dataset.schema for dataset in page))
            for dataset in page:
                path = (dataset.namespace, dataset.name)
                schema = known[dataset.schema].message
                plan = self._query.seal_dataset(call, path, snapshot.commit, schema, totals[dataset.id])
                yield Flight(path, plan)
