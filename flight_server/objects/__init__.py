"""Parquet objects in the buckets: where they lie, how they are validated and written."""
