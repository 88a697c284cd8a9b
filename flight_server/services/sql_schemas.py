"""The schema that SQL gives a dataset, known without asking for each: types are asked for once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.domain.identity import Identity
from flight_server.domain.recent import RecentMap
from flight_server.domain.sql_types import column_metadata, encoded, with_type_names

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class SqlColumnType:
    """A type as queries return it, its name in DuckDB, and what Flight SQL says of such columns."""

    arrow: Any
    name: str
    metadata: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class SqlSchema:
    """A schema as queries return it, and what is known of each column's type."""

    schema: pa.Schema
    columns: tuple["SqlColumnType", ...]

    @property
    def message(self) -> bytes:
        """The schema as an encapsulated IPC message."""
        return self.schema.serialize().to_pybytes()


class SqlSchemas:
    """Maps schemas as they are stored to those of SQL; remembers types, and whole schemas by their bytes."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._types: RecentMap[Any, SqlColumnType] = RecentMap(_REMEMBERED)
        self._known: RecentMap[bytes, SqlSchema] = RecentMap(_REMEMBERED)

    async def get(self, identity: Identity, stored: Iterable[bytes | None]) -> dict[bytes | None, SqlSchema]:
        """Return SQL's schema of each stored one (encapsulated IPC messages); None has no columns.

        All types that are new are asked of the caller's engine process in one question.
        """
        found: dict[bytes | None, SqlSchema] = {None: SqlSchema(pa.schema([]), ())}
        unseen: dict[bytes, pa.Schema] = {}
        for message in stored:
            known = self._known.get(message) if message is not None else None
            if known is not None:
                found[message] = known
            elif message is not None and message not in unseen:
                unseen[message] = pa.ipc.read_schema(pa.py_buffer(message))
        types = await self._sql_types(identity, (kind for schema in unseen.values() for kind in schema.types))
        for message, schema in unseen.items():
            columns = tuple(types[kind] for kind in schema.types)
            fields = [
                pa.field(name, column.arrow) for name, column in zip(schema.names, columns, strict=True)
            ]
            named = with_type_names(pa.schema(fields), [column.name for column in columns])
            found[message] = SqlSchema(named, columns)
            self._known.put(message, found[message])
        return found

    async def _sql_types(self, identity: Identity, kinds: Iterable[Any]) -> dict[Any, SqlColumnType]:
        known = {kind: self._types.get(kind) for kind in kinds}
        unseen = [kind for kind, column in known.items() if column is None]
        found = {kind: column for kind, column in known.items() if column is not None}
        if unseen:
            asked = pa.schema([pa.field(str(at), kind) for at, kind in enumerate(unseen)])
            message, names = await self._dispatcher.of(identity).types(asked.serialize().to_pybytes())
            answered = pa.ipc.read_schema(pa.py_buffer(message)).types
            for kind, sql_type, name in zip(unseen, answered, names, strict=True):
                found[kind] = SqlColumnType(sql_type, name, encoded(column_metadata(name)))
                self._types.put(kind, found[kind])
        return found
