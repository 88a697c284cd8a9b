"""`flight-server profiles report`: a profile's trials as a chart."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from adbc_driver_flightsql import dbapi

from flight_server.cli import connection
from flight_server.errors import FailedPreconditionError

_JOURNAL = """
SELECT table_name, "column", dataset_version, num_rows, dim, distance_type, eval_set, eval_set_version,
  num_queries, k, index_type, build_params, search_params, recall, latency_p50_ms, promoted_at
FROM sys.trials
WHERE profile = ? AND status = 'ok' AND (table_name = ? OR ? IS NULL)
ORDER BY started_at
"""


@click.command()
@click.argument("profile")
@click.option("--table", help="The one table to report of.  [default: all]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="trials.png",
    show_default=True,
    help="The file to write, a PNG.",
)
@connection.uri
def report(profile: str, table: str | None, output: Path, uri: str) -> None:
    """Draw a profile's trials as recall against latency, into a PNG.

    What can be compared (one version of a table, one eval set, one k) has a panel of its own, the newest
    first. Each index that was built is a line, each setting of searches a point of it: up and left is
    better. A star is what was promoted. Of a trial that was run again the newest is drawn. Needs matplotlib.

    \b
    Example:
      flight-server profiles report ann --table docs --output docs.png
    """
    draw = _chart().draw
    with connection.connected(uri) as act:
        name = connection.profile_name(act, profile)
    trials = _journal(uri, name, table)
    drawn = draw(trials, name, output)
    click.echo(f"{output} shows {drawn:,} of {len(trials):,} trials of profile {name}")


def _chart() -> Any:
    """Import what needs matplotlib, which few installations have."""
    try:
        return import_module("flight_server.cli.chart")
    except ImportError as error:
        raise FailedPreconditionError(
            "drawing needs matplotlib: pip install 'flight-server[report]'"
        ) from error


def _journal(uri: str, profile: str, table: str | None) -> list[dict[str, Any]]:
    """Return the trials that ended well, the oldest first. Raises FailedPreconditionError without any."""
    try:
        with (
            dbapi.connect(uri, connection.adbc_options(), autocommit=True) as opened,
            opened.cursor() as cursor,
        ):
            cursor.execute(_JOURNAL, [profile, table, table])
            rows = cursor.fetch_arrow_table().to_pylist()
    except dbapi.Error as error:
        raise FailedPreconditionError(str(error)) from error
    if not rows:
        of = profile if table is None else f"{profile} of table {table}"
        raise FailedPreconditionError(
            f"no trial of profile {of} has ended well: run one with `flight-server profiles trial`"
        )
    decoded = ("build_params", "search_params")
    return [row | {name: json.loads(row[name] or "{}") for name in decoded} for row in rows]
