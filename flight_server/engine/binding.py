"""Binds a statement without running it: the one place that uses DuckDB's private binding calls.

`_bind` and `_arrow_schema` give names, types and parameters in well under a millisecond and
never abort a transaction; a test fails when a DuckDB release changes them.

DuckDB stops at the first parameter that nothing in the statement gives a type, and then tells no
type at all. So the others are asked for one by one, and where the types of the values are known,
they are written into the text as casts: neither a NULL nor the digits of a decimal then decide
what the statement returns.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import _duckdb
import duckdb
import pyarrow as pa

from flight_server.domain.recent import RecentMap
from flight_server.domain.sql_types import with_type_names
from flight_server.engine import quote
from flight_server.engine.markers import replaced
from flight_server.engine.types import CASTS, Casts, SqlType, carried, travelling

_SAMPLE = "_types_of_columns"
_REMEMBERED_COLUMNS = 20_000
_UNKNOWN = "UNKNOWN"
_STATEMENT_TYPE = 5
"""Where `_bind` tells the type of a statement."""

_UNRESOLVED = "unknown"
"""How DuckDB names the only column of what it cannot bind yet."""

_OPEN_TYPES = {_UNKNOWN, '"NULL"'}
"""How DuckDB writes the type of a parameter that nothing decides, and of a bare NULL."""

_MAX_INFERRED = 32
"""Of more parameters than these none is asked for by itself."""

_GUESSES = ("VARCHAR", "BIGINT", "DOUBLE", "TIMESTAMP", "DATE", "INTERVAL", "VARCHAR[]")
"""What a parameter without a type is taken for when a statement cannot be bound with NULL."""

_MILLISECONDS = pa.timestamp("ms")
_ZONED_MILLISECONDS = pa.timestamp("ms", "UTC")
_DECLARED_AS: Mapping[str, pa.DataType] = {
    "timestamp": _MILLISECONDS,
    "timestamp_s": _MILLISECONDS,
    "timestamp_ms": _MILLISECONDS,
    "timestamp_ns": _MILLISECONDS,
    "timestamp with time zone": _ZONED_MILLISECONDS,
    "timestamptz_ns": _ZONED_MILLISECONDS,
    "time": pa.time32("ms"),
    "time_ns": pa.time32("ms"),
    "hugeint": pa.int64(),
    "uhugeint": pa.int64(),
    "interval": pa.utf8(),
    "enum": pa.utf8(),
    "union": pa.utf8(),
}
"""Type → how a parameter of it is declared, where that is not how a column of it travels.

JDBC drivers write milliseconds into whatever unit is declared, put no long into a decimal, and cannot
fill the others at all.
"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: its name or number, its type in SQL, and the Arrow type that DuckDB has for that.

    The types are None where nothing in the statement decides them.
    """

    name: str
    kind: str | None
    type: pa.DataType | None


@dataclass(frozen=True, slots=True)
class Binding:
    """What a statement returns and takes.

    `sql` is the text that returns it in types that travel, `text` the same in DuckDB's own types;
    both hold the types of the parameters' values where the statement leaves them open. `parameters`
    is how the `declared` ones are declared to a client.
    """

    schema: pa.Schema
    parameters: pa.Schema
    sql: str = ""
    text: str = ""
    declared: tuple[Parameter, ...] = ()

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The types of the parameters in SQL, None where the statement leaves them open."""
        return tuple(parameter.kind for parameter in self.declared)


def bind(
    cursor: duckdb.DuckDBPyConnection,
    sql: str,
    kinds: Sequence[str | None] | None = None,
    casts: Casts = CASTS,
) -> Binding:
    """Bind one statement; parameters whose type DuckDB cannot tell are utf8.

    `kinds` are the types, in SQL, in which values will be given for the parameters, None for a value
    that is NULL; without them they are those of the statement itself. `casts` are those of its columns.
    """
    found = cursor._bind(sql, with_writes=True, with_type=True)
    names, types, own = found[:3]
    taken = _inferred(cursor, sql, dict(own))
    declared = tuple(_parameter(cursor, name, kind) for name, kind in taken.items())
    given = tuple(parameter.kind for parameter in declared)
    text = sql
    if given != (kinds or given) or any(str(kind) == _UNKNOWN for kind in types):
        text, types = _typed(cursor, sql, declared, kinds or given)
        if names == [_UNRESOLVED]:
            names = _names(cursor, sql, text, declared)
    run = carried(text, types, found[_STATEMENT_TYPE] == "select", casts)
    travelled = types if run == text else _columns(cursor, run, declared)[1]
    # A driver is told the type that a column has in SQL, not the one it travels as.
    schema = with_type_names(_schema(cursor, names, travelled), [str(kind) for kind in _known(types)])
    return Binding(schema, _declaration(cursor, taken), run, text, declared)


_known_types: RecentMap[bytes, tuple[pa.Schema, tuple[str, ...]]] = RecentMap(_REMEMBERED_COLUMNS)


