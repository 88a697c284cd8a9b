"""Rows about large results: bytes per second, processor time, readers that stall."""

import time
from contextlib import ExitStack
from statistics import median

import pyarrow.flight as fl

from benchmarks import clients, plain_duckdb
from benchmarks.bench import Bench
from benchmarks.measure import Measured, interleaved, ratio
from benchmarks.processes import cpu_seconds, resident_bytes

QUERY = 'FROM "primary".wide'
_SETTLE_SECONDS = 3.0
_MB = 1e6


def stream(bench: Bench) -> list[Measured]:
    """Compare reading a large result to its end with the same in plain DuckDB, seconds and CPU."""
    plain = bench.in_process("wide")
    client = bench.flight(bench.server.uri)
    descriptor = clients.statement(QUERY)
    sizes: list[int] = []
    server_cpu: list[float] = []
    plain_cpu: list[float] = []

    def served() -> float:
        cpu, began = cpu_seconds(bench.server_processes), time.perf_counter()
        sizes.append(clients.drain(client, descriptor))
        took = time.perf_counter() - began
        server_cpu.append(cpu_seconds(bench.server_processes) - cpu)
        return took

    def drained() -> float:
        cpu, began = time.process_time(), time.perf_counter()
        plain_duckdb.drain(plain, QUERY)
        took = time.perf_counter() - began
        plain_cpu.append(time.process_time() - cpu)
        return took

    found = interleaved({"server": served, "plain": drained}, bench.sizes.rounds)
    rates = [f"{sizes[-1] / median(found[name]) / 1e9:.2f} GB/s" for name in ("server", "plain")]
    return [
        Measured(ratio(found["plain"], found["server"]), " / ".join(rates)),
        Measured(ratio(server_cpu, plain_cpu), f"{median(server_cpu):.2f} s / {median(plain_cpu):.2f} s"),
    ]


def stalled_readers(bench: Bench) -> list[Measured]:
    """Open readers that take one batch of a large result and no more; weigh the server."""
    bench.views("wide")
    count = bench.sizes.stalled_readers
    descriptor = clients.statement(QUERY)
    clients.drain(bench.flight(bench.server.uri), descriptor)
    before = resident_bytes(bench.server_processes)
    with ExitStack() as stack:
        readers: list[fl.FlightStreamReader] = []
        for _ in range(count):
            client = stack.enter_context(fl.connect(bench.server.uri))
            readers.append(clients.open_stream(client, descriptor))
            readers[-1].read_chunk()
        time.sleep(_SETTLE_SECONDS)
        grown = resident_bytes(bench.server_processes) - before
        for reader in readers:
            reader.cancel()
    return [Measured(grown / count / _MB, f"{grown / _MB:.0f} MB for {count} readers")]
