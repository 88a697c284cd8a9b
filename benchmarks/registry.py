"""The rows of the table: name, goals, and the function that measures them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import analytics, confinement, ingest, migration, small_queries, streams, upkeep, vectors
from benchmarks.bench import Bench
from benchmarks.measure import Measured


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one figure, None for one that is only shown; `is_least` when more is better."""

    figure: str
    bound: float | None = None
    unit: str = ""
    is_least: bool = False
    digits: int = 2

    def written(self) -> str:
        """Return the goal as the table shows it."""
        if self.bound is None:
            return "-"
        return f"{'≥' if self.is_least else '≤'} {self.bound:g}{self.unit}"

    def verdict(self, value: float) -> str:
        """Say whether a measured value reaches the goal, nothing where there is none."""
        if self.bound is None:
            return ""
        return "met" if (value >= self.bound if self.is_least else value <= self.bound) else "NOT MET"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its name on the command line, its goals, and what measures a value for each."""

    name: str
    goals: tuple[Goal, ...]
    measure: Callable[[Bench], Sequence[Measured]]


ROWS = (
    Row("select-1", (Goal("ADBC `SELECT 1`, p50 / ADBC floor", 1.3),), small_queries.adbc_select_1),
    Row(
        "two-calls",
        (Goal("two-call query from `pyarrow.flight`, p50 / (floor + in-process)", 1.4),),
        small_queries.two_calls,
    ),
    Row(
        "confinement",
        (Goal("two-call query, p50 / without confinement of engine processes", 1.05),),
        confinement.confined,
    ),
    Row(
        "clients",
        (Goal("queries/s with 16 clients / DuckDB inside a `pyarrow.flight` server", 1.0, is_least=True),),
        small_queries.many_clients,
    ),
    Row(
        "stream",
        (
            Goal("6 M-row, 5-column result, GB/s / in-process drain", 0.75, is_least=True),
            Goal("its server CPU / in-process CPU", 1.3),
        ),
        streams.stream,
    ),
    Row(
        "lookup",
        (Goal("point lookup in a cold dataset of 100 objects / in-process `read_parquet`", 1.2),),
        analytics.lookup,
    ),
    Row("tpch", (Goal("TPC-H scale 1, 22 queries, total / in-process", 1.1),), analytics.tpch),
    Row("join", (Goal("cross-bucket join / the same join in-process", 1.15),), analytics.join),
    Row(
        "ingest",
        (
            Goal("bulk ingest of 4 M rows, wall / DuckDB COPY from the same reader", 1.0),
            Goal("resident memory late / early in an endless upload", 1.2),
        ),
        ingest.bulk,
    ),
    Row(
        "appends",
        (
            Goal("1,000 appends of 100 rows, p50 of one", 5, " ms"),
            Goal("scan of them after `compact` / of one object", 1.2),
        ),
        upkeep.appends,
    ),
    Row("update", (Goal("UPDATE of 1 row in 100 objects / in 1 object", 2),), upkeep.update),
    Row(
        "migrate",
        (
            Goal("migrate a catalog of 1,000,000 refs", 10, " s"),
            Goal("its peak of memory / that at a tenth of the refs", 1.2),
        ),
        migration.migrate,
    ),
    Row(
        "beside-long",
        (
            Goal("short query p50 beside 1 long query / alone", 1.3),
            Goal("short query p50 beside 4 long queries / alone", 2.5),
        ),
        small_queries.beside_long,
    ),
    Row("stalled", (Goal("resident memory per stalled reader", 25, " MB"),), streams.stalled_readers),
    Row(
        "activate",
        (
            Goal("activate a 100,000 x 256 profile", 100, " ms"),
            Goal("building its index / activating it", 100, is_least=True),
            Goal("first search after activation / steady p50", 2),
        ),
        vectors.activation,
    ),
    Row(
        "search",
        (
            Goal("single search in process, recall 1.0, p50 / hnswlib at recall ≥ .98", 6),
            Goal("single search through ADBC, recall 1.0, p50 / hnswlib at recall ≥ .98", 6),
            *(Goal(f"recall of 10, {name}", digits=3) for name in vectors.TIERS),
        ),
        vectors.search,
    ),
    Row(
        "search-join", (Goal("`vector_search` joined in SQL, p50 / the LanceDB call alone", 2),), vectors.join
    ),
    Row(
        "searchers",
        (Goal("16 concurrent searchers, queries/s / one search at a time", 2.5, is_least=True),),
        vectors.searchers,
    ),
    Row("search-s3", (Goal("profile on S3, steady p50 / local", 1.5),), vectors.on_s3),
)
