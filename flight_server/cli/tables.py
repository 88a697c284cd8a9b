"""Tables that commands print, and the JSON that they are given."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_AS_WIDE_AS_NEEDED = 1000


def read_object(_ctx: click.Context, option: click.Parameter, text: Any) -> Any:
    """Read the JSON object, or the objects, that an option was given: a callback. Raises BadParameter."""
    if text is None or isinstance(text, tuple):
        return [read_object(_ctx, option, each) for each in text] if text else None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f'{text!r} is not JSON, such as {{"ef": 64}}: {error}') from error
    if not isinstance(value, dict):
        raise click.BadParameter(f'{text!r} is no JSON object, such as {{"ef": 64}}')
    return value


def shown_params(params: Mapping[str, Any]) -> str:
    """Write parameters of a build or a search for people."""
    return ", ".join(f"{name} {value}" for name, value in params.items()) or "defaults"


def show(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table: key → heading. Columns without any value are left out.

    It is as wide as it has to be: an id that is cut off is of no use.
    """
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    used = [name for name in columns if any(row.get(name) is not None for row in rows)]
    for name in used:
        is_number = any(isinstance(row.get(name), int | float) for row in rows)
        shown.add_column(columns[name], justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(_text(row.get(name)) for name in used))
    Console(width=_AS_WIDE_AS_NEEDED).print(shown, highlight=False)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return shown_params(value)
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str("" if value is None else value)
