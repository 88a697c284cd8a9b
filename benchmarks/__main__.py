"""Measures rows of the table and prints it: `python -m benchmarks [row …] [--quick]`."""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.measure import LeftOutError
from benchmarks.registry import ROWS, Row
from benchmarks.sizes import FULL, QUICK, Sizes

_RESULTS = Path(__file__).parent / "results" / "latest.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure; a full run of all rows is also written to `benchmarks/results/latest.md`."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and print the table.")
    parser.add_argument("rows", nargs="*", metavar="row", help=f"all when none is named: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: the figures mean nothing")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.rows) - set(names)):
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(names)}")
    rows = [row for row in ROWS if not chosen.rows or row.name in chosen.rows]
    lines = _measure(rows, QUICK if chosen.quick else FULL)
    report.show(lines)
    if not chosen.quick and len(rows) == len(ROWS):
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_text(report.markdown(lines), encoding="utf-8")
    sys.exit(any(line.has_failed for line in lines))


def _measure(rows: Sequence[Row], sizes: Sizes) -> list[report.Line]:
    console = Console(stderr=True)
    lines: list[report.Line] = []
    for row in rows:
        began = time.monotonic()
        with ExitStack() as stack:
            lines += _lines(row, Bench(sizes, stack))
        console.print(f"{row.name}: {time.monotonic() - began:.0f} s", highlight=False)
    return lines


def _lines(row: Row, bench: Bench) -> list[report.Line]:
    try:
        measured = row.measure(bench)
    except LeftOutError as error:
        return [report.Line(goal, None, f"not measured: {error}") for goal in row.goals]
    except Exception as error:
        traceback.print_exc()
        return [report.Line(goal, None, f"FAILED: {type(error).__name__}") for goal in row.goals]
    return [report.Line(goal, value) for goal, value in zip(row.goals, measured, strict=True)]


if __name__ == "__main__":
    main()
