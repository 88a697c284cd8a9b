"""Ingest: an upload becomes objects of one dataset, recorded by one commit."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from hashlib import sha256

from flight_server.catalog import idempotency
from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import UploadRequest
from flight_server.dispatch.relay import Upload
from flight_server.domain import faults
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import (
    ChangeMode,
    CommittedChange,
    Dataset,
    DatasetChange,
    IngestMode,
    Kind,
    Namespace,
    UploadKey,
    display_name,
    fold_name,
)
from flight_server.domain.staging import Snapshot
from flight_server.domain.statement import IngestResult, IngestTarget
from flight_server.errors import (
    AlreadyExistsError,
    CallCancelledError,
    InvalidArgumentError,
    NotFoundError,
)
from flight_server.services import checked_append
from flight_server.services.checked_append import CheckedAppend
from flight_server.services.commits import Committer
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import Names, check_dataset_name
from flight_server.services.rooms import room_left
from flight_server.services.transactions import Transaction, TransactionService


@dataclass(frozen=True, slots=True)
class _Upload:
    """An upload that may begin: where it goes and what it found there."""

    space: Namespace
    target: IngestTarget
    existing: Dataset | None
    transaction: Transaction | None

    @property
    def dataset_schema(self) -> bytes:
        """The schema that the upload must have; empty when it may bring its own."""
        if self.existing is None or self.target.mode is IngestMode.REPLACE:
            return b""
        return self.existing.schema or b""


class _Ending:
    """The end of an upload's messages, which a killed client's stream seems to have too.

    Whether it is one is asked at once, while the engine process makes objects durable.
    """

    def __init__(self, call: CallContext) -> None:
        self._call = call
        self._asked: asyncio.Future[bool] | None = None

    async def __aenter__(self) -> "_Ending":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._asked is not None:  # an error must not be sent while the question is on its way
            await asyncio.gather(self._asked, return_exceptions=True)

    async def after(self, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Hand the messages on, and ask when there are no more."""
        async for message in messages:
            yield message
        self._asked = asyncio.ensure_future(self._call.has_left())

    async def check(self) -> None:
        """Raise CallCancelledError when it was not the client that ended its upload."""
        if await (self._asked or self._call.has_left()):
            raise CallCancelledError("the client went away before its upload was complete")


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What ingest works with."""

    dispatcher: Dispatcher
    names: Names
    committer: Committer
    transactions: TransactionService
    reservations: Reservations
    checked: CheckedAppend


class IngestService:
    """Takes uploads."""

    def __init__(self, options: IngestOptions) -> None:
        self._dispatcher = options.dispatcher
        self._names = options.names
        self._catalog = options.names.catalog
        self._committer = options.committer
        self._transactions = options.transactions
        self._reservations = options.reservations
        self._checked = options.checked

    async def append(
        self, call: CallContext, target: IngestTarget, messages: AsyncIterator[bytes]
    ) -> IngestResult:
        """Store an upload's FlightData messages, commit once (or stage it in its transaction), and report.

        Nothing of an upload that fails, is cut off or has other than the expected rows remains. One
        whose idempotency key is known is compared with what was sent then, and answered alike.
        """
        known = self._known(call, target)
        if known is None:
            try:
                return await self._store(call, self._plan(call, target), messages)
            except AlreadyExistsError:
                # Perhaps made by the same upload, which was sent twice at the same time.
                known = self._known(call, target)
                if known is None or call.upload.idempotency_key is None:
                    raise
        return await self._repeat(call, target, known, messages)

    async def _store(
        self, call: CallContext, planned: _Upload, messages: AsyncIterator[bytes]
    ) -> IngestResult:
        dataset_id = planned.existing.id if planned.existing else str(uuid.uuid4())
        terms = call.upload
        request = UploadRequest(
            bucket=planned.space.bucket,
            dataset_id=dataset_id,
            schema=planned.dataset_schema,
            evolves=terms.evolves,
            is_digested=terms.idempotency_key is not None,
            room=room_left(self._names, self._transactions, planned.space.bucket),
        )
        with self._reservations.hold(dataset_id):
            async with (
                _Ending(call) as ending,
                aclosing(ending.after(messages)) as watched,
                self._dispatcher.of(call.identity).upload(request, watched) as upload,
            ):
                faults.reach(faults.Place.INGEST_STORED)
                await ending.check()
                _check_rows(call, sum(stored.rows for stored in upload.objects))
                change = _change(call, planned, dataset_id, upload)
                if checked_append.is_needed(planned.dataset_schema):
                    result = await self._append_checked(call, planned, change, upload)
                else:
                    result = await self._record(call, planned, change, upload)
        faults.reach(faults.Place.INGEST_COMMITTED)
        return result

    def _known(self, call: CallContext, target: IngestTarget) -> tuple[str, IngestResult] | None:
        """Return digest and result of what was sent under the call's idempotency key before."""
        key = call.upload.idempotency_key
        if key is None:
            return None
        transaction = self._transactions.of_ingest(call, target.transaction_id)
        staged = _staged(transaction, key) if transaction is not None else None
        if staged is not None:
            return staged
        found = self._catalog.find_upload(call.identity.name, key)
        return None if found is None else (found[0], _result(target.dataset, found[1]))

    async def _repeat(
        self,
        call: CallContext,
        target: IngestTarget,
        known: tuple[str, IngestResult],
        messages: AsyncIterator[bytes],
    ) -> IngestResult:
        digest, result = known
        snapshot = self._transactions.snapshot(self._transactions.of_ingest(call, target.transaction_id))
        space = self._space(call, target.schema, snapshot)
        digested = await self._dispatcher.of(call.identity).digest(messages)
        upload_key = _upload_key(call, space.name, target, digested)
        if upload_key is not None:
            idempotency.check(upload_key, digest)
        _check_rows(call, result.rows)
        return result

    def _plan(self, call: CallContext, target: IngestTarget) -> _Upload:
        check_dataset_name(target.dataset)
        transaction = self._transactions.of_ingest(call, target.transaction_id)
        snapshot = self._transactions.snapshot(transaction)
        space = self._space(call, target.schema, snapshot)
        existing = self._names.find((space.name,), target.dataset, snapshot)
        name = display_name(space.name, target.dataset)
        if existing is not None and target.mode is IngestMode.CREATE:
            raise AlreadyExistsError(
                f"table {name} already exists: append to it, replace it, or choose another name"
            )
        if existing is None and target.mode is IngestMode.APPEND:
            raise NotFoundError(f"no table {name} to append to: create it with mode create or create_append")
        if existing is not None and existing.kind == Kind.VIEW:
            raise InvalidArgumentError(f"{name} is a view and takes no rows: name a table")
        return _Upload(space, target, existing, transaction)

    def _space(self, call: CallContext, schema: str | None, snapshot: Snapshot) -> Namespace:
        space = self._names.namespace(call.identity, schema or call.namespace, snapshot)
        if schema and call.named_bucket not in (None, space.bucket):
            raise InvalidArgumentError(
                f"the call names bucket {call.named_bucket!r} in its header and {space.name!r} as the "
                "schema: leave one of them out"
            )
        self._names.check_change(call.identity, space)
        return space

    async def _append_checked(
        self, call: CallContext, planned: _Upload, change: DatasetChange, upload: Upload
    ) -> IngestResult:
        """Append by the statement that compares rows with what the dataset declares."""
        results: list[IngestResult] = []

        async def record(made: Sequence[DatasetChange]) -> None:
            (own,) = made
            own = replace(own, upload_key=change.upload_key)
            results.append(await self._record(call, planned, own, upload))

        await self._checked.append(call, planned.transaction, change, record)
        upload.refuse()
        return replace(results[-1], rows=sum(stored.rows for stored in change.objects))

    async def _record(
        self, call: CallContext, planned: _Upload, change: DatasetChange, upload: Upload
    ) -> IngestResult:
        """Commit the change, or stage it."""
        if planned.transaction is not None:
            known = _staged(planned.transaction, change.upload_key.key) if change.upload_key else None
            if known is not None and change.upload_key is not None:
                idempotency.check(change.upload_key, known[0])
                upload.refuse()
                return known[1]
            self._transactions.stage(call, planned.transaction, [change])
            return _staged_result(change)
        name = display_name(change.namespace, change.name)
        summary = f"{change.mode} {name}: {sum(stored.rows for stored in change.objects)} rows"
        (committed,) = await self._committer.commit([change], call.identity.name, summary)
        if committed.is_repeated:
            upload.refuse()
        return _result(planned.target.dataset, committed)


