"""Appends an upload to a dataset that declares keys or checks: by the statement that compares its rows.

The upload waits as objects that only this statement sees; the rows become objects of the dataset by it.
"""

import itertools
import uuid
from contextlib import closing
from dataclasses import dataclass, replace

from flight_server.domain import declarations
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import ChangeMode, DatasetChange
from flight_server.domain.embedding import embedded_fields
from flight_server.domain.staging import Snapshot
from flight_server.errors import LakehouseError
from flight_server.services.query import QueryService
from flight_server.services.statement_targets import Record
from flight_server.services.transactions import Transaction
from flight_server.services.writes import Writes

_COMPARED = frozenset({declarations.PRIMARY_KEY, declarations.UNIQUE, declarations.CHECK})


def is_needed(schema: bytes) -> bool:
    """Tell whether a schema, empty for a new dataset, declares what rows have to be compared with."""
    if declarations.CONSTRAINTS not in schema:
        return False
    return any(item.kind in _COMPARED for item in declarations.constraints(declarations.read(schema)))


@dataclass(frozen=True, slots=True)
class CheckedAppend:
    """Appends uploads whose rows are compared."""

    query: QueryService
    writes: Writes

    async def append(
        self, call: CallContext, transaction: Transaction | None, upload: DatasetChange, record: Record
    ) -> None:
        """Append the rows of an upload, which is the change that it would be without what is declared.

        `record` gets the change to make instead. Outside of a transaction the statement is run again when
        others have changed the dataset meanwhile.
        """
        waiting = replace(
            upload, name=f"upload {uuid.uuid4()}", mode=ChangeMode.CREATE, base_version=None,
            dataset_id=str(uuid.uuid4()), upload_key=None,
        )  # fmt: skip
        sql = f"INSERT INTO {_path(upload)} BY NAME SELECT {_chosen(upload.schema)} FROM {_path(waiting)}"  # noqa: S608
        for attempt in itertools.count(1):
            snapshot = self.writes.transactions.snapshot(transaction)
            seen = Snapshot(snapshot.commit, (*snapshot.changes, waiting))
            with closing(self.writes.targets(call, transaction, seen, record)) as targets:
                try:
                    await self.query.update_at(call, sql, transaction, seen, targets)
                except LakehouseError:
                    if not await self.writes.may_run_again(targets, transaction, attempt):
                        raise
                else:
                    return


def _chosen(schema: bytes) -> str:
    """Return the columns that are appended: those that are computed are computed once more."""
    computed = [_quoted(item.field.name) for item in embedded_fields(declarations.read(schema))]
    return f"* EXCLUDE ({', '.join(computed)})" if computed else "*"


def _path(change: DatasetChange) -> str:
    return ".".join(_quoted(part) for part in (change.namespace, change.name))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
