"""One locked in-memory DuckDB instance that can read the local roots of its buckets and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from flight_server.engine import macros, quote
from flight_server.errors import InternalError
from flight_server.frames.requests import is_session, is_system

HIDDEN_SCHEMA = "_v"
"""Schema of the hidden relations: one for each dataset version that statements use."""

SESSION_SCHEMA = "_t"
"""Schema of the hidden tables that sessions keep."""


def hidden_path(relation: str) -> tuple[str, str]:
    """Return where a relation is found: system tables are temporary views of a statement's own cursor."""
    if is_system(relation):
        return "temp", relation
    return SESSION_SCHEMA if is_session(relation) else HIDDEN_SCHEMA, relation


_PROGRESS = {
    "enable_progress_bar_print": "false",  # first: nothing of a statement may be printed
    "enable_progress_bar": "true",
    "progress_bar_time": "0",
}
_STATEMENT_MEMORY = "operator_memory_limit"
_ALLOWED_CONFIGS = ("TimeZone", _STATEMENT_MEMORY, *_PROGRESS)


def measure_progress(cursor: duckdb.DuckDBPyConnection) -> None:
    """Have DuckDB keep the progress of what the cursor runs; it costs a little, so not always."""
    for name, value in _PROGRESS.items():
        cursor.execute(f"SET {name} = {value}")


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """What an instance may use: bytes of memory and of temporary files, threads, folders.

    `statement_bytes` are what the groups of one statement may have in memory, None for any number: DuckDB
    bounds its sorts and joins by the memory of the instance only.
    """

    memory_bytes: int
    temp_bytes: int
    threads: int
    temp_directory: Path
    roots: tuple[Path, ...]
    statement_bytes: int | None = None


class Instance:
    """A locked DuckDB instance; every statement runs on a cursor of its own."""

    def __init__(self, options: InstanceOptions) -> None:
        self._root = duckdb.connect(":memory:")
        self._statement_bytes = options.statement_bytes
        # The database `memory` goes, so that every new cursor starts in `lakehouse`.
        self._root.execute("ATTACH ':memory:' AS lakehouse; USE lakehouse; DETACH memory")
        for schema in (HIDDEN_SCHEMA, SESSION_SCHEMA):
            self._root.execute(f"CREATE SCHEMA {quote.identifier(schema)}")
        with self.cursor() as cursor:
            macros.install(cursor)
        settings = _settings(options)
        for name, value in settings:
            self._root.execute(f"SET GLOBAL {name} = {_literal(value)}")
        self._check(settings)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a cursor; the caller closes it."""
        return self._root.cursor()

    def bound(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Bound what a statement that a cursor runs may have in memory; it costs 0.1 ms."""
        if self._statement_bytes is not None:
            cursor.execute(f"SET {_STATEMENT_MEMORY} = '{self._statement_bytes}B'")

    def close(self) -> None:
        """Close the instance and all its cursors."""
        self._root.close()

    def _check(self, settings: Sequence[tuple[str, Any]]) -> None:
        """Read the locks back; an instance that is not locked must not serve."""
        for name, value in settings:
            if not isinstance(value, bool):
                continue
            row = self._root.execute("SELECT current_setting($1)", [name]).fetchone()
            if row is None or row[0] is not value:
                raise InternalError(f"the engine did not take its setting {name}")


def _settings(options: InstanceOptions) -> list[tuple[str, Any]]:
    """Return the settings in the order in which they must be made."""
    return [
        ("python_enable_replacements", False),
        ("autoinstall_known_extensions", False),
        ("autoload_known_extensions", False),
        ("allow_community_extensions", False),
        ("parquet_metadata_cache", True),
        ("TimeZone", "UTC"),
        ("memory_limit", f"{options.memory_bytes}B"),
        ("max_temp_directory_size", f"{options.temp_bytes}B"),
        ("threads", options.threads),
        ("temp_directory", str(options.temp_directory)),
        ("allowed_directories", [str(root) for root in options.roots]),
        ("allowed_configs", list(_ALLOWED_CONFIGS)),
        ("enable_external_access", False),
        ("lock_configuration", True),
    ]


def _literal(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(quote.text(item) for item in value) + "]"
    return quote.text(value) if isinstance(value, str) else str(value).lower()
