"""The table, for a terminal and as Markdown."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measured
from benchmarks.registry import Goal

_COLUMNS = ("what", "goal", "measured", "", "figures")
_LIBRARIES = ("adbc-driver-flightsql", "duckdb", "grpcio", "lancedb", "pyarrow", "sqlalchemy")
_PLAIN_WIDTH = 180


@dataclass(frozen=True, slots=True)
class Line:
    """One goal with what was measured, or with why it was not."""

    goal: Goal
    measured: Measured | None
    reason: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether measuring ended in an error."""
        return self.reason.startswith("FAILED")

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the line's cells."""
        if self.measured is None:
            return self.goal.figure, self.goal.written(), "-", "", self.reason
        value = self.measured.value
        shown = f"{value:.{self.goal.digits}f}{self.goal.unit}"
        return self.goal.figure, self.goal.written(), shown, self.goal.verdict(value), self.measured.detail


def machine() -> str:
    """Return what the figures depend on: cores, Python, libraries."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {libraries}"


def show(lines: Sequence[Line]) -> None:
    """Print the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    table = Table(*_COLUMNS, caption=machine(), caption_justify="left")
    for line in lines:
        table.add_row(*(cell.replace("[", r"\[") for cell in line.cells()))
    console.print(table)


def markdown(lines: Sequence[Line]) -> str:
    """Return the table as Markdown."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(line.cells() for line in lines)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    head = "# Measured\n\nBy `make bench`; ratios compare medians of one interleaved run."
    return f"{head}\n{machine()}.\n\n{table}\n"
