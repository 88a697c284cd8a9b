"""How the constraints of a dataset stand in `duckdb_constraints()` and in its CREATE TABLE."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from flight_server.domain.declarations import (
    CHECK,
    FOREIGN_KEY,
    PRIMARY_KEY,
    UNIQUE,
    Constraint,
    constraints,
    keys,
)
from flight_server.engine import quote

_NOT_NULL = "NOT NULL"

Row = tuple[Any, ...]
"""Index, type, text, expression, indexes and names of columns, name, referenced table, referenced columns."""


def rows(schema: pa.Schema) -> Iterator[Row]:
    """Yield the constraints of a dataset's schema, NOT NULL of its columns among them."""
    places = {name.lower(): at for at, name in enumerate(schema.names)}
    declared = constraints(schema)
    for index, item in enumerate(declared):
        at = [places[name.lower()] for name in item.columns if name.lower() in places]
        table = item.referenced[-1] if item.referenced else None
        yield (
            index, item.kind.upper().replace("_", " "), text(item), item.expression, at, list(item.columns),
            item.name, table, list(item.referenced_columns),
        )  # fmt: skip
    for index, field in enumerate((field for field in schema if not field.nullable), len(declared)):
        at, names = [places[field.name.lower()]], [field.name]
        yield index, _NOT_NULL, _NOT_NULL, None, at, names, f"{field.name}_not_null", None, []


def text(constraint: Constraint) -> str:
    """Return a constraint as a CREATE TABLE has it."""
    return _TEXTS[constraint.kind](constraint)


def primary_key(schema: pa.Schema) -> frozenset[str]:
    """Return the folded names of the columns of the primary key."""
    found = (item.columns for item in keys(schema) if item.kind == PRIMARY_KEY)
    return frozenset(name.lower() for columns in found for name in columns)


def _columns(names: tuple[str, ...]) -> str:
    return f"({', '.join(quote.identifier(name) for name in names)})"


def _reference(item: Constraint) -> str:
    return f"FOREIGN KEY {_columns(item.columns)} REFERENCES {quote.path(item.referenced)}" + (
        _columns(item.referenced_columns) if item.referenced_columns else ""
    )


_TEXTS: Mapping[str, Callable[[Constraint], str]] = {
    PRIMARY_KEY: lambda item: f"PRIMARY KEY{_columns(item.columns)}",
    UNIQUE: lambda item: f"UNIQUE{_columns(item.columns)}",
    CHECK: lambda item: f"CHECK({item.expression})",
    FOREIGN_KEY: _reference,
}
