"""Searches that are held against all rows of their dataset, for tests in which something fails meanwhile."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from adbc_driver_flightsql import dbapi

from tests.actions import vectors

DIM, ROWS, K = 32, 6_000, 10
SETTINGS = {"catch_up_after": 0.1, "memory": "1MiB"}
"""So little memory that indexes answer."""

_HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-profile"
_WORDS = ("rain", "storm", "bread", "river", "engine", "violin", "forest", "market")


def docs(start: int, count: int) -> pa.Table:
    """Return rows that are always the same."""
    made = np.random.default_rng(start).standard_normal((count, DIM)).astype(np.float32)
    texts = [f"{_WORDS[at % 8]} and {_WORDS[at // 8 % 8]} number {at}" for at in range(start, start + count)]
    ids = pa.array(range(start, start + count), pa.int64())
    return pa.table({"id": ids, "text": texts, "vector": vectors(made.tolist())})


@contextmanager
def searching(uri: str, profile: str) -> Iterator[Any]:
    with dbapi.connect(uri, db_kwargs={_HEADER: profile}) as connection, connection.cursor() as cursor:
        yield cursor


def plan(uri: str, profile: str) -> str:
    """Return how a search is answered."""
    with searching(uri, profile) as cursor:
        cursor.execute(f"EXPLAIN SELECT id FROM vector_search('docs', '{[1.0] * DIM}', column => 'vector')")
        return str(cursor.fetchall())


def check_searches(uri: str, profile: str, rows: int, choice: random.Random) -> int:
    """Search as one does, and exactly, and compare with all rows, of which there are so many or more.

    Returns how many there are.
    """
    with searching(uri, profile) as cursor:
        cursor.execute("SELECT id, vector FROM docs ORDER BY id")
        seen = cursor.fetch_arrow_table()
        assert seen["id"].to_pylist() == list(range(max(rows, seen.num_rows))), "rows are lost"
        matrix = seen["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIM).astype(np.float64)
        query = np.random.default_rng(choice.randrange(1 << 30)).standard_normal(DIM).astype(np.float32)
        distances = 1 - matrix @ query / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(query))
        limit = np.sort(distances)[K - 1] + 1e-5
        for exact in (True, False):
            cursor.execute(
                f"SELECT id, _distance FROM vector_search('docs', '{query.tolist()}', "
                f"column => 'vector', k => {K}, exact => {exact})"
            )
            found = cursor.fetchall()
            assert len(found) == len(dict(found)) == K, f"rows are missing or there twice: {found}"
            assert all(abs(distances[id_] - distance) < 1e-4 for id_, distance in found), "not so far away"
            near = sum(distance <= limit for _, distance in found)
            assert near == K or (not exact and near >= K // 2), f"only {near} of the nearest"
    return int(seen.num_rows)
