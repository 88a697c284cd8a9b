"""Bulk ingest by CommandStatementIngest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.domain.dataset import CATALOG, IngestMode
from flight_server.domain.statement import IngestTarget
from flight_server.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    LakehouseError,
    NotFoundError,
    SchemaMismatchError,
    UnimplementedError,
)
from flight_server.flight.routes import Messages
from flight_server.flight.wire import messages
from flight_server.flight.wire.commands import StatementIngest

if TYPE_CHECKING:
    from flight_server.services.ingest import IngestService
    from flight_server.services.temporary_ingest import TemporaryIngest


# TableDefinitionOptions: if_not_exist
_CREATE, _FAIL_IF_MISSING = 1, 2
# TableDefinitionOptions: if_exists
_FAIL_IF_PRESENT, _APPEND, _REPLACE = 1, 2, 3

_MODES: Mapping[tuple[int, int], IngestMode] = {
    (_CREATE, _FAIL_IF_PRESENT): IngestMode.CREATE,
    (_CREATE, _APPEND): IngestMode.CREATE_APPEND,
    (_CREATE, _REPLACE): IngestMode.REPLACE,
    (_FAIL_IF_MISSING, _APPEND): IngestMode.APPEND,
}

_REFUSED: Mapping[tuple[int, int], tuple[type[LakehouseError], str]] = {
    (_FAIL_IF_MISSING, _FAIL_IF_PRESENT): (
        InvalidArgumentError,
        "these table definition options fail whether the table exists or not",
    ),
    (_FAIL_IF_MISSING, _REPLACE): (
        UnimplementedError,
        "replacing only a table that exists is not served; let if_not_exist be CREATE",
    ),
}


@dataclass(frozen=True, slots=True)
class IngestHandlers:
    """Answers CommandStatementIngest."""

    ingest: "IngestService"
    temporary: "TemporaryIngest"

    async def put(self, call: CallContext, command: StatementIngest, sent: Messages) -> bytes:
        """Load a stream into a table and return the number of rows."""
        target = _target(command)
        try:
            service = self.temporary if command.temporary else self.ingest
            result = await service.append(call, target, sent)
        except SchemaMismatchError as error:
            if target.mode is not IngestMode.CREATE_APPEND:
                raise
            # what ADBC's own validation suite expects of its mode create_append
            raise AlreadyExistsError(error.message) from error
        return messages.encode("DoPutUpdateResult", record_count=result.rows)


def _target(command: StatementIngest) -> IngestTarget:
    if command.catalog is not None and command.catalog != CATALOG:
        raise NotFoundError(f"no catalog {command.catalog[:100]!r}; the catalog here is {CATALOG!r}")
    if not command.table:
        raise InvalidArgumentError("the ingest command names no table")
    return IngestTarget(command.table, command.schema, _mode(command), command.transaction_id)


def _mode(command: StatementIngest) -> IngestMode:
    options = (command.if_not_exist, command.if_exists)
    if options in _REFUSED:
        error, message = _REFUSED[options]
        raise error(message)
    if options not in _MODES:
        raise InvalidArgumentError(
            "the ingest command must say what to do if the table exists (FAIL, APPEND or REPLACE) "
            "and if it does not (CREATE or FAIL)"
        )
    return _MODES[options]
