"""Datasets by path, for plain pyarrow.flight scripts: `[dataset]` or `[bucket, dataset]`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import IngestMode
from flight_server.domain.statement import IngestTarget
from flight_server.errors import InvalidArgumentError
from flight_server.flight.routes import Messages
from flight_server.flight.wire.actions import encode_json
from flight_server.flight.wire.commands import DatasetPath
from flight_server.flight.wire.tickets import Answer, answer_to

if TYPE_CHECKING:
    from flight_server.services.flights import FlightService
    from flight_server.services.ingest import IngestService
    from flight_server.services.query import QueryService


@dataclass(frozen=True, slots=True)
class PathHandlers:
    """Answers descriptors by path."""

    query: "QueryService"
    ingest: "IngestService"
    listed: "FlightService"

    async def info(self, call: CallContext, path: DatasetPath) -> Answer:
        """Plan reading a whole dataset."""
        return answer_to(await self.query.plan_dataset(call, _checked(path)))

    async def schema(self, call: CallContext, path: DatasetPath) -> bytes:
        """Return a dataset's schema."""
        return (await self.query.plan_dataset(call, _checked(path))).schema

    async def flights(self, call: CallContext, criteria: str) -> AsyncIterator[tuple[Sequence[str], Answer]]:
        """Yield path and answer of each dataset whose `bucket.dataset` is LIKE the criteria."""
        async for flight in self.listed.flights(call, criteria):
            yield flight.path, answer_to(flight.plan)

    async def put(self, call: CallContext, path: DatasetPath, sent: Messages) -> bytes:
        """Load a stream into a dataset; the mode header decides, default create-or-append."""
        *bucket, dataset = _checked(path)
        target = IngestTarget(
            dataset=dataset,
            schema=bucket[0] if bucket else None,
            mode=call.mode or IngestMode.CREATE_APPEND,
            transaction_id=None,
        )
        return encode_json(asdict(await self.ingest.append(call, target, sent)))


def _checked(path: DatasetPath) -> tuple[str, ...]:
    if len(path.parts) not in (1, 2) or not all(path.parts):
        raise InvalidArgumentError(
            f"a path is [dataset] or [bucket, dataset] without empty parts, got {len(path.parts)} parts"
        )
    return path.parts
