"""Tables that commands print, and the JSON that they are given."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_FILE_WIDTH = 200


def read_object(option: str, text: str) -> dict[str, Any]:
    """Read a JSON object that was given for an option. Raises BadParameter."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from error
    if not isinstance(value, dict):
        raise click.BadParameter('a JSON object is needed, such as {"m": 32}', param_hint=option)
    return value


def show(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        is_number = any(isinstance(row.get(name), int | float) for row in rows)
        shown.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(_text(row.get(name)) for name in columns))
    # A file has no width that cells could be cut to.
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(shown)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str("" if value is None else value)
