"""`flight-server profiles embed|trial|promote`: vectors of texts, and how good their indexes are."""

from typing import Any

import click

from flight_server.cli import connection
from flight_server.cli.progress import finished
from flight_server.cli.tables import read_object, show, shown_params
from flight_server.domain.vector import IndexKind

_MEASURED = {
    "trial_id": "trial",
    "search_params": "search",
    "recall": "recall",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "qps": "qps",
    "note": "note",
}
_KINDS = [kind.value for kind in IndexKind if kind is not IndexKind.FTS]


@click.command()
@click.argument("profile")
@click.argument("table")
@click.argument("text_column")
@click.option("--vector-column", help="The column to add.  [default: vector]")
@click.option("--embedder", help="What makes the vectors.  [default: the only one, else wordllama]")
@connection.uri
def embed(
    profile: str, table: str, text_column: str, vector_column: str | None, embedder: str | None, uri: str
) -> None:
    """Add a column of vectors to a table, computed from its texts, now and for every later row.

    \b
    Example:
      flight-server profiles embed ann docs text
    """
    body = {"profile": profile, "table": table, "text_column": text_column, "embedder": embedder}
    with connection.connected(uri) as act:
        (said,) = finished(act("embed_column", **body, vector_column=vector_column), "embedding texts")
    done = f"{said['rows']:,} texts are embedded" if said["rows"] else "no text was left to embed"
    click.echo(f"{table}.{said['vector_column']}: {done}")


@click.command()
@click.argument("profile")
@click.argument("table")
@click.argument("eval_set")
@click.option("--type", "kind", type=click.Choice(_KINDS), default=_KINDS[0], show_default=True)
@click.option("--params", callback=read_object, metavar="JSON", help="Parameters of the build.")
@click.option(
    "--search", callback=read_object, metavar="JSON", multiple=True, help="Parameters of searches; repeat it."
)
@click.option("--k", default=10, show_default=True, type=click.IntRange(min=1), help="Rows to find.")
@connection.uri
def trial(
    profile: str, table: str, eval_set: str, kind: str, params: dict[str, Any] | None,
    search: list[dict[str, Any]] | None, k: int, uri: str,
) -> None:  # fmt: skip
    """Build an index aside, measure searches in it with an eval set, and note the figures in the journal.

    Searches of others notice nothing. The action put_eval_set stores eval sets.

    \b
    Examples:
      flight-server profiles trial ann docs questions
      flight-server profiles trial ann docs questions --type hnsw_sq --params '{"m": 32}' \\
          --search '{"ef": 64}' --search '{"ef": 256}'
      flight-server profiles trial ann docs questions --type ivf_sq --search '{"nprobes": 10, "refine": 2}'
    """
    body = {"profile": profile, "table": table, "eval_set": eval_set, "search": search, "k": k}
    with connection.connected(uri) as act:
        rows = finished(act("run_trial", **body, index={**(params or {}), "type": kind}), "waiting")
    show(_MEASURED, rows)


@click.command()
@click.argument("profile")
@click.argument("trial_id")
@connection.uri
def promote(profile: str, trial_id: str, uri: str) -> None:
    """Make the index of a trial the one of searches, with its search parameters as the defaults.

    `flight-server profiles trial` shows the ids, and so does sys.trials in SQL.
    """
    with connection.connected(uri) as act:
        (said,) = finished(act("promote_trial", profile=profile, trial_id=trial_id), "waiting")
    searched = f"searches use it with {shown_params(said['search'])}"
    click.echo(f"{said['table']}.{said['column']}: {said['type']} of {said['rows']:,} rows; {searched}")
