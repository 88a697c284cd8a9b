"""Transactions: a snapshot of the catalog to read from, and changes that one commit will make.

    begun ──first statement──▶ reading at a commit ──commit──▶ gone, changes committed
      └──────────────rollback, or its session ends──────────▶ gone, changes discarded

1. The snapshot is taken at the first statement and never moves.
2. What the transaction has written is seen by its own later statements and by nobody else.
3. Commit makes all staged changes one commit of the catalog; when that fails, nothing of them stays.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetChange
from flight_server.errors import AlreadyExistsError, ConflictError, NotFoundError
from flight_server.services.commits import Committer
from flight_server.services.sessions import Session, SessionService

_ID_BYTES = 16


@dataclass(slots=True)
class Transaction:
    """One open transaction; used from the event loop only."""

    id: bytes
    principal: str
    session_id: str
    snapshot: int | None = None
    changes: list[DatasetChange] = field(default_factory=list)


class TransactionService:
    """The open transactions of this gateway."""

    def __init__(self, committer: Committer, sessions: SessionService, dispatcher: Dispatcher) -> None:
        self._committer = committer
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._open: dict[bytes, Transaction] = {}
        self._discarding: set[asyncio.Task[None]] = set()
        sessions.on_close(self._abandon)

    def begin(self, call: CallContext) -> bytes:
        """Begin a transaction in the call's session and return its id."""
        session = self._sessions.get(call.session_id)
        transaction = Transaction(secrets.token_bytes(_ID_BYTES), call.identity.name, session.id)
        self._open[transaction.id] = transaction
        session.transaction_id = transaction.id
        return transaction.id

    def get(self, call: CallContext, transaction_id: bytes) -> Transaction:
        """Return an open transaction of the caller. Raises NotFoundError."""
        transaction = self._open.get(transaction_id)
        if transaction is None or transaction.principal != call.identity.name:
            raise NotFoundError(
                "no such transaction: it has ended, or it was never begun here; begin a new one"
            )
        return transaction

    def successor(self, call: CallContext, transaction_id: bytes) -> bytes | None:
        """Return the id itself while its transaction is open, else that of the session's open one, if any."""
        if transaction_id in self._open:
            return transaction_id
        following = self.of_session(call)
        return following.id if following else None

    def of_session(self, call: CallContext) -> Transaction | None:
        """Return the open transaction of the call's session, which ingests without an id join."""
        transaction_id = self._sessions.get(call.session_id).transaction_id
        return self._open.get(transaction_id) if transaction_id is not None else None

    def snapshot(self, transaction: Transaction) -> int:
        """Return the commit that the transaction reads at, taking it at the first statement."""
        if transaction.snapshot is None:
            transaction.snapshot = self._committer.newest()
        return transaction.snapshot

    def stage(self, call: CallContext, transaction: Transaction, change: DatasetChange) -> None:
        """Add a change to a transaction. Raises NotFoundError when it ended meanwhile."""
        self.get(call, transaction.id).changes.append(change)

    async def end(self, call: CallContext, transaction_id: bytes, commit: bool) -> None:
        """Commit or roll back. Raises NotFoundError, or ConflictError when the commit is not possible."""
        transaction = self.get(call, transaction_id)
        self._forget(transaction)
        if not commit:
            await self._discard(transaction.changes)
        elif transaction.changes:
            await self._commit(transaction)

    async def _commit(self, transaction: Transaction) -> None:
        names = ", ".join(dict.fromkeys(change.name for change in transaction.changes))
        try:
            await self._committer.commit(transaction.changes, transaction.principal, f"transaction: {names}")
        except (AlreadyExistsError, ConflictError, NotFoundError):
            # Any other error leaves open whether the commit was made: then sweep decides.
            await self._discard(transaction.changes)
            raise

    async def _discard(self, changes: Sequence[DatasetChange]) -> None:
        for change in changes:
            await self._dispatcher.delete(change.bucket, [stored.key for stored in change.objects])

    def _forget(self, transaction: Transaction) -> None:
        del self._open[transaction.id]
        session = self._sessions.find(transaction.session_id)
        if session is not None and session.transaction_id == transaction.id:
            session.transaction_id = None

    def _abandon(self, session: Session) -> None:
        """Roll back what a session leaves open when it ends."""
        for transaction in [open_ for open_ in self._open.values() if open_.session_id == session.id]:
            del self._open[transaction.id]
            if transaction.changes:
                task = asyncio.ensure_future(self._discard(transaction.changes))
                self._discarding.add(task)
                task.add_done_callback(self._discarding.discard)
