"""Definitions of columns as DuckDB understands them: created in an instance that holds nothing else."""

import threading
from dataclasses import dataclass

import duckdb

from flight_server.engine.tokens import Reader
from flight_server.engine.waiting import Check, held
from flight_server.errors import InvalidArgumentError

_TABLE = "t"
_EXPRESSIONS = """
    SELECT column_default FROM duckdb_columns() WHERE NOT internal
    UNION ALL SELECT generation_expression FROM duckdb_columns() WHERE NOT internal
    UNION ALL SELECT expression FROM duckdb_constraints()
"""


@dataclass(frozen=True, slots=True)
class Definition:
    """The text between the brackets of CREATE TABLE as DuckDB writes it, and the expressions in it."""

    columns: str
    expressions: tuple[str, ...]


class Definitions:
    """Checks definitions; `_lock` guards the instance, which is made at the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None

    def check(self, columns: str, wanted: Check) -> Definition:
        """Return a definition as DuckDB understands it; `wanted` ends a wait. Raises InvalidArgumentError."""
        with held(self._lock, wanted):
            if self._instance is None:
                self._instance = _locked()
            return _understood(self._instance, columns)


def _locked() -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(":memory:")
    for setting in ("memory_limit='64MB'", "enable_external_access=false", "lock_configuration=true"):
        instance.execute(f"SET {setting}")
    return instance


def _understood(instance: duckdb.DuckDBPyConnection, columns: str) -> Definition:
    statement = f"CREATE TABLE {_TABLE} ({columns}\n)"
    if len(instance.extract_statements(statement)) != 1:
        raise InvalidArgumentError("the definitions of the columns cannot be read")
    instance.begin()
    try:
        instance.execute(statement)
        (sql,) = instance.execute("SELECT sql FROM duckdb_tables()").fetchall()[0]
        expressions = instance.execute(_EXPRESSIONS).fetchall()
    finally:
        instance.rollback()
    return Definition(columns_of(str(sql)), tuple(found for (found,) in expressions if found is not None))


def columns_of(sql: str) -> str:
    """Return the definitions of the columns in a CREATE TABLE as DuckDB writes it."""
    text = Reader(sql)
    text.take("CREATE", "TABLE")
    text.name()
    return text.brackets()
