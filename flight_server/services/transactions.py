"""Transactions: a snapshot of the catalog to read from, and changes that one commit will make.

    begun ──first statement──▶ reading at a commit ──commit──▶ gone, changes committed
      └──────────────rollback, or its session ends──────────▶ gone, changes discarded

A transaction that SQL begins (BEGIN) belongs to its session, and every statement of the session joins
it. One that the protocol begins (BeginTransaction) lives until EndTransaction: there SQL's COMMIT and
ROLLBACK end what it holds, and it begins anew under its id, since clients go on to use that.

1. The snapshot is taken at the first statement and never moves.
2. What the transaction has written is seen by its own later statements and by nobody else.
3. Commit makes all staged changes one commit of the catalog; when that fails, nothing of them stays.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetChange
from flight_server.domain.recent import RecentMap
from flight_server.domain.staging import Snapshot, settled
from flight_server.errors import AlreadyExistsError, ConflictError, NotFoundError
from flight_server.services.commits import Committer
from flight_server.services.connections import Sockets
from flight_server.services.sessions import Session, SessionService

_ID_BYTES = 16
_REMEMBERED = 1_000


@dataclass(slots=True)
class Transaction:
    """One open transaction; used from the event loop only.

    `sockets` tell the connection that began it, for sessions that are found by their address. `unit` names
    what is between two commits, `is_sql` says that SQL began it.
    """

    id: bytes
    principal: str
    session_id: str
    is_sql: bool = False
    unit: bytes = field(default_factory=lambda: secrets.token_bytes(_ID_BYTES))
    snapshot: int | None = None
    sockets: frozenset[str] = frozenset()
    changes: list[DatasetChange] = field(default_factory=list)


class TransactionService:
    """The open transactions of this gateway."""

    def __init__(self, committer: Committer, sessions: SessionService, dispatcher: Dispatcher) -> None:
        self._committer = committer
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._sockets = Sockets()
        self._open: dict[bytes, Transaction] = {}
        self._committed: RecentMap[bytes, Transaction] = RecentMap(_REMEMBERED)
        self._abandoned: RecentMap[bytes, str] = RecentMap(_REMEMBERED)
        self._discarding: set[asyncio.Task[None]] = set()
        sessions.on_close(self._abandon)

    def begin(self, call: CallContext, is_sql: bool = False) -> bytes:
        """Begin a transaction in the call's session and return its id."""
        session = self._sessions.get(call.session_id)
        transaction = Transaction(secrets.token_bytes(_ID_BYTES), call.identity.name, session.id, is_sql)
        transaction.sockets = self._sockets.of(session.key)
        self._open[transaction.id] = transaction
        session.transaction_id = transaction.id
        return transaction.id

    def get(self, call: CallContext, transaction_id: bytes) -> Transaction:
        """Return an open transaction of the caller.

        Raises NotFoundError, or ConflictError when it had changes and was abandoned.
        """
        transaction = self._open.get(transaction_id)
        if self._abandoned.get(transaction_id) == call.identity.name:
            raise ConflictError(
                "the transaction was rolled back because its session ended or was idle too long: begin anew"
            )
        if transaction is None or transaction.principal != call.identity.name:
            raise NotFoundError(
                "no such transaction: it has ended, or it was never begun here; begin a new one"
            )
        return transaction

    def joined(self, call: CallContext, transaction_id: bytes | None) -> Transaction | None:
        """Return the transaction that a statement belongs to: its own, else the one that SQL began.

        Raises NotFoundError.
        """
        if transaction_id is not None:
            return self.get(call, transaction_id)
        found = self.of_session(call)
        return found if found is not None and found.is_sql else None

    def of_ingest(self, call: CallContext, transaction_id: bytes | None) -> Transaction | None:
        """Return the transaction that an ingest belongs to: its own, else the session's open one.

        Raises NotFoundError.
        """
        return self.of_session(call) if transaction_id is None else self.get(call, transaction_id)

    def get_read(self, call: CallContext, unit: bytes) -> Transaction:
        """Return the transaction whose unit a statement began to read in: open, or with its commit asked for.

        Raises NotFoundError when it was rolled back, or committed long ago.
        """
        committed = self._committed.get(unit)
        is_open = (open_ for open_ in self._open.values() if open_.unit == unit)
        found = committed or next(is_open, None)
        if found is None or found.principal != call.identity.name:
            raise NotFoundError("the transaction that this statement read in has ended: run it again")
        return found

    async def begin_sql(self, call: CallContext, transaction_id: bytes | None) -> None:
        """Begin a transaction by SQL; does nothing where one is open."""
        if transaction_id is None and self.of_session(call) is None:
            self.begin(call, is_sql=True)

    async def end_sql(self, call: CallContext, transaction_id: bytes | None, commit: bool) -> None:
        """Commit or roll back by SQL; does nothing where no transaction is open."""
        found = self.get(call, transaction_id) if transaction_id is not None else self.of_session(call)
        if found is not None and found.is_sql:
            await self.end(call, found.id, commit)
        elif found is not None:
            ended = replace(found)
            found.unit, found.snapshot, found.changes = secrets.token_bytes(_ID_BYTES), None, []
            await self._finish(ended, commit)

    def successor(self, call: CallContext, transaction_id: bytes) -> bytes | None:
        """Return the id itself while its transaction is open, else that of the session's open one."""
        if transaction_id in self._open:
            return transaction_id
        following = self.of_session(call)
        return following.id if following else None

    def of_session(self, call: CallContext) -> Transaction | None:
        """Return the open transaction of the call's session, which ingests without an id join.

        One that another connection began, from the address that this one has now, is rolled back.
        """
        session = self._sessions.get(call.session_id)
        transaction = self._open.get(session.transaction_id) if session.transaction_id is not None else None
        if transaction is not None and transaction.sockets:
            sockets = self._sockets.of(session.key)
            if sockets and sockets.isdisjoint(transaction.sockets):
                self._abandon(session)
                session.transaction_id = transaction = None
        return transaction

    def snapshot(self, transaction: Transaction | None) -> Snapshot:
        """Return what a statement of a transaction reads, which takes its commit at the first one.

        Outside of a transaction a statement reads the newest commit.
        """
        if transaction is None:
            return Snapshot(self._committer.newest())
        if transaction.snapshot is None:
            transaction.snapshot = self._committer.newest()
        return Snapshot(transaction.snapshot, tuple(transaction.changes))

    @property
    def oldest_snapshot(self) -> int | None:
        """The oldest commit that an open transaction reads at."""
        return min((o.snapshot for o in self._open.values() if o.snapshot is not None), default=None)

    def staged_keys(self) -> set[str]:
        """Return the keys of all objects that open transactions will commit."""
        staged = [change for open_ in self._open.values() for change in open_.changes]
        return {stored.key for change in staged for stored in change.objects}

    def rewritten(self) -> set[str]:
        """Return the ids of the datasets whose objects open transactions will replace."""
        staged = [change for open_ in self._open.values() for change in open_.changes]
        return {change.dataset_id for change in staged if change.removed}

    def stage(self, call: CallContext, transaction: Transaction, changes: Sequence[DatasetChange]) -> None:
        """Add changes to a transaction. Raises NotFoundError when it ended meanwhile."""
        self.get(call, transaction.id).changes.extend(changes)

    async def end(self, call: CallContext, transaction_id: bytes, commit: bool) -> None:
        """Commit or roll back. Raises NotFoundError, or ConflictError when the commit is not possible."""
        transaction = self.get(call, transaction_id)
        self._forget(transaction)
        await self._finish(transaction, commit)

    async def _finish(self, transaction: Transaction, commit: bool) -> None:
        is_done = False
        try:
            if not commit:
                await self._discard(transaction.changes)
            elif transaction.changes:
                await self._commit(transaction)
            is_done = commit
        finally:
            session = self._sessions.find(transaction.session_id)
            if session is not None and session.holdings:
                session.holdings = await self._dispatcher.settle(session.id, is_done)

    async def _commit(self, transaction: Transaction) -> None:
        names = ", ".join(dict.fromkeys(change.name or change.namespace for change in transaction.changes))
        self._committed.put(transaction.unit, transaction)
        changes, superseded = settled(transaction.changes)
        try:
            made = await self._committer.commit(changes, transaction.principal, f"transaction: {names}")
        except (AlreadyExistsError, ConflictError, NotFoundError):
            # Any other error leaves open whether the commit was made: then sweep decides.
            await self._discard(transaction.changes)
            raise
        # What an idempotency key shows to be committed already is not committed again.
        pairs = zip(changes, made, strict=True)
        await self._discard([change for change, done in pairs if done.is_repeated], superseded)

    async def _discard(
        self, changes: Sequence[DatasetChange], superseded: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Remove the objects of changes, and others by (bucket, key)."""
        doomed: dict[str, list[str]] = {}
        for bucket, key in superseded:
            doomed.setdefault(bucket, []).append(key)
        for change in changes:
            doomed.setdefault(change.bucket, []).extend(stored.key for stored in change.objects)
        for bucket, keys in doomed.items():
            if keys:
                await self._dispatcher.delete(bucket, keys)

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
                self._abandoned.put(transaction.id, transaction.principal)
                task = asyncio.ensure_future(self._discard(transaction.changes))
                self._discarding.add(task)
                task.add_done_callback(self._discarding.discard)
