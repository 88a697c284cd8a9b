"""Rows about small queries: one client, many clients, beside long queries."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from benchmarks import clients, plain_duckdb
from benchmarks.bench import Bench
from benchmarks.measure import Contender, Measured, interleaved, milliseconds, p50, ratio
from benchmarks.processes import cpu_seconds, first_line, load, running, tell

QUERY = "SELECT g, count(*) AS n, sum(v) AS total FROM testing.small GROUP BY g ORDER BY g"
LONG_QUERY = """SELECT count(*) FROM "primary".wide WHERE md5(md5(md5(name || id))) LIKE 'ab%'"""
CLIENT_PROCESSES = CLIENTS_EACH = 4
_VERY_LONG_SECONDS = 1e6
_LEAD_SECONDS = 0.5


def adbc_select_1(bench: Bench) -> list[Measured]:
    """Compare `SELECT 1` on one ADBC cursor with the floor."""

    def execute(uri: str) -> Callable[[], object]:
        cursor = bench.adbc(uri)

        def run() -> object:
            cursor.execute("SELECT 1")
            return cursor.fetch_arrow_table()

        return run

    calls = bench.sizes.calls
    found = interleaved(
        {
            "server": p50(execute(bench.server.uri), calls),
            "floor": p50(execute(bench.floor_uri), calls),
        },
        bench.sizes.rounds,
    )
    detail = f"{milliseconds(found['server'])} / {milliseconds(found['floor'])}"
    return [Measured(ratio(found["server"], found["floor"]), detail)]


def two_calls(bench: Bench) -> list[Measured]:
    """Compare GetFlightInfo and DoGet of a small group-by with the floor plus plain DuckDB."""
    plain = bench.in_process("small")
    server, floor = bench.flight(bench.server.uri), bench.flight(bench.floor_uri)
    descriptor, calls = clients.statement(QUERY), bench.sizes.calls
    found = interleaved(
        {
            "server": p50(lambda: clients.fetch(server, descriptor), calls),
            "floor": p50(lambda: clients.fetch(floor, descriptor), calls),
            "plain": p50(lambda: plain_duckdb.fetch(plain, QUERY), calls),
        },
        bench.sizes.rounds,
    )
    least = [sum(parts) for parts in zip(found["floor"], found["plain"], strict=True)]
    detail = " / ".join(
        [milliseconds(found["server"]), f"({milliseconds(found['floor'])} + {milliseconds(found['plain'])})"]
    )
    return [Measured(ratio(found["server"], least), detail)]


def many_clients(bench: Bench) -> list[Measured]:
    """Compare queries per second of 16 clients with a `pyarrow.flight` server around DuckDB."""
    plain_uri = bench.plain_uri("small")
    seconds = bench.sizes.load_seconds
    used: list[float] = []
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(
                load(CLIENT_PROCESSES, seconds, "benchmarks.load_client", uri, form, QUERY, str(CLIENTS_EACH))
            )
            for uri, form in ((bench.server.uri, "statement"), (plain_uri, "plain"))
        )

        def measured() -> float:
            before = cpu_seconds(bench.server_processes)
            rate = ours()
            used.append((cpu_seconds(bench.server_processes) - before) / (rate * seconds))
            return rate

        found = interleaved({"server": measured, "plain": theirs}, bench.sizes.slow_rounds)
    detail = (
        f"{median(found['server']):.0f}/s / {median(found['plain']):.0f}/s; "
        f"server CPU per query {milliseconds(used)}"
    )
    return [Measured(ratio(found["server"], found["plain"]), detail)]


def beside_long(bench: Bench) -> list[Measured]:
    """Compare a small query beside one and beside four long ones with the same alone."""
    bench.views("small", "wide")
    client = bench.flight(bench.server.uri)
    descriptor = clients.statement(QUERY)
    once = p50(lambda: clients.fetch(client, descriptor), max(5, bench.sizes.calls // 2))

    def beside(count: int) -> Contender:
        def measured() -> float:
            with _long_queries(bench, count):
                return once()

        return measured

    found = interleaved({"alone": once, "one": beside(1), "four": beside(4)}, bench.sizes.slow_rounds)
    return [
        Measured(
            ratio(found[name], found["alone"]),
            f"{milliseconds(found[name])} / {milliseconds(found['alone'])}",
        )
        for name in ("one", "four")
    ]


@contextmanager
def _long_queries(bench: Bench, count: int) -> Iterator[None]:
    """Keep so many long queries running; killing their clients cancels them."""
    arguments = (bench.server.uri, "statement", LONG_QUERY, str(count))
    with running("benchmarks.load_client", *arguments) as process:
        first_line(process)
        tell(process, str(_VERY_LONG_SECONDS))
        time.sleep(_LEAD_SECONDS)
        try:
            yield
        finally:
            process.kill()
