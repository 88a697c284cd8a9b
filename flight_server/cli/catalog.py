"""Commands that work on the catalog directly, beside a running server too."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flight_server import app
from flight_server.cli import options
from flight_server.domain.statement import Sweep


@click.command()
@click.option("--dry-run", is_flag=True, help="Report what would change, and change nothing.")
@options.config
@options.data_dir
def migrate(dry_run: bool, config_file: Path | None, data_dir: Path | None) -> None:
    """Bring bucket names and URLs of an old catalog into canonical form.

    Prints a JSON report. Running it again changes nothing.
    """
    settings = options.settings(config_file, data_dir=data_dir)
    click.echo(json.dumps(asyncio.run(app.migrate(settings, dry_run))))


@click.command()
@click.option("--dry-run", is_flag=True, help="Report what would be removed, and remove nothing.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=Sweep().older_than,
    show_default=True,
    help="Seconds since an object without a dataset was written.",
)
@click.option("--bucket", help="The one bucket to sweep.  [default: all]")
@options.config
@options.data_dir
def sweep(
    dry_run: bool, older_than: float, bucket: str | None, config_file: Path | None, data_dir: Path | None
) -> None:
    """Remove expired versions, and objects that belong to no dataset.

    Prints a JSON report. An upload that is running and older than `--older-than` is refused at its end.
    """
    settings = options.settings(config_file, data_dir=data_dir)
    click.echo(json.dumps(asyncio.run(app.sweep(settings, Sweep(bucket, older_than, dry_run)))))


@click.group()
def catalog() -> None:
    """Work on the catalog."""


@catalog.command("import")
@click.argument("manifest", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.config
@options.data_dir
def import_manifest(manifest: Path, config_file: Path | None, data_dir: Path | None) -> None:
    """Load the datasets of a legacy manifest (JSON or Parquet); their objects stay where they are.

    Prints a JSON report.
    """
    settings = options.settings(config_file, data_dir=data_dir)
    with _progress_bar() as advance:
        report = asyncio.run(app.import_manifest(settings, manifest, advance))
    click.echo(json.dumps(report))


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Show (done, total) objects on standard error while it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("reading footers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
