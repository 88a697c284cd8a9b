"""Load a stream of Arrow batches into a chosen bucket through ADBC bulk ingest.

python adbc_ingest.py grpc://127.0.0.1:31337
"""

import sys
from collections.abc import Iterator

import pyarrow as pa
from adbc_driver_flightsql.dbapi import connect

SCHEMA = pa.schema([("n", pa.int64()), ("square", pa.int64())])
BUCKET = {"adbc.flight.sql.rpc.call_header.x-lakehouse-bucket": "testing"}


def batches() -> Iterator[pa.RecordBatch]:
    """Make batches one at a time, so that the whole is never in memory."""
    for start in range(0, 100_000, 10_000):
        n = range(start, start + 10_000)
        yield pa.record_batch({"n": list(n), "square": [i * i for i in n]}, schema=SCHEMA)


def main(uri: str) -> None:
    """Replace the dataset `squares` of the bucket `testing`."""
    with connect(uri, db_kwargs=BUCKET, autocommit=True) as connection, connection.cursor() as cursor:
        rows = cursor.adbc_ingest(
            "squares", pa.RecordBatchReader.from_batches(SCHEMA, batches()), mode="replace"
        )
        print(f"{rows} rows loaded")
        cursor.execute("SELECT max(square) FROM testing.squares")
        print(f"largest square: {cursor.fetchall()[0][0]}")


if __name__ == "__main__":
    main(sys.argv[1])
