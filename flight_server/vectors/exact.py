"""Exact search: distances of many vectors to a few, and the nearest of them.

Distances are first estimated in single precision, for all vectors or for those that their bounds do not
exclude (`bounds.py`); whatever may be among the nearest by its error bound is then computed in double
precision. So a vector has one distance to a query, whatever it was searched with, and ties are broken by
place alone.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flight_server.domain.vector import Metric
from flight_server.vectors.bounds import (
    LEAST_DIM,
    LEAST_ROWS,
    Bounds,
    are_plain,
    bounds,
    closer,
    part_columns,
    turned,
)
from flight_server.vectors.source import Floats, Ints, Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 64
_GATHERED_SHARE = 4
_GATHERED_SHARE_OF_BOUNDED = 64
_LEFT_OUT = 128
"""Bounds are of use while the nearest are fewer than one of so many vectors."""

_TRIED = 24
_ROUNDING = float(np.finfo(np.float32).eps)
_PRECISE_ROWS = 8192
_SAME = 1e-13
"""Below this a distance by cosine is rounding: the vectors have one direction."""

_PRODUCT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Vectors [rows, dim] as they were stored, with their lengths; `bounds` spare looking at most of them."""

    vectors: Floats
    norms: Floats
    bounds: Bounds | None = None

    @property
    def bytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.vectors.nbytes + self.norms.nbytes + (self.bounds.bytes if self.bounds else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """Positions in a matrix with their distances, in no order; at least the k nearest, with all ties."""

    positions: Ints
    distances: Floats


def matrix(vectors: Floats) -> Matrix:
    """Return vectors with their lengths; not finite is that of one with NaN, or with values beyond 1e18."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Matrix(vectors, np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def bounded(held: Matrix) -> Matrix:
    """Return vectors that will be searched again and again, with bounds if they are worth it."""
    return replace(held, bounds=bounds(held.vectors, held.norms))


def bytes_expected(rows: int, dim: int) -> int:
    """Return about how many bytes of memory a matrix with bounds takes."""
    parts = sum(part_columns(dim)) if rows >= LEAST_ROWS and dim >= LEAST_DIM else 0
    return 4 * rows * (dim + parts + 1)


def nearest(
    held: Matrix, queries: Floats, metric: Metric, k: int, chosen: Mask | None = None
) -> list[Nearest]:
    """Return for each query the nearest of the chosen vectors, None for all.

    Under cosine vectors without a direction are never near.
    """
    chosen = _with_direction(held, metric, chosen)
    places = None if chosen is None else np.flatnonzero(chosen)
    own = _useful_bounds(held, queries, k)
    share = _GATHERED_SHARE if own is None else _GATHERED_SHARE_OF_BOUNDED
    if places is not None and len(places) * share < len(held.vectors):
        part = Matrix(held.vectors[places], held.norms[places])
        found = nearest(part, queries, metric, k)
        return [Nearest(places[item.positions], item.distances) for item in found]
    step = max(1, _PRODUCT_BYTES // (4 * max(1, len(held.vectors))))
    found = []
    for at in range(0, len(queries), step):
        group = queries[at : at + step]
        if own is None:
            found += _by_all(held, group, metric, k, chosen)
        else:
            found += _by_bounds(held, own, group, metric, k, chosen)
    return found


def _with_direction(held: Matrix, metric: Metric, chosen: Mask | None) -> Mask | None:
    if metric is not Metric.COSINE or held.norms.all():
        return chosen
    return held.norms > 0 if chosen is None else chosen & (held.norms > 0)


def _useful_bounds(held: Matrix, queries: Floats, k: int) -> Bounds | None:
    """Return the bounds if few enough vectors are asked for that bounds leave most of them out."""
    if held.bounds is None or k * _LEFT_OUT > len(held.vectors):
        return None
    return held.bounds if are_plain(np.linalg.norm(queries.astype(np.float64), axis=1)) else None


def _by_all(held: Matrix, queries: Floats, metric: Metric, k: int, chosen: Mask | None) -> list[Nearest]:
    products: Floats = (held.vectors @ queries[0])[None] if len(queries) == 1 else queries @ held.vectors.T
    estimates = _estimates(products, held.norms, metric)
    if chosen is not None:
        np.copyto(estimates, np.inf, where=~chosen)
    return [_sharpened(held, query, metric, k, row) for query, row in zip(queries, estimates, strict=True)]


def _by_bounds(
    held: Matrix, own: Bounds, queries: Floats, metric: Metric, k: int, chosen: Mask | None
) -> list[Nearest]:
    asked = turned(own, queries)
    uppers = (own.first @ asked.first[0])[None] if len(queries) == 1 else asked.first @ own.first.T
    found = []
    for query, first, second, upper in zip(queries, asked.first, asked.second, uppers, strict=True):
        places = _not_excluded(held, own, (query, first, second), metric, k, (upper, chosen))
        if places is None:
            found += _by_all(held, query[None], metric, k, chosen)
        else:
            part = Matrix(held.vectors[places], held.norms[places])
            near = _by_all(part, query[None], metric, k, None)[0]
            found.append(Nearest(places[near.positions], near.distances))
    return found


def _not_excluded(
    held: Matrix,
    own: Bounds,
    asked: tuple[Floats, Floats, Floats],
    metric: Metric,
    k: int,
    first: tuple[Floats, Mask | None],
) -> Ints | None:
    """Return where vectors are that may be among the nearest of the chosen; None where it may be most.

    `asked` is the query and its two parts, `first` the bounds by the first part.
    """
    query, upper, chosen = asked[0], *first
    least = _estimates(upper.copy(), held.norms, metric)
    if chosen is not None:
        np.copyto(least, np.inf, where=~chosen)
    limit = _limit(held, own, query, metric, k, least)
    places = np.flatnonzero(least <= limit)
    if len(places) * _GATHERED_SHARE > len(least):
        nearer = _estimates(closer(own, asked[1:], upper, None), held.norms, metric)
        places = np.flatnonzero((nearer <= limit) & (least <= limit))
        return places if len(places) * _GATHERED_SHARE <= len(least) else None
    nearer = _estimates(closer(own, asked[1:], upper[places], places), held.norms[places], metric)
    return places[nearer <= limit]


def _limit(held: Matrix, own: Bounds, query: Floats, metric: Metric, k: int, least: Floats) -> float:
    """Return what bounds of the k nearest distances do not exceed, by some that are likely to be near."""
    places = np.flatnonzero(least <= _kth_smallest(least, k + _TRIED))
    places = places[np.isfinite(least[places])]
    if len(places) < k:
        return np.inf
    exact = _estimates(held.vectors[places] @ query, held.norms[places], metric)
    slack = own.slack * _scale(held, query, metric)
    return float(np.partition(exact, k - 1)[k - 1]) + _error(held, query, metric) + slack


def _estimates(products: Floats, norms: Floats, metric: Metric) -> Floats:
    """Return distances in single precision, in place of products; cosine's are times the query's length."""
    if metric is Metric.COSINE:
        np.divide(products, norms, out=products, where=norms > 0)
    if metric is Metric.L2:
        products *= 2
        products -= norms * norms
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
    return 2 * _ROUNDING * len(query) * _scale(held, query, metric)


def _scale(held: Matrix, query: Floats, metric: Metric) -> float:
    """Return what products of lengths are at most, as estimates count them."""
    longest = float(held.norms.max(initial=0))
    length = float(np.linalg.norm(query.astype(np.float64)))
    return {
        Metric.COSINE: length,
        Metric.DOT: longest * length,
        Metric.L2: (longest + length) ** 2,
    }[metric]


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