def _check_rows(call: CallContext, rows: int) -> None:
    expected = call.upload.expected_rows
    if expected not in (None, rows):
        raise InvalidArgumentError(
            f"the upload has {rows} rows and x-lakehouse-expected-rows says {expected}: nothing was stored; "
            "it ended too early, or the header is wrong"
        )


def _upload_key(call: CallContext, schema: str, target: IngestTarget, content: str) -> UploadKey | None:
    """Return the caller's key with the digest of everything that makes the upload what it is."""
    if call.upload.idempotency_key is None:
        return None
    parts = [schema, fold_name(target.dataset), target.mode, call.upload.evolves, content]
    return UploadKey(call.upload.idempotency_key, sha256(json.dumps(parts).encode()).hexdigest())


def _change(call: CallContext, planned: _Upload, dataset_id: str, upload: Upload) -> DatasetChange:
    existing, terms = planned.existing, call.upload
    return DatasetChange(
        namespace=planned.space.name,
        name=existing.name if existing else planned.target.dataset,
        bucket=planned.space.bucket,
        mode=ChangeMode(planned.target.mode),
        dataset_id=dataset_id,
        base_version=(existing.version or None) if existing else None,
        schema=upload.schema if terms.evolves else planned.dataset_schema or upload.schema,
        objects=upload.objects,
        evolves=terms.evolves,
        upload_key=_upload_key(call, planned.space.name, planned.target, upload.digest),
    )


def _staged(transaction: Transaction, key: str) -> tuple[str, IngestResult] | None:
    """Return digest and result of the upload that a transaction has staged under a key."""
    for change in transaction.changes:
        if change.upload_key is not None and change.upload_key.key == key:
            return change.upload_key.digest, _staged_result(change)
    return None


def _staged_result(change: DatasetChange) -> IngestResult:
    return IngestResult(
        dataset=change.name,
        bucket=change.bucket,
        version=None,
        commit=None,
        rows=sum(stored.rows for stored in change.objects),
        bytes=sum(stored.bytes for stored in change.objects),
        objects=len(change.objects),
    )


def _result(dataset: str, committed: CommittedChange) -> IngestResult:
    return IngestResult(
        dataset=dataset,
        bucket=committed.namespace,
        version=committed.version,
        commit=committed.commit,
        rows=committed.rows,
        bytes=committed.bytes,
        objects=committed.objects,
    )
