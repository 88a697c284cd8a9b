"""Rows about uploads: bulk and endless."""

from collections.abc import Iterator
from statistics import median

import duckdb
import pyarrow as pa

from benchmarks.bench import Bench
from benchmarks.datasets import BATCH_ROWS, generate, wide_rows
from benchmarks.measure import Measured, interleaved, ratio, seconds
from benchmarks.processes import MemorySampler

_MB = 1e6
_COPY = "COPY (FROM rows) TO '{path}' (FORMAT parquet, COMPRESSION {codec})"


def bulk(bench: Bench) -> list[Measured]:
    """Compare an upload with DuckDB's COPY of the same rows to Parquet with the same codec."""
    rows = generate(wide_rows(0, bench.sizes.ingest_rows)).read_all()
    cursor = bench.adbc(bench.server.uri)

    def reader() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(rows.schema, iter(rows.to_batches(BATCH_ROWS)))

    def upload() -> object:
        return cursor.adbc_ingest("bulk", reader(), mode="replace")

    found = interleaved(
        {
            "server": lambda: seconds(upload),
            "copy": lambda: seconds(lambda: _copy(bench, reader(), "zstd, COMPRESSION_LEVEL 1")),
            "snappy": lambda: seconds(lambda: _copy(bench, reader(), "snappy")),
        },
        bench.sizes.slow_rounds,
    )
    detail = (
        f"{median(found['server']):.2f} s / {median(found['copy']):.2f} s (zstd 1, as the server writes); "
        f"COPY with snappy {median(found['snappy']):.2f} s"
    )
    return [Measured(ratio(found["server"], found["copy"]), detail), _endless(bench)]


def _copy(bench: Bench, rows: pa.RecordBatchReader, codec: str) -> None:
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        connection.execute(_COPY.format(path=bench.folder / "copy.parquet", codec=codec))


def _endless(bench: Bench) -> Measured:
    """Upload one stream for long; compare the server's memory late in it with that early in it."""
    batch = generate(wide_rows(0, BATCH_ROWS)).read_all().combine_chunks().to_batches()[0]

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(bench.sizes.endless_rows // BATCH_ROWS):
            yield batch

    cursor = bench.adbc(bench.server.uri)
    with MemorySampler(bench.server_processes) as memory:
        endless = pa.RecordBatchReader.from_batches(batch.schema, batches())
        cursor.adbc_ingest("endless", endless, mode="replace")
    early, late = memory.quarter(1), memory.quarter(3)
    detail = f"{late / _MB:.0f} MB / {early / _MB:.0f} MB; {bench.sizes.endless_rows / 1e6:.0f} M rows"
    return Measured(late / early, detail)
