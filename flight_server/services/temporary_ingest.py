"""Ingest into temporary tables: an upload waits as objects that nobody else sees until its session has it."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import UploadRequest
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import ChangeMode, DatasetChange, IngestMode, Namespace
from flight_server.domain.staging import Snapshot
from flight_server.domain.statement import IngestResult, IngestTarget
from flight_server.errors import CallCancelledError, FailedPreconditionError, InvalidArgumentError
from flight_server.services.query import QueryService
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import Names
from flight_server.services.rooms import room_left
from flight_server.services.transactions import TransactionService

_SCHEMAS = frozenset({None, "", "temp", "main"})
_TEMP = "temp"

_STATEMENTS: Mapping[IngestMode, Sequence[str]] = {
    IngestMode.CREATE: ("CREATE TEMP TABLE {table} AS FROM {upload}",),
    IngestMode.REPLACE: ("CREATE OR REPLACE TEMP TABLE {table} AS FROM {upload}",),
    IngestMode.APPEND: ("INSERT INTO temp.main.{table} BY NAME FROM {upload}",),
    IngestMode.CREATE_APPEND: (
        "CREATE TEMP TABLE IF NOT EXISTS {table} AS FROM {upload} LIMIT 0",
        "INSERT INTO temp.main.{table} BY NAME FROM {upload}",
    ),
}
"""What an engine process is asked to do with an upload."""


@dataclass(frozen=True, slots=True)
class TemporaryIngest:
    """Takes uploads for temporary tables."""

    dispatcher: Dispatcher
    names: Names
    transactions: TransactionService
    reservations: Reservations
    query: QueryService

    async def append(
        self, call: CallContext, target: IngestTarget, messages: AsyncIterator[bytes]
    ) -> IngestResult:
        """Put an upload's rows into a temporary table of the call's session."""
        if target.schema not in _SCHEMAS:
            raise InvalidArgumentError("a temporary table has no schema of its own: leave the schema out")
        dataset_id = str(uuid.uuid4())
        transaction = self.transactions.of_ingest(call, target.transaction_id)
        snapshot = self.transactions.snapshot(transaction)
        space = self._space(call, snapshot)
        with self.reservations.hold(dataset_id):
            room = room_left(self.names, self.transactions, space.bucket)
            request = UploadRequest(space.bucket, dataset_id, b"", room=room)
            async with self.dispatcher.of(call.identity).upload(request, messages) as upload:
                upload.refuse()
                if await call.has_left():
                    raise CallCancelledError("the client went away before its upload was complete")
                change = DatasetChange(
                    space.name, f"upload {dataset_id}", space.bucket, ChangeMode.CREATE, dataset_id, None,
                    upload.schema, upload.objects,
                )  # fmt: skip
                seen = Snapshot(snapshot.commit, (*snapshot.changes, change))
                for text in _STATEMENTS[target.mode]:
                    sql = text.format(
                        table=_quoted(target.dataset), upload=f"{_quoted(space.name)}.{_quoted(change.name)}"
                    )
                    await self.query.update_at(call, sql, transaction, seen)
        rows = sum(stored.rows for stored in change.objects)
        return IngestResult(target.dataset, _TEMP, None, None, rows, 0, 0)

    def _space(self, call: CallContext, snapshot: Snapshot) -> Namespace:
        """Return where an upload can wait: the current bucket, or another that the caller may write."""
        spaces = self.names.namespaces(call.identity, snapshot)
        own = [space for space in spaces if space.name == call.bucket]
        for space in (*own, *spaces):
            if self.names.may_change(call.identity, space):
                return space
        raise FailedPreconditionError(
            "an upload waits in a bucket until its temporary table is there, and you may write none"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
