"""Bounds of products: how near each of many vectors can be at most, from a part of its values.

The vectors are turned so that their first coordinates hold most of them (principal axes). By Cauchy and
Schwarz what is left out adds to a product of two vectors at most the product of the lengths of what is left
out of each. So three eighths of the bytes tell of nearly all vectors that they are not among the nearest; no
answer depends on it. Bounds are wide enough for all rounding, by the worst case of a sum of n products.
"""

from dataclasses import dataclass

import numpy as np

from flight_server.vectors.source import Floats, Ints

LEAST_ROWS = 16_384
LEAST_DIM = 64
"""Below these all vectors are compared in the time that bounds take."""

_SHARES = (3 / 8, 1 / 4)
"""Of 100,000 texts the first part of their vectors leaves one in 150, both leave one in 2,000."""

_SAMPLE_ROWS = 8_192
_ROWS_AT_ONCE = 8_192
_SMALLEST, _LARGEST = 1e-12, 1e12
_ROUNDING = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Vectors in two parts: coordinates along the `axes` [dim, n], then the length of what is left out.

    The second part's coordinates follow on those of the first.
    """

    axes: Floats
    first: Floats
    second: Floats

    @property
    def bytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.axes.nbytes + self.first.nbytes + self.second.nbytes

    @property
    def slack(self) -> float:
        """How much of the product of two lengths a bound may be too low by."""
        return _slack(*self.axes.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """Queries as bounds compare them, in the two parts of `Bounds`."""

    first: Floats
    second: Floats


def part_columns(dim: int) -> tuple[int, int]:
    """Return how many columns each part has, with that of the lengths."""
    first, second = (int(dim * share) for share in _SHARES)
    return first, second


def bounds(vectors: Floats, norms: Floats) -> Bounds | None:
    """Return bounds of vectors, None where they are too few, too short, or of odd lengths."""
    rows, dim = vectors.shape
    if rows < LEAST_ROWS or dim < LEAST_DIM or not are_plain(norms[norms != 0]):
        return None
    columns = part_columns(dim)
    axes = _axes(vectors[:: -(-rows // _SAMPLE_ROWS)], sum(columns) - 2)
    first, second = (np.empty((rows, count), np.float32) for count in columns)
    for at in range(0, rows, _ROWS_AT_ONCE):
        group = slice(at, at + _ROWS_AT_ONCE)
        first[group], second[group] = _parts(axes, vectors[group])
    return Bounds(axes, first, second)


def are_plain(lengths: Floats) -> bool:
    """Tell whether products of vectors of these lengths neither overflow nor vanish."""
    return bool(((lengths > _SMALLEST) & (lengths < _LARGEST)).all())


def turned(own: Bounds, queries: Floats) -> Turned:
    """Return queries as bounds compare them."""
    return Turned(*_parts(own.axes, queries))


def closer(own: Bounds, query: tuple[Floats, Floats], before: Floats, places: Ints | None) -> Floats:
    """Return closer bounds of vectors at some places, None for all, from those `before`."""
    first, second = query
    left_out, part = own.first[:, -1], own.second
    if places is not None:
        left_out, part = left_out[places], part[places]
    found: Floats = before - left_out * first[-1] + part @ second
    return found


def _axes(sample: Floats, count: int) -> Floats:
    exact = sample.astype(np.float64)
    lengths = np.sqrt(np.square(exact).sum(axis=1))
    exact = exact[lengths > 0] / lengths[lengths > 0, None]
    _, found = np.linalg.eigh(exact.T @ exact)
    return np.ascontiguousarray(found[:, ::-1][:, :count], np.float32)


def _parts(axes: Floats, vectors: Floats) -> tuple[Floats, Floats]:
    dim, count = axes.shape
    turned, end = vectors @ axes, part_columns(dim)[0] - 1
    squares = np.square(vectors, dtype=np.float64).sum(axis=1)
    spare = squares * _slack(dim, count)
    found = []
    for part in (turned[:, :end], turned[:, end:]):
        squares = squares - np.square(part, dtype=np.float64).sum(axis=1)
        left_out = np.sqrt(np.maximum(squares, 0) + spare)
        found.append(np.column_stack([part, left_out.astype(np.float32)]))
    return found[0], found[1]


def _slack(dim: int, count: int) -> float:
    return 4 * (float(np.sqrt(count)) + 1) * dim * _ROUNDING
