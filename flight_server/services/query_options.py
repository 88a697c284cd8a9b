"""What the service of queries works with, and its bounds."""

from dataclasses import dataclass

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.errors import InvalidArgumentError
from flight_server.services.admission import Admission
from flight_server.services.handles import Handles
from flight_server.services.held import HeldMessages
from flight_server.services.index_progress import IndexProgress
from flight_server.services.profiles import ProfileService
from flight_server.services.queries import Queries
from flight_server.services.resolution import Names
from flight_server.services.session_verbs import SessionVerbs
from flight_server.services.sessions import SessionService
from flight_server.services.transactions import TransactionService
from flight_server.services.writes import Writes


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Bounds on one statement: bytes of its text, seconds of work (None: no bound)."""

    statement_bytes: int
    timeout: float | None

    def timeout_within(self, own: float | None) -> float | None:
        """Return the bound of a statement whose session has one of its `own`."""
        return min((bound for bound in (own, self.timeout) if bound is not None), default=None)

    def check_length(self, sql: str) -> None:
        """Refuse a text that is too long. Raises InvalidArgumentError."""
        size = len(sql.encode())
        if size > self.statement_bytes:
            raise InvalidArgumentError(
                f"the statement is {size} bytes long, at most {self.statement_bytes} are read: send rows by "
                "a bulk ingest, and long values as parameters"
            )


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What the service of queries works with."""

    dispatcher: Dispatcher
    names: Names
    transactions: TransactionService
    handles: Handles
    queries: Queries
    held: HeldMessages
    sessions: SessionService
    verbs: SessionVerbs
    writes: Writes
    limits: QueryLimits
    admission: Admission
    profiles: ProfileService
    index_progress: IndexProgress
