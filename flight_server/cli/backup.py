"""`flight-server backup` and `restore`: the catalog as it is at one moment, and back again."""

import asyncio
import json
from pathlib import Path

import click

from flight_server import upkeep
from flight_server.cli import options
from flight_server.cli.progress import progress_bar
from flight_server.services.backup import KEEP_DAYS


@click.command()
@click.argument("place", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option(
    "--keep-days",
    type=click.FloatRange(min=0, min_open=True),
    default=KEEP_DAYS,
    show_default=True,
    help="Days for which sweep leaves the objects of the backup alone.",
)
@options.config
@options.data_dir
def backup(place: Path, keep_days: float, config_file: Path | None, data_dir: Path | None) -> None:
    """Copy the catalog, beside a running server too, into a folder or to a new file.

    Objects are not copied. Prints a JSON report.
    """
    settings = options.settings(config_file, data_dir=data_dir)
    click.echo(json.dumps(upkeep.backup(settings, place, keep_days)))


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace a catalog that is there.")
@options.config
@options.data_dir
def restore(file: Path, force: bool, config_file: Path | None, data_dir: Path | None) -> None:
    """Restore the catalog from a backup, once every object that it names has been found.

    No server may be running. Prints a JSON report.
    """
    settings = options.settings(config_file, data_dir=data_dir)
    with progress_bar("looking for objects") as advance:
        report = asyncio.run(upkeep.restore(settings, file, force, advance))
    click.echo(json.dumps(report))
