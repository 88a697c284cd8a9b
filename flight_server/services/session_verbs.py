"""What a statement asks of its session: to begin or end a transaction, to set or take back an option."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from flight_server.domain.call import CallContext
from flight_server.domain.session import Verb
from flight_server.services.session_options import SessionOptions
from flight_server.services.transactions import TransactionService


@dataclass(frozen=True, slots=True)
class SessionVerbs:
    """Does what statements ask; the engine process that read them knows nothing of sessions."""

    options: SessionOptions
    transactions: TransactionService

    async def run(self, call: CallContext, verb: Verb, transaction_id: bytes | None) -> None:
        """Do it. Raises what the option or the commit raises."""
        await _VERBS[verb.verb](self, call, verb, transaction_id)

    async def _begin(self, call: CallContext, _: Verb, transaction_id: bytes | None) -> None:
        await self.transactions.begin_sql(call, transaction_id)

    async def _commit(self, call: CallContext, _: Verb, transaction_id: bytes | None) -> None:
        await self.transactions.end_sql(call, transaction_id, commit=True)

    async def _rollback(self, call: CallContext, _: Verb, transaction_id: bytes | None) -> None:
        await self.transactions.end_sql(call, transaction_id, commit=False)

    async def _set(self, call: CallContext, verb: Verb, _: bytes | None) -> None:
        if verb.paths:
            self.options.set_schemas(call, verb.paths)
        else:
            self.options.set(call, verb.name, verb.value or "")

    async def _reset(self, call: CallContext, verb: Verb, _: bytes | None) -> None:
        self.options.reset(call, verb.name)


_Run = Callable[[SessionVerbs, CallContext, Verb, bytes | None], Awaitable[None]]

_VERBS: Mapping[str, _Run] = {
    "begin": SessionVerbs._begin,
    "commit": SessionVerbs._commit,
    "rollback": SessionVerbs._rollback,
    "set": SessionVerbs._set,
    "reset": SessionVerbs._reset,
}
