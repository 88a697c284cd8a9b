"""DoExchange: a batch of vectors in, the nearest rows of each out."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.testing import Server
from tests.actions import put, vectors

ROWS, DIM = 300, 8
VECTORS = np.random.default_rng(3).standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    """A client of a server with the dataset `batched` in profile:user."""
    with flight.connect(server.uri) as connected:
        table = pa.table({"id": range(ROWS), "even": [at % 2 == 0 for at in range(ROWS)]})
        put(connected, ("profile:user", "batched"), table.append_column("vector", vectors(VECTORS.tolist())))
        yield connected


def exchange(client: Any, sent: list[pa.Table], dataset: str = "batched", **arguments: Any) -> pa.Table:
    descriptor = flight.FlightDescriptor.for_path("profile:user", dataset, "search")
    writer, reader = client.do_exchange(descriptor)
    with writer:
        writer.begin(sent[0].schema)
        writer.write_metadata(json.dumps(arguments).encode())
        for table in sent:
            writer.write_table(table)
        writer.done_writing()
        found: pa.Table = reader.read_all()
        return found


def queries(*numbers: int) -> pa.Table:
    return pa.table({"q": vectors(VECTORS[list(numbers)].tolist())})


def test_every_query_is_answered_with_its_nearest_rows(client: Any) -> None:
    found = exchange(client, [queries(*range(100)), queries(200, 7)], k=3)
    assert found.schema.names == ["query_index", "id", "even", "vector", "_distance"]
    assert found["query_index"].to_pylist() == [at for at in range(102) for _ in range(3)]
    assert found["id"].to_pylist()[::3] == [*range(100), 200, 7]
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    expected = np.argsort(1 - unit[200] @ unit.T, kind="stable")[:3]
    assert found["id"].to_pylist()[300:303] == expected.tolist()


def test_arguments_are_those_of_a_search(client: Any) -> None:
    found = exchange(client, [queries(3)], k=2, filter="even AND id > 10", metric="l2", exact=True)
    assert found.num_rows == 2
    assert all(found["even"].to_pylist())
    assert exchange(client, [queries(1).slice(0, 0)], k=2).num_rows == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "1 to 10,000|10,?000"),
    ({"k": 10**6}, "10,?000"),
    ({"limit": 3}, "a search takes only k, filter"),
    ({"filter": "nope = 1"}, "nope"),
    ({"metric": "hamming"}, "no metric"),
    ({"column": "id"}, "id"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_arguments_are_refused(client: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=said):
        exchange(client, [queries(1)], **arguments)


def test_bad_vectors_and_names_are_refused(client: Any) -> None:
    with pytest.raises(pa.ArrowInvalid, match="8"):
        exchange(client, [pa.table({"q": vectors([[1.0, 2.0]])})])
    with pytest.raises(pa.ArrowInvalid, match="0"):
        exchange(client, [pa.table({"q": vectors([[0.0] * DIM])})])
    with pytest.raises(pa.ArrowKeyError, match="no table"):
        exchange(client, [queries(1)], dataset="no_such")
