"""Makes the Arrow schema of a dataset from definitions in SQL: types, NOT NULL, defaults, constraints."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.declarations import DEFAULT, FOREIGN_KEY, Constraint
from flight_server.domain.sql_types import type_name
from flight_server.engine import quote
from flight_server.engine.alterations import RenameColumn
from flight_server.engine.binding import bind
from flight_server.engine.foreign_keys import ForeignKey, separated
from flight_server.engine.preparation import Preparation
from flight_server.engine.scratch import DefinedColumn, Definition, Definitions
from flight_server.engine.statement import Statement
from flight_server.engine.tokens import Reader
from flight_server.errors import InvalidArgumentError, UnimplementedError
from flight_server.frames.requests import TableName
from flight_server.objects.schema import storable_schema
from flight_server.objects.text_types import JSON, UUID

Cursor = duckdb.DuckDBPyConnection


_KEYWORDS = frozenset({"PRIMARY", "UNIQUE", "CHECK"})


def _named(definitions: str, constraints: Sequence[Constraint]) -> list[Constraint]:
    """Give constraints, in the order of the text, the names in it: DuckDB makes up its own, some twice."""
    tokens = [token for token in Reader(definitions).tokens if token.depth == 0]
    words = [token.word for token in tokens]
    starts = [at for at, word in enumerate(words) if word in _KEYWORDS]
    given = [tokens[at - 1].value if at > 1 and words[at - 2] == "CONSTRAINT" else None for at in starts]
    named: list[Constraint] = []
    for constraint, name in zip(constraints, given, strict=True):
        named.append(replace(constraint, name=name or unused(constraint.name, named)))
    return named


_KEPT = {"UUID": UUID, "JSON": JSON}
"""Types of SQL that a column of their own keeps, though they travel as text → how they are stored."""


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns that those of a result are stored as. Raises InvalidArgumentError."""
    names = [type_name(field) for field in schema]
    refused = [field.name for field, name in zip(schema, names, strict=True) if name.startswith("GEOMETRY")]
    if refused:
        raise InvalidArgumentError(
            f"column {refused[0]!r}: GEOMETRY cannot be stored: store its text, or a BLOB"
        )
    return storable_schema(
        pa.schema(
            field.with_type(_KEPT.get(name, field.type)) for field, name in zip(schema, names, strict=True)
        )
    )


def unused(name: str, constraints: Sequence[Constraint]) -> str:
    """Return a name that none of these constraints has: this one, or one with a number behind it."""
    used = {item.name.lower() for item in constraints}
    names = chain([name], (f"{name}_{number}" for number in count(1)))
    return next(each for each in names if each.lower() not in used)


class DatasetColumns:
    """Reads definitions; every expression in them goes through the gate."""

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._definitions = Definitions()

    def schema(self, cursor: Cursor, statement: Statement, columns: str, path: Sequence[str]) -> pa.Schema:
        """Return the schema of what stands between the brackets of CREATE TABLE.

        Raises InvalidArgumentError.
        """
        text, foreign = separated(columns)
        definition = self.definition(cursor, text, path[-1])
        fields = pa.schema(self.fields(cursor, definition.columns))
        referring = [self._recorded(statement, item, path) for item in foreign]
        for constraint in referring:
            for name in constraint.columns:
                declarations.position(fields, name)
        return declarations.with_constraints(fields, [*_named(text, definition.constraints), *referring])

    def definition(self, cursor: Cursor, columns: str, name: str) -> Definition:
        """Return definitions as DuckDB understands them, with no expression that the gate refuses."""
        definition = self._definitions.check(columns, name)
        for expression in definition.expressions:
            self._preparation.check_expression(cursor, expression)
        constraints = [self._unqualified(cursor, item, name) for item in definition.constraints]
        generated = [column.name for column in definition.columns if column.generated is not None]
        if generated:
            raise UnimplementedError(
                f"column {generated[0]!r} is generated, which datasets do not have: use a view, or a default"
            )
        return replace(definition, constraints=tuple(constraints))

    def _unqualified(self, cursor: Cursor, constraint: Constraint, table: str) -> Constraint:
        """Leave the table's name out of a CHECK: it is another one where rows are written."""
        if constraint.expression is None:
            return constraint
        expression = self._preparation.unqualified(cursor, constraint.expression, table)
        return replace(constraint, expression=expression)

    def renamed(self, columns: str, check: Constraint, action: RenameColumn) -> str:
        """Return the expression of a CHECK over these columns, of which one is renamed."""
        return self._definitions.renamed(columns, check.expression or "", action.name, action.new_name)

    def check(self, cursor: Cursor, expression: str) -> None:
        """Refuse what is no expression of columns and constants. Raises InvalidArgumentError."""
        self._preparation.check_expression(cursor, expression)

    def fields(self, cursor: Cursor, columns: Sequence[DefinedColumn]) -> "list[pa.Field[Any]]":
        """Return the fields that columns are stored as. Raises InvalidArgumentError for other types."""
        nulls = ", ".join(f"CAST(NULL AS {item.kind}) AS {quote.identifier(item.name)}" for item in columns)
        stored = stored_schema(bind(cursor, f"SELECT {nulls}").schema)
        return [
            declarations.with_text(field.with_nullable(item.is_nullable), DEFAULT, item.default)
            for field, item in zip(stored, columns, strict=True)
        ]

    def _recorded(self, statement: Statement, key: ForeignKey, path: Sequence[str]) -> Constraint:
        """Return a foreign key with the full name of the table that it names. Raises NotFoundError."""
        own = tuple(part.lower() for part in path)
        is_own = tuple(part.lower() for part in key.referenced) == own[-len(key.referenced) :]
        full = (
            key.referenced if is_own else tuple(statement.questions.qualify([TableName(key.referenced)])[0])
        )
        name = key.name or f"{path[-1]}_{'_'.join(key.columns)}_fkey"
        return Constraint(FOREIGN_KEY, name, key.columns, None, full, key.referenced_columns)
