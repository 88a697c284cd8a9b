"""How large the measured things are: as the goals say, or small for a smoke test."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows, counts and seconds of all rows of the table."""

    rounds: int = 7
    calls: int = 100
    load_seconds: float = 3.0
    small_rows: int = 10_000
    stream_rows: int = 6_000_000
    scattered_objects: int = 100
    orders: int = 4_000_000
    customers: int = 200_000
    ingest_rows: int = 4_000_000
    endless_rows: int = 40_000_000
    appends: int = 1_000
    stalled_readers: int = 20
    refs: int = 1_000_000
    tpch_scale: str = "1"
    slow_rounds: int = 5
    vectors: int = 100_000
    vector_queries: int = 200


FULL = Sizes()

QUICK = Sizes(
    rounds=2,
    calls=5,
    load_seconds=0.3,
    small_rows=1_000,
    stream_rows=500_000,
    scattered_objects=5,
    orders=50_000,
    customers=1_000,
    ingest_rows=200_000,
    endless_rows=2_000_000,
    appends=10,
    stalled_readers=3,
    refs=20_000,
    tpch_scale="0.01",
    slow_rounds=1,
    vectors=2_000,
    vector_queries=20,
)
