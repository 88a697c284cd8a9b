"""A plain DuckDB in one process, over the very objects that the server reads."""

import os
from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from benchmarks.datasets import BATCH_ROWS

Views = Mapping[str, Sequence[str]]
"""`bucket.dataset` → the Parquet files that it consists of."""


def object_list(paths: Sequence[str]) -> str:
    """Return the table function that reads a list of objects."""
    return f"read_parquet([{', '.join(repr(path) for path in paths)}])"


def connect(views: Views) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB with the threads and the metadata cache that an engine process has."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {os.cpu_count() or 1}; SET parquet_metadata_cache = true")
    for name, paths in views.items():
        bucket, _, dataset = name.rpartition(".")
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{bucket}"')
        connection.execute(f'CREATE VIEW "{bucket}"."{dataset}" AS FROM {object_list(paths)}')
    return connection


def fetch(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] | None = None
) -> pa.Table:
    """Run a query and fetch all of its rows."""
    reader: pa.RecordBatchReader = connection.sql(sql, params=parameters).to_arrow_reader(BATCH_ROWS)
    return reader.read_all()


def drain(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Run a query, let go of each batch as it comes, and return the bytes of all."""
    return sum(batch.nbytes for batch in connection.sql(sql).to_arrow_reader(BATCH_ROWS))
