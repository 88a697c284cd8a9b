"""Options that several commands share."""

from pathlib import Path
from typing import Any

import click

from flight_server.config import Settings, load

config = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file with settings; without it no file is read.",
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the catalog and of the default buckets.  [default: ./data]",
)


def settings(config_file: Path | None, **overrides: Any) -> Settings:
    """Load the settings; options that were not given override nothing.

    Raises ConfigError.
    """
    return load(config_file, {name: value for name, value in overrides.items() if value is not None})
