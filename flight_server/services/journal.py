"""Rows of our own in datasets of a profile: written as objects like any upload, and committed together."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import UploadRequest
from flight_server.domain.dataset import ChangeMode, DatasetChange, Kind, display_name
from flight_server.domain.identity import Identity
from flight_server.errors import FailedPreconditionError
from flight_server.services import rows
from flight_server.services.commits import Committer
from flight_server.services.reservations import Reservations
from flight_server.services.searched import SearchedDatasets

Rows: TypeAlias = tuple[str, pa.RecordBatch]
"""A dataset's name and what is appended to it."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Appends rows of our own; a dataset is made with its first rows."""

    datasets: SearchedDatasets
    committer: Committer
    dispatcher: Dispatcher
    reservations: Reservations

    async def append(self, identity: Identity, bucket: str, parts: Sequence[Rows], summary: str) -> None:
        """Append to several datasets of a bucket by one commit.

        Raises FailedPreconditionError when one is a view, SchemaMismatchError when it has other columns.
        """
        async with AsyncExitStack() as stack:
            changes = [await self._written(stack, bucket, *part) for part in parts if part[1].num_rows]
            if changes:
                await self.committer.commit(changes, identity.name, summary)

    async def _written(
        self, stack: AsyncExitStack, bucket: str, name: str, batch: pa.RecordBatch
    ) -> DatasetChange:
        existing = self.datasets.names.find((bucket,), name, self.datasets.snapshot())
        if existing is not None and existing.kind != Kind.TABLE:
            raise FailedPreconditionError(
                f"{display_name(bucket, name)} is a view, and rows of trials go into a table of that name: "
                "rename or drop it"
            )
        dataset_id = existing.id if existing is not None else str(uuid.uuid4())
        known = (existing.schema if existing is not None else None) or b""
        stack.enter_context(self.reservations.hold(dataset_id))
        request = UploadRequest(bucket, dataset_id, known, evolves=True)
        engine = self.dispatcher.over(bucket)
        upload = await stack.enter_async_context(engine.upload(request, _messages(batch)))
        return DatasetChange(
            namespace=bucket,
            name=name,
            bucket=bucket,
            mode=ChangeMode.CREATE_APPEND,
            dataset_id=dataset_id,
            base_version=(existing.version or None) if existing is not None else None,
            schema=upload.schema,
            objects=upload.objects,
            evolves=True,
        )


async def _messages(batch: pa.RecordBatch) -> AsyncIterator[bytes]:
    for message in rows.messages(batch):
        yield message
