"""What statements change: committed at once, or staged; run again where others came first."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetChange
from flight_server.domain.staging import Snapshot
from flight_server.services.commits import Committer
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import Names
from flight_server.services.rooms import room_left
from flight_server.services.statement_resolution import StatementResolution
from flight_server.services.statement_targets import Record, StatementTargets, Writer, summary
from flight_server.services.transactions import Transaction, TransactionService

ATTEMPTS = 10
"""How often a statement is run whose changes meet those of others."""

_PAUSE_SECONDS = 0.002
"""About how long it waits before the second run; twice as long before each further one."""


@dataclass(frozen=True, slots=True)
class Writes:
    """Makes the changes of statements last."""

    names: Names
    committer: Committer
    transactions: TransactionService
    reservations: Reservations

    def targets(
        self,
        call: CallContext,
        transaction: Transaction | None,
        snapshot: Snapshot,
        record: Record | None = None,
    ) -> StatementTargets:
        """Return what answers for the changes of one run of a statement; the caller closes it.

        They are committed, or staged in the transaction, unless another `record` is given.
        """

        async def make(changes: Sequence[DatasetChange]) -> None:
            if transaction is not None:
                self.transactions.stage(call, transaction, changes)
            else:
                await self.committer.commit(changes, call.identity.name, summary(changes))

        path = self.names.search_path(call, snapshot)
        resolution = StatementResolution(self.names, call.identity, path, snapshot)
        writer = Writer(
            self.names,
            call.identity,
            snapshot,
            call.namespace,
            call.bucket,
            self.reservations,
            partial(room_left, self.names, self.transactions),
        )
        return StatementTargets(resolution, writer, record or make)

    async def may_run_again(
        self, targets: StatementTargets, transaction: Transaction | None, attempt: int
    ) -> bool:
        """Tell, after a while, whether a run that failed is to be repeated on what others have made.

        A transaction keeps its snapshot: it is for the client to begin it anew.
        """
        if not targets.has_moved or transaction is not None or attempt >= ATTEMPTS:
            return False
        await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311 - no secret
        return True
