"""The temporary tables and views of a session, for those who list tables; nobody else sees them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.domain.call import CallContext
from flight_server.domain.session import TEMPORARY_TABLE, TEMPORARY_VIEW
from flight_server.domain.sql_types import encoded
from flight_server.domain.statement import SqlStatement
from flight_server.services.sessions import SessionService

TEMPORARY_CATALOG, TEMPORARY_SCHEMA = "temp", "main"
LOCAL_TEMPORARY, VIEW = "LOCAL TEMPORARY", "VIEW"

_TYPES = {TEMPORARY_TABLE: LOCAL_TEMPORARY, TEMPORARY_VIEW: VIEW}

Describe = Callable[[CallContext, SqlStatement], Awaitable[bytes]]
"""A query → the schema of its rows, as an encapsulated IPC message; nothing is run."""


@dataclass(frozen=True, slots=True)
class TemporaryTable:
    """A temporary table or view, and which of the types of tables it has."""

    name: str
    type: str


class TemporaryTables:
    """Lists what sessions keep; an engine process describes the columns."""

    def __init__(self, sessions: SessionService, describe: Describe) -> None:
        self._sessions = sessions
        self._describe = describe

    def list(self, call: CallContext) -> Sequence[TemporaryTable]:
        """Return the temporary tables and views of the call's session, in order of type and name."""
        session = self._sessions.find(call.session_id)
        holdings = session.holdings if session is not None else ()
        found = [TemporaryTable(held.name, _TYPES[held.kind]) for held in holdings if held.kind in _TYPES]
        return sorted(found, key=lambda table: (table.name, table.type))

    async def schema(self, call: CallContext, name: str) -> bytes:
        """Return a table's schema as CommandGetTables gives it."""
        quoted = name.replace('"', '""')
        message = await self._describe(call, SqlStatement(f'FROM temp.main."{quoted}"'))
        place = encoded(
            {
                "CATALOG_NAME": TEMPORARY_CATALOG,
                "DB_SCHEMA_NAME": TEMPORARY_SCHEMA,
                "SCHEMA_NAME": TEMPORARY_SCHEMA,
                "TABLE_NAME": name,
                "IS_READ_ONLY": "0",
            }
        )
        fields = pa.ipc.read_schema(pa.py_buffer(message))
        kept: list[Any] = [dict(field.metadata or {}) | place for field in fields]
        described = pa.schema(
            field.with_metadata(metadata) for field, metadata in zip(fields, kept, strict=True)
        )
        return described.serialize().to_pybytes()
