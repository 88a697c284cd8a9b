"""What it costs to confine engine processes: beside a server whose launcher takes nothing away."""

from benchmarks import clients
from benchmarks.bench import Bench
from benchmarks.measure import Measured, interleaved, milliseconds, p50, ratio
from benchmarks.processes import first_line, running
from benchmarks.small_queries import QUERY


def confined(bench: Bench) -> list[Measured]:
    """Compare a two-call query, which opens objects, with the same one where nothing is confined."""
    bench.views("small")
    data_dir = str(bench.server.data_dir)
    uri = first_line(bench.stack.enter_context(running("benchmarks.unconfined_server", data_dir)))
    ours, theirs, query = bench.flight(bench.server.uri), bench.flight(uri), clients.statement(QUERY)
    found = interleaved(
        {
            "confined": p50(lambda: clients.fetch(ours, query), bench.sizes.calls),
            "unconfined": p50(lambda: clients.fetch(theirs, query), bench.sizes.calls),
        },
        bench.sizes.rounds,
    )
    detail = f"{milliseconds(found['confined'])} / {milliseconds(found['unconfined'])}"
    return [Measured(ratio(found["confined"], found["unconfined"]), detail)]
