"""Cancelling: which query a caller means."""

from flight_server.domain.call import CallContext
from flight_server.services.handles import Handles
from flight_server.services.queries import CancelStatus, Queries
from flight_server.services.query import QueryService


class CancelService:
    """Ends queries by what their callers hold of them."""

    def __init__(self, query: QueryService, queries: Queries, handles: Handles) -> None:
        self._query = query
        self._queries = queries
        self._handles = handles

    def cancel_info(self, call: CallContext, handle: bytes | None, query_id: str | None) -> CancelStatus:
        """Cancel the query of a FlightInfo, by its ticket's handle or its id.

        An info that has neither of ours stands for what the session runs now. Raises NotFoundError for
        somebody else's or expired ticket, an unknown id, and when the session runs nothing.
        """
        if handle is not None and self._handles.is_ours(handle):
            return self._queries.cancel_planned(self._query.query_id(call, handle))
        if query_id is not None:
            return self.cancel(call, query_id)
        return self._queries.cancel_session(call)

    def cancel(self, call: CallContext, query_id: str) -> CancelStatus:
        """Cancel a query by its id. Raises NotFoundError when the caller has none of that id."""
        return self._queries.cancel(call.identity, query_id)

    def forget(self, principal: str) -> None:
        """Forget the queries that have ended of a principal: another may have its name from now on."""
        self._queries.forget(principal)

    def cancel_session(self, session_id: str) -> None:
        """Cancel whatever a session runs now."""
        self._queries.cancel_running(session_id)
