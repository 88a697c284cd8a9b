"""Transactions: begin, commit, roll back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire import messages
from flight_server.flight.wire.actions import unpack_request

if TYPE_CHECKING:
    from flight_server.services.transactions import TransactionService

_COMMITS: Mapping[int, bool] = {1: True, 2: False}
"""EndTransaction → whether it commits; 0 is UNSPECIFIED."""


@dataclass(frozen=True, slots=True)
class TransactionHandlers:
    """Answers BeginTransaction and EndTransaction."""

    transactions: "TransactionService"

    async def begin(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Begin a transaction and return its id."""
        unpack_request("ActionBeginTransactionRequest", body)
        transaction_id = self.transactions.begin(call)
        return (messages.pack("ActionBeginTransactionResult", transaction_id=transaction_id),)

    async def end(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Commit or roll back a transaction."""
        request = unpack_request("ActionEndTransactionRequest", body)
        if request.action not in _COMMITS:
            raise InvalidArgumentError("EndTransaction must say 1 (commit) or 2 (roll back)")
        await self.transactions.end(call, request.transaction_id, _COMMITS[request.action])
        return ()
