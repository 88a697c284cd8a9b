"""Tickets that are to be good for longer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire import messages
from flight_server.flight.wire.tickets import encode_endpoint, encode_statement, endpoint_handle

if TYPE_CHECKING:
    from flight_server.services.query import QueryService


@dataclass(frozen=True, slots=True)
class RenewHandlers:
    """Answers RenewFlightEndpoint."""

    query: "QueryService"

    async def renew(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Return the endpoint with a later expiry; the body is the bare message, not an Any."""
        endpoint = messages.parse("RenewFlightEndpointRequest", body).endpoint
        handle = endpoint_handle(endpoint)
        if handle is None:
            raise InvalidArgumentError(
                "the endpoint's ticket is not that of a statement; others do not expire"
            )
        renewed = self.query.renew(call, handle)
        return (encode_endpoint(encode_statement(renewed.handle), renewed.expires),)
