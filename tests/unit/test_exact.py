"""Exact search finds what comparing everything finds, whatever bounds leave out of it."""

import numpy as np
import pytest

from flight_server.domain.vector import Metric
from flight_server.vectors import bounds, exact

ROWS, DIM = 1_400, 64


def clustered(random):
    centres = random.normal(size=(30, DIM))
    return centres[random.integers(0, 30, ROWS)] + 0.1 * random.normal(size=(ROWS, DIM))


def flat(random):
    """A few directions hold nearly all: bounds are tight, and rounding is what could mislead them."""
    return random.normal(size=(ROWS, 6)) @ random.normal(size=(6, DIM)) + 1e-6 * random.normal(
        size=(ROWS, DIM)
    )


COLLECTIONS = {
    "random": lambda random: random.normal(size=(ROWS, DIM)),
    "clustered": clustered,
    "flat": flat,
    "equal": lambda random: random.normal(size=(40, DIM))[random.integers(0, 40, ROWS)],
    "lengths": lambda random: clustered(random) * 10.0 ** random.integers(-5, 6, (ROWS, 1)),
    "zeros": lambda random: clustered(random) * (random.random((ROWS, 1)) > 0.3),
}


@pytest.fixture
def _few_are_enough(monkeypatch):
    monkeypatch.setattr(bounds, "LEAST_ROWS", 100)


@pytest.mark.usefixtures("_few_are_enough")
@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("name", COLLECTIONS)
def test_bounds_change_no_answer(name, metric):
    random = np.random.default_rng(len(name))
    vectors = COLLECTIONS[name](random).astype(np.float32)
    held = exact.bounded(exact.matrix(vectors))
    assert held.bounds is not None
    queries = np.concatenate([vectors[vectors.any(axis=1)][:6], random.normal(size=(6, DIM))]).astype(
        np.float32
    )
    for k in (1, 10):
        for chosen in (None, random.random(ROWS) < 0.5, random.random(ROWS) < 0.004):
            found = exact.nearest(held, queries, metric, k, chosen)
            for query, near in zip(queries, found, strict=True):
                alone = exact.nearest(held, query[None], metric, k, chosen)[0]
                wanted = brute_force(vectors, query, metric, k, chosen)
                assert best(near, k) == best(alone, k) == wanted


def brute_force(vectors, query, metric, k, chosen):
    """Return the k nearest as (distance, position), every tie in its place."""
    may = np.ones(len(vectors), bool) if chosen is None else chosen
    places = np.flatnonzero(may & (vectors.any(axis=1) | (metric is not Metric.COSINE)))
    distances = exact.distances_to(vectors[places], query, metric)
    return sorted(zip(distances.tolist(), places.tolist(), strict=True))[:k]


def best(near, k):
    return sorted(zip(near.distances.tolist(), near.positions.tolist(), strict=True))[:k]


@pytest.mark.usefixtures("_few_are_enough")
def test_bounds_leave_out_most_of_what_is_far():
    random = np.random.default_rng(1)
    vectors = clustered(random).astype(np.float32)
    held = exact.bounded(exact.matrix(vectors))
    own, query = held.bounds, vectors[:1]
    asked = bounds.turned(own, query)
    first = own.first @ asked.first[0]
    both = bounds.closer(own, (asked.first[0], asked.second[0]), first, None)
    products, spare = vectors @ query[0], own.slack * held.norms * held.norms[0]
    assert (first + spare >= products).all()
    assert (both + spare >= products).all()
    assert np.mean(both >= np.sort(products)[-10]) < 0.1


@pytest.mark.usefixtures("_few_are_enough")
@pytest.mark.parametrize("scale", [1e-20, 1e15, np.nan])
def test_lengths_that_products_do_not_bear_have_no_bounds(scale):
    vectors = np.random.default_rng(2).normal(size=(ROWS, DIM)).astype(np.float32)
    vectors[5] *= np.float32(scale)
    assert exact.bounded(exact.matrix(vectors)).bounds is None
