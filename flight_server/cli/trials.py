"""`flight-server profiles embed|trial|promote|report`: vectors of texts, and how good their indexes are."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from adbc_driver_flightsql import dbapi

from flight_server.cli import connection
from flight_server.cli.progress import progress_bar
from flight_server.cli.tables import read_object, show
from flight_server.errors import FailedPreconditionError

_MEASURED = (
    "trial_id",
    "search_params",
    "recall",
    "latency_p50_ms",
    "latency_p99_ms",
    "qps",
    "status",
    "note",
)

_JOURNAL = """
SELECT table_name, index_type, build_params, k, recall, latency_p50_ms, search_params, promoted_at
FROM sys.trials WHERE profile = ? AND status = 'ok' AND (? IS NULL OR table_name = ?)
ORDER BY table_name, index_type, build_params, recall
"""


@click.command()
@click.argument("profile")
@click.argument("table")
@click.argument("text_column")
@click.option("--vector-column", help="The column to add.  [default: vector]")
@click.option("--embedder", help="What makes the vectors.  [default: wordllama]")
@connection.uri
def embed(
    profile: str, table: str, text_column: str, vector_column: str | None, embedder: str | None, uri: str
) -> None:
    """Add a column of vectors to a table, computed from its texts, now and for every later row."""
    body = {"profile": profile, "table": table, "text_column": text_column, "embedder": embedder}
    with connection.connected(uri) as act, progress_bar("rows") as advance:
        for said in act("embed_column", **body, vector_column=vector_column):
            if "progress" in said:
                advance(said["progress"]["rows"], said["progress"].get("of"))
    click.echo(f"{table}.{said['vector_column']} holds the vectors of {said['rows']:,} texts")


@click.command()
@click.argument("profile")
@click.argument("table")
@click.argument("eval_set")
@click.option("--type", "kind", default="auto", show_default=True, help="hnsw_sq, ivf_rq, …")
@click.option("--params", help="Parameters of the build, as JSON.")
@click.option(
    "--search", "settings", multiple=True, help='Parameters of searches, as in {"ef": 64}; repeat it.'
)
@click.option("--k", default=10, show_default=True, type=click.IntRange(min=1))
@connection.uri
def trial(
    profile: str, table: str, eval_set: str, kind: str, params: str | None,
    settings: Sequence[str], k: int, uri: str,
) -> None:  # fmt: skip
    """Build an index aside, measure searches in it with an eval set, and note the figures in the journal."""
    search = [read_object("--search", text) for text in settings] or None
    build = {"type": kind, **(read_object("--params", params) if params is not None else {})}
    body = {
        "profile": profile,
        "table": table,
        "eval_set": eval_set,
        "index": build,
        "search": search,
        "k": k,
    }
    rows = []
    with connection.connected(uri) as act, progress_bar("percent") as advance:
        for said in act("run_trial", **body):
            if "progress" in said:
                advance(int(said["progress"]["done"] * 100), 100)
            else:
                rows.append(said)
    show(_MEASURED, rows)


@click.command()
@click.argument("profile")
@click.argument("trial_id")
@connection.uri
def promote(profile: str, trial_id: str, uri: str) -> None:
    """Make the index of a trial the one of searches, with its search parameters as the defaults."""
    with connection.connected(uri) as act, progress_bar("percent") as advance:
        for said in act("promote_trial", profile=profile, trial_id=trial_id):
            if "progress" in said:
                advance(int(said["progress"].get("done", 0) * 100), 100)
    click.echo(f"trial {trial_id} is promoted: searches use it now")


@click.command()
@click.argument("profile")
@click.option("--table", help="The one table to report of.  [default: all]")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default="trials.png", show_default=True
)
@connection.uri
def report(profile: str, table: str | None, output: Path, uri: str) -> None:
    """Draw a profile's trials as recall against latency, into a PNG."""
    with dbapi.connect(uri, autocommit=True) as opened, opened.cursor() as cursor:
        cursor.execute(_JOURNAL, [profile, table, table])
        trials = cursor.fetch_arrow_table()
    if not trials.num_rows:
        raise FailedPreconditionError(
            f"the journal of profile {profile} holds no trial that ended well: run one, "
            "flight-server profiles trial --help says how"
        )
    _draw(trials, profile, output)
    click.echo(f"{trials.num_rows} trials are drawn in {output}")


def _draw(trials: pa.Table, profile: str, output: Path) -> None:
    """Draw one line for each index that was built; promoted trials are marked."""
    try:
        figure = import_module("matplotlib.figure").Figure(figsize=(8, 5), layout="constrained")
    except ImportError as error:
        raise FailedPreconditionError(
            "drawing needs matplotlib: pip install 'flight-server[report]'"
        ) from error
    axes = figure.subplots()
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in trials.to_pylist():
        lines.setdefault((row["table_name"], row["index_type"], row["build_params"], row["k"]), []).append(
            row
        )
    for (name, kind, params, k), rows in lines.items():
        label = f"{name}: {kind} {params if params not in (None, '{}') else ''}, k = {k}"
        axes.plot(*_points(rows), marker="o", label=label)
        axes.plot(*_points([row for row in rows if row["promoted_at"]]), "k*", markersize=12)
    axes.set_xlabel("recall")
    axes.set_ylabel("latency of one query, p50, ms")
    axes.set_title(f"trials of profile {profile} (promoted ones: stars)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(output, format="png", dpi=120)


def _points(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return [row["recall"] for row in rows], [row["latency_p50_ms"] for row in rows]
