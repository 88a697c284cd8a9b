"""Binds prepared texts and remembers what they return: the same for the same text, settings and types."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from flight_server.domain.recent import RecentMap
from flight_server.domain.session import DICTIONARIES
from flight_server.engine import parameters
from flight_server.engine.binding import Binding, bind
from flight_server.engine.ready import Ready, weight
from flight_server.engine.statement import Statement
from flight_server.engine.types import CASTS, DICTIONARY_CASTS
from flight_server.errors import InvalidArgumentError

_CACHED_BYTES = 64 * 1024 * 1024


Announce = Callable[[], None]
"""Makes what a text reads known to its cursor; called before each binding that is not remembered."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a statement returns and takes, and the values to run it with, row by row."""

    binding: Binding
    values: parameters.BoundParameters | None

    def rows(self) -> Iterator[parameters.Values | None]:
        """Yield the values of each run. Raises InvalidArgumentError when none were bound."""
        if self.values is not None:
            return self.values.rows()
        if self.binding.declared:
            raise InvalidArgumentError(
                f"the statement takes {len(self.binding.declared)} parameters, none are bound"
            )
        return iter([None])


class Bindings:
    """Binds; safe for threads."""

    def __init__(self) -> None:
        self._known: RecentMap[object, Binding] = RecentMap(_CACHED_BYTES)

    def open(
        self, cursor: duckdb.DuckDBPyConnection, ready: Ready, statement: Statement, announce: Announce
    ) -> Binding:
        """Bind a text as it is before its parameters have values."""
        return self._bind(cursor, ready, statement, None, announce)

    def bound(
        self, cursor: duckdb.DuckDBPyConnection, ready: Ready, statement: Statement, announce: Announce
    ) -> Bound:
        """Bind a text for the values that were bound to its parameters."""
        binding = self.open(cursor, ready, statement, announce)
        if not statement.messages:
            return Bound(binding, None)
        values = parameters.read(cursor, statement.messages, binding.declared)
        return Bound(self._bind(cursor, ready, statement, values.kinds, announce), values)

    def _bind(
        self,
        cursor: duckdb.DuckDBPyConnection,
        ready: Ready,
        statement: Statement,
        kinds: tuple[str | None, ...] | None,
        announce: Announce,
    ) -> Binding:
        key = (ready.sql, statement.caller.settings, kinds)
        binding = self._known.get(key) if ready.is_shared else None
        if binding is None:
            announce()
            keeps = (DICTIONARIES, "true") in statement.caller.settings
            casts = DICTIONARY_CASTS if keeps else CASTS
            binding = _shown(bind(cursor, ready.sql, kinds, casts), ready)
            if ready.is_shared:
                self._known.put(key, binding, weight(ready.sql))
        return binding


def _shown(binding: Binding, ready: Ready) -> Binding:
    """Give columns that DuckDB names after their expression the client's names for datasets."""
    names = [ready.shown(name) if '"' in name else name for name in binding.schema.names]
    if names == binding.schema.names:
        return binding
    fields = [field.with_name(name) for field, name in zip(binding.schema, names, strict=True)]
    return replace(binding, schema=pa.schema(fields))
