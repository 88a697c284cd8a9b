"""The progress bar of commands that take long."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_PHASES = {
    "rows": "building the index",
    "index": "building the index",
    "truth": "comparing all rows",
    "search": "measuring searches",
}
"""What servers call a phase of their work → what is shown."""


@contextmanager
def progress_bar(doing: str) -> Iterator[Callable[..., None]]:
    """Show what is done, and of how many if that is known, on standard error while it is a terminal.

    What it yields takes numbers, or a share (0 to 1), and the name of a phase of its own.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(doing, total=None, amount="")

        def advance(done: float, total: float | None = None, phase: str = doing) -> None:
            amount = _amount(done, total)
            progress.update(task, completed=done, total=total, description=phase, amount=amount)

        yield advance


def finished(results: Iterable[dict[str, Any]], doing: str) -> list[dict[str, Any]]:
    """Show the progress that an action tells of, and return its other results."""
    kept = []
    with progress_bar(doing) as advance:
        for said in results:
            if "progress" in said:
                _show(said["progress"], advance)
            else:
                kept.append(said)
    return kept


def _show(told: dict[str, Any], advance: Callable[..., None]) -> None:
    if "phase" in told:
        advance(told["done"], 1.0, _PHASES.get(told["phase"], told["phase"]))
    else:
        advance(told.get("rows", told.get("objects", 0)), told.get("of"))


def _amount(done: float, total: float | None) -> str:
    if isinstance(total, float):
        return f"{done:.0%}"
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"