def sql_types(cursor: duckdb.DuckDBPyConnection, schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Return the columns that SQL makes of a schema's, and DuckDB's names of their types."""
    key = schema.serialize().to_pybytes()
    known = _known_types.get(key)
    if known is None:
        cursor.register(_SAMPLE, schema.empty_table())
        try:
            names, types = cursor._bind(f"FROM {_SAMPLE}")[:2]
            known = _schema(cursor, names, types), tuple(str(kind) for kind in types)
        finally:
            cursor.unregister(_SAMPLE)
        _known_types.put(key, known, len(schema))
    columns, written = known
    return columns, [*written]


def _written(name: str) -> str:
    return "$" + (name if name.isdigit() else quote.identifier(name))


def _cast(sql: str, declared: Sequence[Parameter], kinds: Sequence[str | None]) -> str:
    """Write the types of the values into a statement."""
    pairs = [(parameter.name, kind) for parameter, kind in zip(declared, kinds, strict=True)]
    return replaced(
        sql,
        {name: f"CAST({_written(name)} AS {kind})" if kind else _written(name) for name, kind in pairs},
    )


def _typed(
    cursor: duckdb.DuckDBPyConnection,
    sql: str,
    declared: Sequence[Parameter],
    kinds: Sequence[str | None],
) -> tuple[str, list[SqlType]]:
    """Return the text to run for values of these types, and the types of its columns.

    Where NULL does not let DuckDB choose a function, it is a NULL of the first type that does. Where
    the grammar does not take a cast, the text stays as it is.
    """
    guesses = _GUESSES if None in kinds else ()
    texts = [_cast(sql, declared, [kind or guess for kind in kinds]) for guess in (None, *guesses)]
    failures: list[duckdb.Error] = []
    for text in (*texts, sql):
        try:
            return text, _columns(cursor, text, declared)[1]
        except duckdb.Error as error:
            failures.append(error)
    raise failures[0]


def _columns(
    cursor: duckdb.DuckDBPyConnection, text: str, declared: Sequence[Parameter]
) -> tuple[list[str], list[SqlType]]:
    """Return names and types of the columns of a text; parameters that have no type are NULL.

    A struct is one of NULLs: of a NULL, DuckDB tells no types of its fields.
    """
    names, types = cursor._bind(text, with_writes=True, with_type=True)[:2]
    if any(str(kind) == _UNKNOWN for kind in types):
        nulls = {parameter.name: _nulls(parameter.type) for parameter in declared}
        names, types = cursor._bind(text, with_writes=True, with_type=True, values=nulls)[:2]
    return list(names), list(types)


def _nulls(kind: pa.DataType | None) -> object:
    return {field.name: _nulls(field.type) for field in kind} if isinstance(kind, pa.StructType) else None


def _names(
    cursor: duckdb.DuckDBPyConnection, sql: str, text: str, declared: Sequence[Parameter]
) -> list[str]:
    """Return the names of a statement's columns as they are without the casts in its text, if possible.

    Where DuckDB binds with values it numbers names that occur twice, which it does not do otherwise.
    """
    typed = _columns(cursor, text, declared)[0]
    try:
        own = _columns(cursor, sql, declared)[0]
    except duckdb.Error:
        return typed
    return [
        other if re.fullmatch(re.escape(other) + r"_\d+", name) else name
        for name, other in zip(own, typed, strict=True)
    ]


def _inferred(
    cursor: duckdb.DuckDBPyConnection, sql: str, kinds: Mapping[str, SqlType]
) -> Mapping[str, SqlType]:
    """Return the type of each parameter; of those without one, the type it has when the others are NULL."""
    is_open = {name for name, kind in kinds.items() if str(kind) in _OPEN_TYPES}
    if not is_open or not 1 < len(kinds) <= _MAX_INFERRED:
        return kinds
    inferred = dict(kinds)
    for asked in is_open:
        texts = {name: "NULL" if name in is_open - {asked} else _written(name) for name in kinds}
        with suppress(duckdb.Error):
            found = cursor._bind(replaced(sql, texts), with_writes=True, with_type=True)[2]
            inferred |= {name: kind for name, kind in found if name == asked}
    return inferred


def _parameter(cursor: duckdb.DuckDBPyConnection, name: str, kind: SqlType) -> Parameter:
    if str(kind) in _OPEN_TYPES:
        return Parameter(name, None, None)
    if kind.id == "enum":
        return Parameter(name, "VARCHAR", pa.utf8())  # a text that is no member equals none: that is no error
    return Parameter(name, str(kind), _schema(cursor, [name], [kind]).field(0).type)


def _declaration(cursor: duckdb.DuckDBPyConnection, kinds: Mapping[str, SqlType]) -> pa.Schema:
    """Return how parameters are declared to a client."""
    fields: list[pa.Field[Any]] = []
    for name, kind in kinds.items():
        if str(kind) in _OPEN_TYPES:
            declared: pa.DataType = pa.utf8()
        else:
            declared = _DECLARED_AS.get(kind.id) or _travelling(cursor, kind)
        fields.append(pa.field(name, declared))
    return pa.schema(fields)


def _travelling(cursor: duckdb.DuckDBPyConnection, kind: SqlType) -> pa.DataType:
    names, types = cursor._bind(f"SELECT CAST(NULL AS {travelling(kind)})")[:2]
    found: pa.DataType = _schema(cursor, names, types).field(0).type
    return found


def _schema(cursor: duckdb.DuckDBPyConnection, names: Sequence[str], types: Sequence[SqlType]) -> pa.Schema:
    schema: pa.Schema = _duckdb._arrow_schema(list(names), _known(types), connection=cursor)
    return schema


def _known(types: Sequence[SqlType]) -> list[SqlType]:
    text = duckdb.sqltype("VARCHAR")
    return [text if str(kind) in _OPEN_TYPES else kind for kind in types]
