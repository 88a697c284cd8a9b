"""Transactions: a snapshot of the catalog to read from, and changes that one commit will make.

    begun ──first statement──▶ reading at a commit ──first change──▶ written ──commit──▶ gone, committed
      ▲                             │                                   │
      └──────── idle too long ──────┘                                   └─ idle too long ─▶ aborted

From everywhere a rollback, or the end of the session, leads to gone, with all changes discarded.

A transaction that SQL begins (BEGIN) belongs to its session, and every statement of the session joins
it. One that the protocol begins (BeginTransaction) lives until EndTransaction: there SQL's COMMIT and
ROLLBACK end what it holds, and it begins anew under its id, since clients go on to use that.

1. The snapshot is taken at the first statement and never moves.
2. What the transaction has written is seen by its own later statements and by nobody else.
3. Commit makes all staged changes one commit of the catalog; when that fails, nothing of them stays.
4. One that is idle too long lets go of its snapshot, and of what it has written: then every statement in it
   is refused until its client ends it. Where its session has expired meanwhile, the next one goes on with it.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain import faults
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetChange
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.domain.session import Verb
from flight_server.domain.staging import Snapshot, settled
from flight_server.errors import (
    AlreadyExistsError,
    ConflictError,
    FailedPreconditionError,
    LakehouseError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    ResourceExhaustedError,
    StateLostError,
    UnavailableError,
)
from flight_server.services.commits import Committer
from flight_server.services.connections import Sockets
from flight_server.services.sessions import Session, SessionService

_ID_BYTES = 16
_REMEMBERED = 1_000
_MOST_OWN = 10_000
"""How many one caller may have open: what is kept of them, and looked through, has a bound."""

_REFUSALS = (AlreadyExistsError, ConflictError, NotFoundError, PermissionDeniedError, QuotaExceededError)
"""What a commit raises that was not made."""


@dataclass(slots=True)
class Transaction:
    """One open transaction; used from the event loop only.

    `sockets` tell the connection that began it, for sessions that are found by their address. `unit` names
    what is between two commits, `is_sql` says that SQL began it. One that `is_aborted` had changes, which
    are discarded, and waits for its client to end it. `used_at` is a monotonic time.
    """

    id: bytes
    principal: str
    session_id: str
    is_sql: bool = False
    is_aborted: bool = False
    used_at: float = field(default_factory=time.monotonic)
    unit: bytes = field(default_factory=lambda: secrets.token_bytes(_ID_BYTES))
    snapshot: int | None = None
    sockets: frozenset[str] = frozenset()
    changes: list[DatasetChange] = field(default_factory=list)

    def check(self, verb: Verb | None = None) -> None:
        """Raise ConflictError when it was aborted: then verbs may end it, and nothing else can be done."""
        if self.is_aborted and verb is None:
            raise ConflictError(
                "the transaction was rolled back because its session ended or was idle too long: "
                "ROLLBACK, begin anew"
            )


class TransactionService:
    """The open transactions of this gateway.

    `_left` are those whose session expired, by id and by what the session was found by.
    """

    def __init__(
        self, committer: Committer, sessions: SessionService, dispatcher: Dispatcher, idle_seconds: float
    ) -> None:
        self._committer = committer
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._sockets = Sockets()
        self._open: dict[bytes, Transaction] = {}
        self._committed: RecentMap[bytes, Transaction] = RecentMap(_REMEMBERED)
        self._left: RecentMap[bytes | str, Transaction] = RecentMap(_REMEMBERED)
        self._idle_seconds = idle_seconds
        self._discarding: set[asyncio.Task[None]] = set()
        sessions.on_close(self._abandon)
        sessions.on_enter(self._check_current)

    def begin(self, call: CallContext, is_sql: bool = False) -> bytes:
        """Begin a transaction in the call's session and return its id. Raises ResourceExhaustedError."""
        session = self._sessions.get(call.session_id)
        if len(self._open) >= _MOST_OWN:
            self._check_number(call.identity.name)
        transaction = Transaction(secrets.token_bytes(_ID_BYTES), call.identity.name, session.id, is_sql)
        transaction.sockets = self._sockets.of(session.peer)
        self._open[transaction.id] = transaction
        session.transaction_id = transaction.id
        return transaction.id

    def _check_number(self, principal: str) -> None:
        if sum(open_.principal == principal for open_ in self._open.values()) >= _MOST_OWN:
            raise ResourceExhaustedError(
                f"you have {_MOST_OWN} transactions open: commit or roll back some, or close their sessions"
            )

    def get(self, call: CallContext, transaction_id: bytes) -> Transaction:
        """Return an open transaction of the caller, perhaps an aborted one. Raises NotFoundError."""
        transaction = self._open.get(transaction_id) or self._taken_up(call, transaction_id)
        if transaction is None or transaction.principal != call.identity.name:
            raise NotFoundError(
                "no such transaction: it has ended, or it was never begun here; begin a new one"
            )
        return self._renewed(transaction)

    def _renewed(self, transaction: Transaction) -> Transaction:
        """Return a transaction that is used from now on; one that was idle too long has let go."""
        self._check_idle(transaction)
        transaction.used_at = time.monotonic()
        return transaction

    def _check_current(self, session: Session) -> None:
        found = None if session.transaction_id is None else self._open.get(session.transaction_id)
        if found is not None:
            self._check_idle(found)

    def _check_idle(self, transaction: Transaction) -> None:
        session = self._sessions.find(transaction.session_id)
        is_idle = session is None or session.is_idle(self._idle_seconds)
        if is_idle and time.monotonic() - transaction.used_at > self._idle_seconds:
            self._let_go(transaction)

    def _let_go(self, transaction: Transaction) -> None:
        """Take a transaction's snapshot and changes away: of these others may read no longer."""
        transaction.snapshot = None
        if transaction.changes:
            transaction.is_aborted, transaction.unit = True, secrets.token_bytes(_ID_BYTES)
            changes, transaction.changes = transaction.changes, []
            task = asyncio.ensure_future(self._discard(changes))
            self._discarding.add(task)
            task.add_done_callback(self._discarding.discard)

    def _taken_up(self, call: CallContext, known_by: bytes | str) -> Transaction | None:
        """Let a session go on with a transaction whose own expired, found by its id or by the key of that."""
        left = self._left.get(known_by)
        session = self._sessions.get(call.session_id)
        if left is None or left.principal != call.identity.name:
            return None
        if isinstance(known_by, str) and self._is_of_another(session, left):
            return None
        self._left.pop(left.id)
        self._left.pop(session.key)
        left.session_id, left.sockets = session.id, self._sockets.of(session.peer)
        self._open[left.id] = left
        session.transaction_id = left.id
        return left

    def _is_of_another(self, session: Session, transaction: Transaction) -> bool:
        """Tell whether another connection, whose address the session's has now, began a transaction."""
        sockets = self._sockets.of(session.peer) if transaction.sockets else frozenset()
        return bool(sockets) and sockets.isdisjoint(transaction.sockets)

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

        Raises NotFoundError, or ConflictError when it was aborted.
        """
        found = self.of_session(call) if transaction_id is None else self.get(call, transaction_id)
        if found is not None:
            found.check()
        return found

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
        """Begin a transaction by SQL; does nothing in an open one.

        Raises ConflictError in an aborted one, FailedPreconditionError beside one that the protocol began.
        """
        if transaction_id is not None:
            return
        found = self.of_session(call)
        if found is None:
            self.begin(call, is_sql=True)
            return
        found.check()
        if not found.is_sql:  # what follows without its id would belong to no transaction
            raise FailedPreconditionError(
                "this session has a transaction open that BeginTransaction began: send its id with each "
                "statement, or end it before BEGIN"
            )

    async def end_sql(self, call: CallContext, transaction_id: bytes | None, commit: bool) -> None:
        """Commit or roll back by SQL; does nothing where no transaction is open."""
        found = self.get(call, transaction_id) if transaction_id is not None else self.of_session(call)
        if found is not None and found.is_sql:
            await self.end(call, found.id, commit)
        elif found is not None:
            ended = replace(found)
            found.unit, found.snapshot, found.changes = secrets.token_bytes(_ID_BYTES), None, []
            found.is_aborted = False
            await self._finish(call.identity, ended, commit)

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
        open_id = session.transaction_id
        transaction = self._taken_up(call, session.key) if open_id is None else self._open.get(open_id)
        if transaction is not None and self._is_of_another(session, transaction):
            self._abandon(session)
            session.transaction_id = transaction = None
        return None if transaction is None else self._renewed(transaction)

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
        self._expire()
        return min((o.snapshot for o in self._open.values() if o.snapshot is not None), default=None)

    def staged_bytes(self, bucket: str) -> int:
        """Return how many bytes the objects have that open transactions will commit to a bucket."""
        self._expire()
        staged = (change for open_ in self._open.values() for change in open_.changes)
        return sum(stored.bytes for change in staged if change.bucket == bucket for stored in change.objects)

    def staged_keys(self) -> set[str]:
        """Return the keys of all objects that open transactions will commit."""
        self._expire()
        staged = [change for open_ in self._open.values() for change in open_.changes]
        return {stored.key for change in staged for stored in change.objects}

    def rewritten(self) -> set[str]:
        """Return the ids of the datasets whose objects open transactions will replace."""
        self._expire()
        staged = [change for open_ in self._open.values() for change in open_.changes]
        return {change.dataset_id for change in staged if change.removed}

    def stage(self, call: CallContext, transaction: Transaction, changes: Sequence[DatasetChange]) -> None:
        """Add changes to a transaction. Raises NotFoundError, ConflictError when it ended meanwhile."""
        found = self.get(call, transaction.id)
        found.check()
        found.changes.extend(changes)

    async def end(self, call: CallContext, transaction_id: bytes, commit: bool) -> None:
        """Commit or roll back. Raises NotFoundError, or ConflictError when the commit is not possible."""
        transaction = self.get(call, transaction_id)
        self._forget(transaction)
        await self._finish(call.identity, transaction, commit)

    async def _finish(self, identity: Identity, transaction: Transaction, commit: bool) -> None:
        is_done = False
        try:
            if commit:
                transaction.check()
            if not commit:
                await self._discard(transaction.changes)
                faults.reach(faults.Place.TRANSACTION_DISCARDED)
            elif transaction.changes:
                await self._commit(identity, transaction)
            is_done = commit
        finally:
            session = self._sessions.find(transaction.session_id)
            if session is not None and session.holdings:
                # What went with an engine process is told at the next statement: the commit stands.
                with suppress(UnavailableError, StateLostError):
                    session.holdings = await self._dispatcher.settle(session.id, is_done)

    async def _commit(self, identity: Identity, transaction: Transaction) -> None:
        self._committed.put(transaction.unit, transaction)
        changes, superseded = settled(transaction.changes)
        try:
            _check_grants(identity, changes)
            made = await self._committer.commit(changes, transaction.principal, _summary(transaction.changes))
        except _REFUSALS:
            # Any other error leaves open whether the commit was made: then sweep decides.
            await self._discard(transaction.changes)
            raise
        faults.reach(faults.Place.TRANSACTION_COMMITTED)
        # What an idempotency key shows to be committed already is not committed again.
        pairs = zip(changes, made, strict=True)
        await self._discard([change for change, done in pairs if done.is_repeated], superseded)

    async def _discard(
        self, changes: Sequence[DatasetChange], superseded: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Remove the objects of changes, and others by (bucket, key), as far as storage lets us.

        Whatever ends here has ended already: an error would say otherwise. Sweep removes the rest.
        """
        doomed: dict[str, list[str]] = {}
        for bucket, key in superseded:
            doomed.setdefault(bucket, []).append(key)
        for change in changes:
            doomed.setdefault(change.bucket, []).extend(stored.key for stored in change.objects)
        for bucket, keys in doomed.items():
            if keys:
                with suppress(LakehouseError):
                    await self._dispatcher.over(bucket).delete(bucket, keys)

    def _forget(self, transaction: Transaction) -> None:
        del self._open[transaction.id]
        session = self._sessions.find(transaction.session_id)
        if session is not None and session.transaction_id == transaction.id:
            session.transaction_id = None

    def _abandon(self, session: Session) -> None:
        """Roll back what a session leaves open when it ends."""
        for transaction in [open_ for open_ in self._open.values() if open_.session_id == session.id]:
            del self._open[transaction.id]
            self._let_go(transaction)
            if session.has_expired or transaction.is_aborted:
                self._left.put(transaction.id, transaction)
            if session.has_expired and transaction.id == session.transaction_id:
                self._left.put(session.key, transaction)

    def _expire(self) -> None:
        """Let idle transactions go of what is in the way of others."""
        for transaction in self._open.values():
            self._check_idle(transaction)


def _summary(changes: Sequence[DatasetChange]) -> str:
    """Say what a transaction has done; names only where whoever may read one of them may read all."""
    if len({change.bucket for change in changes}) > 1:
        return "transaction in several buckets"
    return f"transaction: {', '.join(dict.fromkeys(change.name or change.namespace for change in changes))}"


def _check_grants(identity: Identity, changes: Sequence[DatasetChange]) -> None:
    """Refuse changes of buckets that a caller may write no longer. Raises PermissionDeniedError."""
    for change in changes:
        if not identity.may("write", change.bucket):
            raise PermissionDeniedError(
                f"bucket {change.bucket} may not be written by you any more: the transaction was rolled back"
            )
