"""Binds a statement without running it: the one place that uses DuckDB's private binding calls.

`_bind` and `_arrow_schema` give names, types and parameters in well under a millisecond and
never abort a transaction; a test fails when a DuckDB release changes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import _duckdb
import duckdb
import pyarrow as pa

_SAMPLE = "_types_of_columns"
_UNKNOWN = "UNKNOWN"
_OPEN_TYPES = {_UNKNOWN, '"NULL"'}
"""How DuckDB writes the type of a parameter that nothing decides, and of a bare NULL."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a statement returns and takes."""

    schema: pa.Schema
    parameters: pa.Schema

    @property
    def names_parameters(self) -> bool:
        """Whether the parameters have names (`$name`) and not just numbers."""
        return not all(name.isdigit() for name in self.parameters.names)


def bind(cursor: duckdb.DuckDBPyConnection, sql: str, values: Any = None) -> Binding:
    """Bind one query; parameters whose type DuckDB cannot tell are utf8.

    `values` (a list, or a dict for named parameters) give such parameters their type.
    """
    names, types, parameters = cursor._bind(sql, with_writes=True, with_type=True)[:3]
    parameter_schema = _schema(cursor, [name for name, _ in parameters], [kind for _, kind in parameters])
    if any(str(kind) == _UNKNOWN for kind in types) or values is not None:
        values = _samples(parameters) if values is None else values
        names, types = cursor._bind(sql, with_writes=True, with_type=True, values=values)[:2]
    return Binding(_schema(cursor, names, types), parameter_schema)


def sql_types(cursor: duckdb.DuckDBPyConnection, schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Return the columns that SQL makes of a schema's, and DuckDB's names of their types."""
    cursor.register(_SAMPLE, schema.empty_table())
    try:
        names, types = cursor._bind(f"FROM {_SAMPLE}")[:2]
        return _schema(cursor, names, types), [str(kind) for kind in types]
    finally:
        cursor.unregister(_SAMPLE)


def _samples(parameters: Sequence[tuple[str, Any]]) -> Any:
    """Return a NULL for each parameter, of its type where that is known."""
    values = {
        name: None if str(kind) in _OPEN_TYPES else duckdb.Value(None, kind) for name, kind in parameters
    }
    if all(name.isdigit() for name in values):
        return [values[name] for name in sorted(values, key=int)]
    return values


def _schema(cursor: duckdb.DuckDBPyConnection, names: Sequence[str], types: Sequence[Any]) -> pa.Schema:
    text = duckdb.sqltype("VARCHAR")
    known = [text if str(kind) in _OPEN_TYPES else kind for kind in types]
    schema: pa.Schema = _duckdb._arrow_schema(list(names), known, connection=cursor)
    return schema
