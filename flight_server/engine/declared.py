"""Writes what a dataset declares as DuckDB's definitions of columns and constraints."""

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.declarations import DEFAULT, Constraint
from flight_server.engine import quote
from flight_server.engine.binding import sql_types

_KEYWORDS = {declarations.PRIMARY_KEY: "PRIMARY KEY", declarations.UNIQUE: "UNIQUE"}


def column_definitions(
    cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, is_checked: bool = True
) -> Iterator[str]:
    """Yield the definition of each column of a dataset, with NOT NULL where it `is_checked`."""
    _, types = sql_types(cursor, schema)
    for field, kind in zip(schema, types, strict=True):
        default = declarations.text(field, DEFAULT)
        yield (
            f"{quote.identifier(field.name)} {kind}"
            + ("" if default is None else f" DEFAULT ({default})")
            + ("" if field.nullable or not is_checked else " NOT NULL")
        )


def constraint_definitions(constraints: Sequence[Constraint]) -> Iterator[str]:
    """Yield the constraints that DuckDB enforces; a foreign key is not among them."""
    for item in constraints:
        if item.kind == declarations.CHECK:
            yield f"CHECK ({item.expression})"
        elif item.kind in _KEYWORDS:
            yield f"{_KEYWORDS[item.kind]} ({', '.join(map(quote.identifier, item.columns))})"


def definitions(cursor: duckdb.DuckDBPyConnection, schema: pa.Schema) -> str:
    """Return what stands between the brackets of the CREATE TABLE of a dataset."""
    constraints = constraint_definitions(declarations.constraints(schema))
    return ", ".join([*column_definitions(cursor, schema), *constraints])
