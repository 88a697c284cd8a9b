"""The data that rows read: each dataset as the uploads that make it, one object each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import duckdb
import pyarrow as pa

from benchmarks.sizes import Sizes

BATCH_ROWS = 65_536

Uploads: TypeAlias = Iterator[pa.RecordBatchReader]


@dataclass(frozen=True, slots=True)
class Source:
    """The bucket of a dataset, and what is uploaded to make it."""

    bucket: str
    uploads: Callable[[Sizes], Uploads]


def wide_rows(begin: int, end: int) -> str:
    """Return SQL for rows of five columns of different types, 37 bytes each as Arrow."""
    return f"""
        SELECT range AS id, (hash(range) % 1000)::INTEGER AS code,
               (hash(range + 1) % 1000000)::DOUBLE / 100 AS price,
               DATE '2020-01-01' + (range % 1500)::INTEGER AS day,
               'item-' || range % 5000 AS name
        FROM range({begin}, {end})
    """


def generate(sql: str) -> pa.RecordBatchReader:
    """Return the rows of a query that reads nothing."""
    reader: pa.RecordBatchReader = duckdb.connect().sql(sql).to_arrow_reader(BATCH_ROWS)
    return reader


def _small(sizes: Sizes) -> Uploads:
    yield generate(
        f"SELECT range AS id, (range % 16)::INTEGER AS g, range / 7 AS v FROM range({sizes.small_rows})"
    )


def _wide(sizes: Sizes) -> Uploads:
    yield generate(wide_rows(0, sizes.stream_rows))


def _scattered(sizes: Sizes) -> Uploads:
    for number in range(sizes.scattered_objects):
        yield generate(wide_rows(number * 10_000, (number + 1) * 10_000))


def _orders(sizes: Sizes) -> Uploads:
    yield generate(
        f"SELECT range AS id, (hash(range) % {sizes.customers})::BIGINT AS customer, "
        f"(hash(range + 1) % 10000)::DOUBLE AS amount FROM range({sizes.orders})"
    )


def _customers(sizes: Sizes) -> Uploads:
    yield generate(
        f"SELECT range AS id, 'region-' || range % 25 AS region, 'customer ' || range AS name "
        f"FROM range({sizes.customers})"
    )


SOURCES: Mapping[str, Source] = {
    "small": Source("testing", _small),
    "wide": Source("primary", _wide),
    "scattered": Source("primary", _scattered),
    "orders": Source("primary", _orders),
    "customers": Source("testing", _customers),
}
