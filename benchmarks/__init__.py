"""Measures the server against floors and against plain DuckDB: `python -m benchmarks`."""
