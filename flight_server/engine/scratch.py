"""Definitions of columns as DuckDB understands them: created in an instance that holds nothing else."""

import threading
from dataclasses import dataclass

import duckdb

from flight_server.domain.declarations import CHECK, PRIMARY_KEY, UNIQUE, Constraint
from flight_server.engine import quote
from flight_server.engine.tokens import Reader
from flight_server.engine.waiting import Check, held, patiently
from flight_server.errors import InvalidArgumentError

_COLUMNS = """
    SELECT column_name, data_type, is_nullable, column_default, generation_expression
    FROM duckdb_columns() WHERE NOT internal ORDER BY column_index
"""
_CONSTRAINTS = """
    SELECT constraint_type, constraint_name, constraint_column_names, expression
    FROM duckdb_constraints() ORDER BY constraint_index
"""
_KINDS = {"PRIMARY KEY": PRIMARY_KEY, "UNIQUE": UNIQUE, "CHECK": CHECK}


@dataclass(frozen=True, slots=True)
class DefinedColumn:
    """A column; `kind` is its type in SQL, `default` and `generated` are expressions."""

    name: str
    kind: str
    is_nullable: bool
    default: str | None
    generated: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What stands between the brackets of CREATE TABLE: as DuckDB writes it, and what it means."""

    text: str
    columns: tuple[DefinedColumn, ...]
    constraints: tuple[Constraint, ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        """All expressions in it."""
        found = [column.default for column in self.columns]
        found += [column.generated for column in self.columns]
        found += [constraint.expression for constraint in self.constraints]
        return tuple(expression for expression in found if expression is not None)


class Definitions:
    """Checks definitions; `_lock` guards the instance, which is made at the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None

    def check(self, columns: str, name: str = "t", wanted: Check = patiently) -> Definition:
        """Return the definition of a table as DuckDB understands it; `wanted` ends a wait.

        Raises InvalidArgumentError.
        """
        with held(self._lock, wanted):
            if self._instance is None:
                self._instance = _locked()
            return _understood(self._instance, columns, name)

    def renamed(self, columns: str, check: str, column: str, new_name: str) -> str:
        """Return the expression of a CHECK over columns, of which one gets another name."""
        old, new = quote.identifier(column), quote.identifier(new_name)
        with self._lock:
            instance = self._instance = self._instance or _locked()
            instance.begin()
            try:
                instance.execute(f"CREATE TABLE t ({columns}, CHECK ({check}\n))")
                instance.execute(f"ALTER TABLE t RENAME COLUMN {old} TO {new}")
                found = instance.execute(_CONSTRAINTS).fetchall()
            finally:
                instance.rollback()
        return next(str(expression) for kind, _, _, expression in found if kind == "CHECK")


def _locked() -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(":memory:")
    for setting in ("memory_limit='64MB'", "enable_external_access=false", "lock_configuration=true"):
        instance.execute(f"SET {setting}")
    return instance


def _understood(instance: duckdb.DuckDBPyConnection, columns: str, name: str) -> Definition:
    statement = f"CREATE TABLE {quote.identifier(name)} ({columns}\n)"
    if len(instance.extract_statements(statement)) != 1:
        raise InvalidArgumentError("the definitions of the columns cannot be read")
    instance.begin()
    try:
        instance.execute(statement)
        (sql,) = instance.execute("SELECT sql FROM duckdb_tables()").fetchall()[0]
        described = instance.execute(_COLUMNS).fetchall()
        promised = instance.execute(_CONSTRAINTS).fetchall()
    finally:
        instance.rollback()
    constraints = tuple(
        Constraint(_KINDS[kind], own, tuple(names), expression)
        for kind, own, names, expression in promised
        if kind in _KINDS
    )
    return Definition(columns_of(str(sql)), tuple(DefinedColumn(*row) for row in described), constraints)


def columns_of(sql: str) -> str:
    """Return the definitions of the columns in a CREATE TABLE as DuckDB writes it."""
    text = Reader(sql)
    text.take("CREATE", "TABLE")
    text.name()
    return text.brackets()
