"""A session through the ADBC driver."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions, dbapi

from tests.conformance.target import Target, refusals

_SET = ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value
_ALL = ConnectionOptions.OPTION_SESSION_OPTIONS.value


class AdbcSession:
    """One connection with autocommit on; raises RefusedError."""

    def __init__(self, target: Target, headers: Mapping[str, str]) -> None:
        prefix = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
        options = {f"{prefix}{name}": value for name, value in headers.items()}
        options[DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value] = "true"
        if target.username is not None:
            options |= {"username": target.username, "password": target.password}
        self._connection = dbapi.connect(target.uri, db_kwargs=options, autocommit=True)

    def close(self) -> None:
        """Close the connection, which ends its session."""
        self._connection.close()

    def close_session(self) -> int:
        """Do nothing: the driver ends its session when it is closed."""
        return 1

    def ways(self, sql: str, bound: pa.Table | None) -> dict[str, Callable[[], pa.Table]]:
        """Return the ways to run a query; parameters need a prepared statement."""
        prepared: dict[str, Callable[[], pa.Table]] = {"prepared": partial(self.returning, sql, bound)}
        return prepared if bound is not None else {"unprepared": partial(self._query, sql), **prepared}

    def _query(self, sql: str) -> pa.Table:
        with refusals(), self._connection.cursor() as cursor:
            cursor.adbc_statement.set_sql_query(sql)
            stream, _ = cursor.adbc_statement.execute_query()
            return pa.RecordBatchReader.from_stream(stream).read_all()

    def returning(self, sql: str, bound: pa.Table | None) -> pa.Table:
        """Run a statement that gives rows, once."""
        with refusals(), self._connection.cursor() as cursor:
            cursor.execute(sql, bound)
            return cursor.fetch_arrow_table()

    def update(self, sql: str, bound: pa.Table | None) -> int:
        """Run a statement without rows; return how many rows it changed."""
        with refusals(), self._connection.cursor() as cursor:
            if bound is None:
                cursor.execute(sql)
            else:
                cursor.executemany(sql, bound)
            return cursor.rowcount

    def ingest(self, table: str, mode: str, rows: pa.Table, said: Mapping[str, Any]) -> int:
        """Load rows in bulk; return how many."""
        # The driver sends nothing at all where there is no batch, not even the command.
        batches = rows.to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]
        with refusals(), self._connection.cursor() as cursor:
            return cursor.adbc_ingest(
                table,
                pa.RecordBatchReader.from_batches(rows.schema, batches),
                mode=mode,
                catalog_name=said.get("catalog"),
                db_schema_name=said.get("schema"),
                temporary=said.get("temporary", False),
            )

    def begin(self) -> None:
        """Turn autocommit off."""
        with refusals():
            self._connection.adbc_connection.set_autocommit(False)

    def commit(self) -> None:
        """Commit, and turn autocommit on again."""
        self._end(self._connection.adbc_connection.commit)

    def rollback(self) -> None:
        """Roll back, and turn autocommit on again."""
        self._end(self._connection.adbc_connection.rollback)

    def _end(self, end: Callable[[], None]) -> None:
        with refusals():
            end()
            self._connection.adbc_connection.set_autocommit(True)

    def set_options(self, values: Mapping[str, str]) -> dict[str, int]:
        """Set options of the session; none are refused."""
        with refusals():
            self._connection.adbc_connection.set_options(**{_SET + name: v for name, v in values.items()})
        return {}

    def show_options(self) -> dict[str, str]:
        """Return the options of the session that are texts."""
        with refusals():
            return _Shown(self._connection)


class _Shown(dict[str, str]):
    """Options of a session, asked for one at a time."""

    def __init__(self, connection: dbapi.Connection) -> None:
        super().__init__()
        self._connection = connection

    def __missing__(self, name: str) -> str:
        with refusals():
            return str(self._connection.adbc_connection.get_option(_SET + name))
