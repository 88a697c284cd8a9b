"""Interleaved measurements, medians, and the ratios between them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Contender = Callable[[], float]
"""Measures once and returns seconds, or whatever else is compared."""


class LeftOutError(Exception):
    """A row cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of a row, and the absolute figures that it was made from."""

    value: float
    detail: str


def interleaved(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Run every contender once in each round, in alternating order, after one round to warm up."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(-1, rounds):
        for name in names if number % 2 else reversed(names):
            value = contenders[name]()
            if number >= 0:
                found[name].append(value)
    return found


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Return the median of the ratios of each round: what slows a whole round cancels out."""
    return median(above / below for above, below in zip(of, to, strict=True))


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def p50(call: Callable[[], object], calls: int) -> Contender:
    """Return a contender that calls so many times and gives the median of their seconds."""
    return lambda: median(seconds(call) for _ in range(calls))


def milliseconds(values: Sequence[float]) -> str:
    """Write the median of seconds as milliseconds."""
    return f"{median(values) * 1e3:.2f} ms"
