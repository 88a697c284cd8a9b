"""Ingest: an upload becomes objects of one dataset, recorded by one commit."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from flight_server.dispatch.dispatcher import Dispatcher, Upload
from flight_server.domain.bucket import Bucket
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import Dataset, DatasetChange, IngestMode, display_name
from flight_server.domain.statement import IngestResult, IngestTarget
from flight_server.errors import (
    AlreadyExistsError,
    CallCancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from flight_server.services.commits import Committer
from flight_server.services.resolution import Names, Snapshot, check_dataset_name
from flight_server.services.transactions import Transaction, TransactionService


@dataclass(frozen=True, slots=True)
class _Upload:
    """An upload that may begin: where it goes and what it found there."""

    bucket: Bucket
    target: IngestTarget
    existing: Dataset | None
    transaction: Transaction | None

    @property
    def dataset_schema(self) -> bytes:
        """The schema that the upload must have; empty when it may bring its own."""
        if self.existing is None or self.target.mode is IngestMode.REPLACE:
            return b""
        return self.existing.schema or b""


class IngestService:
    """Takes uploads."""

    def __init__(
        self, dispatcher: Dispatcher, names: Names, committer: Committer, transactions: TransactionService
    ) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._committer = committer
        self._transactions = transactions

    async def append(
        self, call: CallContext, target: IngestTarget, messages: AsyncIterator[bytes]
    ) -> IngestResult:
        """Store an upload's FlightData messages, commit once (or stage it in its transaction), and report.

        Nothing of an upload that fails or is cut off remains.
        """
        planned = self._plan(call, target)
        dataset_id = planned.existing.id if planned.existing else str(uuid.uuid4())
        async with self._dispatcher.upload(
            planned.bucket.name, dataset_id, planned.dataset_schema, messages
        ) as upload:
            # A killed client's stream looks complete at first: only now is its end known to be one.
            if call.is_cancelled():
                raise CallCancelledError("the client went away before its upload was complete")
            change = _change(planned, dataset_id, upload)
            version, commit = await self._record(call, planned, change)
        return IngestResult(
            dataset=target.dataset,
            bucket=planned.bucket.name,
            version=version,
            commit=commit,
            rows=sum(stored.rows for stored in change.objects),
            bytes=sum(stored.bytes for stored in change.objects),
            objects=len(change.objects),
        )

    def _plan(self, call: CallContext, target: IngestTarget) -> _Upload:
        check_dataset_name(target.dataset)
        bucket = self._bucket(call, target.schema)
        transaction = self._transaction(call, target)
        existing = self._names.find((bucket.name,), target.dataset, self._snapshot(transaction))
        name = display_name(bucket.name, target.dataset)
        if existing is not None and target.mode is IngestMode.CREATE:
            raise AlreadyExistsError(
                f"table {name} already exists: append to it, replace it, or choose another name"
            )
        if existing is None and target.mode is IngestMode.APPEND:
            raise NotFoundError(f"no table {name} to append to: create it with mode create or create_append")
        return _Upload(bucket, target, existing, transaction)

    def _bucket(self, call: CallContext, schema: str | None) -> Bucket:
        bucket = self._names.namespace(call.identity, schema or call.bucket)
        if schema and call.named_bucket not in (None, bucket.name):
            raise InvalidArgumentError(
                f"the call names bucket {call.named_bucket!r} in its header and {bucket.name!r} as the "
                "schema: leave one of them out"
            )
        if not call.identity.may("write", bucket.name):
            raise PermissionDeniedError(f"bucket {bucket.name} may be read by you but not written")
        if bucket.read_only:
            raise FailedPreconditionError(f"bucket {bucket.name} is read-only")
        return bucket

    def _transaction(self, call: CallContext, target: IngestTarget) -> Transaction | None:
        if target.transaction_id is not None:
            return self._transactions.get(call, target.transaction_id)
        return self._transactions.of_session(call)

    def _snapshot(self, transaction: Transaction | None) -> Snapshot:
        if transaction is None:
            return Snapshot(self._committer.newest())
        return Snapshot(self._transactions.snapshot(transaction), tuple(transaction.changes))

    async def _record(
        self, call: CallContext, planned: _Upload, change: DatasetChange
    ) -> tuple[int | None, int | None]:
        """Commit the change, or stage it; return the dataset's version and the commit."""
        if planned.transaction is not None:
            self._transactions.stage(call, planned.transaction, change)
            return None, None
        name = display_name(change.namespace, change.name)
        summary = f"{change.mode} {name}: {sum(stored.rows for stored in change.objects)} rows"
        (committed,) = await self._committer.commit([change], call.identity.name, summary)
        return committed.version, committed.commit


def _change(planned: _Upload, dataset_id: str, upload: Upload) -> DatasetChange:
    existing = planned.existing
    return DatasetChange(
        namespace=planned.bucket.name,
        name=existing.name if existing else planned.target.dataset,
        bucket=planned.bucket.name,
        mode=planned.target.mode,
        dataset_id=dataset_id,
        base_version=existing.version if existing else None,
        schema=planned.dataset_schema or upload.schema,
        objects=upload.objects,
    )
