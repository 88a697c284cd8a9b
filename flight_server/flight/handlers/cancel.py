"""Cancelling queries: Flight's action, the one that it replaced, and ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire import messages
from flight_server.flight.wire.actions import check_keys, decode_json, encode_json, unpack_request
from flight_server.flight.wire.tickets import decode_info
from flight_server.services.queries import CancelStatus

if TYPE_CHECKING:
    from flight_server.services.cancel import CancelService

_NUMBERS: Mapping[CancelStatus, int] = {CancelStatus.CANCELLED: 1, CancelStatus.NOT_CANCELLABLE: 3}
"""The same in CancelStatus and in CancelResult."""


@dataclass(frozen=True, slots=True)
class CancelHandlers:
    """Answers CancelFlightInfo, CancelQuery and `cancel_query`."""

    cancelling: "CancelService"

    async def flight_info(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Cancel the query of a FlightInfo; the body is the bare message, not an Any."""
        info = messages.parse("CancelFlightInfoRequest", body).info
        return (messages.encode("CancelFlightInfoResult", status=self._cancel(call, info)),)

    async def query(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Cancel the query of a FlightInfo, for clients of before CancelFlightInfo."""
        request = unpack_request("ActionCancelQueryRequest", body)
        status = self._cancel(call, messages.parse("FlightInfo", request.info))
        return (messages.pack("ActionCancelQueryResult", result=status),)

    async def by_id(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Cancel a query by the id that `sys.queries` shows."""
        options = decode_json(body)
        check_keys("cancel_query", options, ("query_id",))
        wanted = options.get("query_id")
        if not isinstance(wanted, str):
            raise InvalidArgumentError('cancel_query takes {"query_id": "…"}: sys.queries lists the ids')
        return (encode_json({"query_id": wanted, "status": self.cancelling.cancel(call, wanted)}),)

    def _cancel(self, call: CallContext, info: Any) -> int:
        return _NUMBERS[self.cancelling.cancel_info(call, *decode_info(info))]
