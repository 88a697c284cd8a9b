"""Commands that work on the catalog directly, beside a running server too."""

import asyncio
import json
from pathlib import Path

import click

from flight_server import upkeep
from flight_server.cli import options
from flight_server.cli.progress import progress_bar
from flight_server.domain.compaction import Compaction
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
    click.echo(json.dumps(asyncio.run(upkeep.migrate(settings, dry_run))))


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
    with progress_bar("looking at objects") as advance:
        report = asyncio.run(upkeep.sweep(settings, Sweep(bucket, older_than, dry_run), advance))
    click.echo(json.dumps(report))


@click.command("compact")
@click.option("--bucket", help="The one bucket or schema to compact.  [default: all]")
@click.option("--dataset", help="The one dataset to compact.  [default: all]")
@click.option("--sort-by", help="Columns, with commas between, that become the sort key of the dataset.")
@options.config
@options.data_dir
def compact(
    bucket: str | None,
    dataset: str | None,
    sort_by: str | None,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Merge small objects of datasets into larger ones, beside a running server too.

    Prints a JSON report.
    """
    settings = options.settings(config_file, data_dir=data_dir)
    columns = None if sort_by is None else tuple(filter(None, (name.strip() for name in sort_by.split(","))))
    with progress_bar("rows") as advance:
        report = asyncio.run(upkeep.compact(settings, Compaction(bucket, dataset, columns), advance))
    click.echo(json.dumps(report))


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
    with progress_bar("reading footers") as advance:
        report = asyncio.run(upkeep.import_manifest(settings, manifest, advance))
    click.echo(json.dumps(report))
