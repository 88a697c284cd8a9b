"""The shape of the routing tables: what is asked for → who answers."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from flight_server.domain.call import CallContext
from flight_server.flight.wire.tickets import Answer, Polled

if TYPE_CHECKING:
    from flight_server.services.batches import BatchService
    from flight_server.services.cancel import CancelService
    from flight_server.services.compact import CompactService
    from flight_server.services.embedding import EmbeddingService
    from flight_server.services.flights import FlightService
    from flight_server.services.indexing import IndexService
    from flight_server.services.ingest import IngestService
    from flight_server.services.keys import KeyService
    from flight_server.services.metadata import MetadataService
    from flight_server.services.migration import MigrationService
    from flight_server.services.polls import PollService
    from flight_server.services.prepared import PreparedService
    from flight_server.services.profiles import ProfileService
    from flight_server.services.query import QueryService
    from flight_server.services.register import RegisterService
    from flight_server.services.session_options import SessionOptions
    from flight_server.services.sessions import SessionService
    from flight_server.services.sweep import SweepService
    from flight_server.services.tables import TableService
    from flight_server.services.temporary_ingest import TemporaryIngest
    from flight_server.services.transactions import TransactionService
    from flight_server.services.trials import TrialService

Messages: TypeAlias = AsyncIterator[bytes]
"""FlightData messages as they travel; the first of an answer is its schema."""

InfoHandler: TypeAlias = Callable[[CallContext, Any], Awaitable[Answer]]
PollHandler: TypeAlias = Callable[[CallContext, Any], Awaitable[Polled]]
SchemaHandler: TypeAlias = Callable[[CallContext, Any], Awaitable[bytes]]
StreamHandler: TypeAlias = Callable[[CallContext, Any], Messages]
FlightsHandler: TypeAlias = Callable[[CallContext, str], AsyncIterator[tuple[Sequence[str], Answer]]]
PutHandler: TypeAlias = Callable[[CallContext, Any, Messages], Awaitable[bytes]]
ExchangeHandler: TypeAlias = Callable[[CallContext, Any, Messages], Messages]
ActionHandler: TypeAlias = Callable[
    [CallContext, bytes], Awaitable[Sequence[bytes]] | AsyncGenerator[bytes, None]
]


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers call."""

    query: "QueryService"
    prepared: "PreparedService"
    ingest: "IngestService"
    temporary: "TemporaryIngest"
    transactions: "TransactionService"
    register: "RegisterService"
    compact: "CompactService"
    sweep: "SweepService"
    migration: "MigrationService"
    metadata: "MetadataService"
    tables: "TableService"
    keys: "KeyService"
    flights: "FlightService"
    cancel: "CancelService"
    polls: "PollService"
    sessions: "SessionService"
    session_options: "SessionOptions"
    profiles: "ProfileService"
    indexes: "IndexService"
    batches: "BatchService"
    embedding: "EmbeddingService"
    trials: "TrialService"


@dataclass(frozen=True, slots=True)
class ActionRoute:
    """An action's handler (body → result bodies, at once or one by one) and what ListActions says of it.

    With `is_audited` each call stands in the audit log.
    """

    handler: ActionHandler
    description: str
    is_audited: bool = False


@dataclass(frozen=True, slots=True)
class Routes:
    """Type of the decoded command or ticket → handler, action's name → route.

    `infos` answer GetFlightInfo, and PollFlightInfo where `polls` do not, `schemas` GetSchema, `streams`
    DoGet, `puts` DoPut (they return the metadata of the one PutResult), and `exchanges` DoExchange. `flights`
    answers ListFlights: criteria → (path, answer).
    """

    infos: Mapping[type, InfoHandler]
    polls: Mapping[type, PollHandler]
    schemas: Mapping[type, SchemaHandler]
    streams: Mapping[type, StreamHandler]
    puts: Mapping[type, PutHandler]
    exchanges: Mapping[type, ExchangeHandler]
    flights: FlightsHandler
    actions: Mapping[str, ActionRoute]
