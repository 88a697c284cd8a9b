"""Exact search: distances of many vectors to a few, and the nearest of them.

Distances are first estimated for all vectors by one matrix product in single precision; whatever may be
among the nearest by its error bound is then computed in double precision. So a vector has one distance to
a query, whatever it was searched with, and ties are broken by place alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flight_server.domain.vector import Metric
from flight_server.vectors.source import Floats, Ints, Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 64
_GATHERED_SHARE = 4
_ROUNDING = float(np.finfo(np.float32).eps)
_PRECISE_ROWS = 8192
_SAME = 1e-13
"""Below this a distance by cosine is rounding: the vectors have one direction."""

_PRODUCT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Vectors [rows, dim] as they were stored, with their lengths."""

    vectors: Floats
    norms: Floats

    @property
    def bytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.vectors.nbytes + self.norms.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """Positions in a matrix with their distances, in no order; at least the k nearest, with all ties."""

    positions: Ints
    distances: Floats


def matrix(vectors: Floats) -> Matrix:
    """Return vectors with their lengths; not finite is that of one with NaN, or with values beyond 1e18."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Matrix(vectors, np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def nearest(
    held: Matrix, queries: Floats, metric: Metric, k: int, chosen: Mask | None = None
) -> list[Nearest]:
    """Return for each query the nearest of the chosen vectors, None for all.

    Under cosine vectors without a direction are never near.
    """
    chosen = _with_direction(held, metric, chosen)
    places = None if chosen is None else np.flatnonzero(chosen)
    if places is not None and len(places) * _GATHERED_SHARE < len(held.vectors):
        part = Matrix(held.vectors[places], held.norms[places])
        found = nearest(part, queries, metric, k)
        return [Nearest(places[item.positions], item.distances) for item in found]
    step = max(1, _PRODUCT_BYTES // (4 * max(1, len(held.vectors))))
    found = []
    for at in range(0, len(queries), step):
        group = queries[at : at + step]
        estimates = _estimates(held, group, metric)
        if chosen is not None:
            np.copyto(estimates, np.inf, where=~chosen)
        found += [
            _sharpened(held, query, metric, k, row) for query, row in zip(group, estimates, strict=True)
        ]
    return found


def _with_direction(held: Matrix, metric: Metric, chosen: Mask | None) -> Mask | None:
    if metric is not Metric.COSINE or held.norms.all():
        return chosen
    return held.norms > 0 if chosen is None else chosen & (held.norms > 0)


def _estimates(held: Matrix, queries: Floats, metric: Metric) -> Floats:
    """Return distances [queries, rows] in single precision; cosine's are times the query's length."""
    products: Floats = (held.vectors @ queries[0])[None] if len(queries) == 1 else queries @ held.vectors.T
    if metric is Metric.COSINE:
        np.divide(products, held.norms, out=products, where=held.norms > 0)
    if metric is Metric.L2:
        products *= 2
        products -= held.norms * held.norms
    return np.negative(products, out=products)


def _sharpened(held: Matrix, query: Floats, metric: Metric, k: int, estimates: Floats) -> Nearest:
    limit = _kth_smallest(estimates, k) + _error(held, query, metric)
    places = np.flatnonzero(np.isfinite(estimates) if np.isinf(limit) else estimates <= limit)
    distances = np.concatenate(
        [
            distances_to(held.vectors[places[at : at + _PRECISE_ROWS]], query, metric)
            for at in range(0, max(1, len(places)), _PRECISE_ROWS)
        ]
    )
    if len(places) > 2 * k:
        near = distances <= np.partition(distances, k - 1)[k - 1]
        places, distances = places[near], distances[near]
    return Nearest(places, distances)


def _kth_smallest(values: Floats, k: int) -> float:
    """Return a bound that at least k of the values do not exceed, and few more.

    The k-th smallest of the minima of chunks is one, and is found in a sixth of the time.
    """
    whole = len(values) // _CHUNK
    if whole <= 4 * k:
        return float(np.partition(values, k - 1)[k - 1]) if len(values) > k else np.inf
    minima = values[: whole * _CHUNK].reshape(whole, _CHUNK).min(axis=1)
    return float(np.partition(minima, k - 1)[k - 1])


def _error(held: Matrix, query: Floats, metric: Metric) -> float:
    """Return twice how far an estimate may be off."""
    longest = float(held.norms.max(initial=0))
    length = float(np.linalg.norm(query.astype(np.float64)))
    scale = {
        Metric.COSINE: length,
        Metric.DOT: longest * length,
        Metric.L2: (longest + length) ** 2,
    }[metric]
    return 2 * _ROUNDING * len(query) * scale


def distances_to(vectors: Floats, query: Floats, metric: Metric) -> Floats:
    """Return the distance of each vector to a query, as `Metric` defines it, computed in double precision."""
    exact, other = vectors.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        found: NDArray[np.float64] = np.square(exact - other).sum(axis=1)
    else:
        products = np.einsum("ij,j->i", exact, other)
        found = 1 - products
        if metric is Metric.COSINE:
            lengths = np.sqrt(np.square(exact).sum(axis=1) * np.square(other).sum())
            found = 1 - products / lengths
            found[found < _SAME] = 0
    return found.astype(np.float32)
