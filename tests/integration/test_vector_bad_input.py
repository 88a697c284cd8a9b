import numpy as np
import pyarrow as pa
import pytest

from flight_server.domain.vector import IndexKind, Metric, SearchOptions
from flight_server.errors import InvalidArgumentError
from flight_server.vectors.activation import Activations
from flight_server.vectors.lance import Lance
from flight_server.vectors.queries import parse_vector, vector_field
from flight_server.vectors.search import VectorSearcher
from tests.integration.test_vector_core import DIM, SCHEMA, ask, build, lance, order, rows
from tests.integration.vector_objects import MemoryObjects

__all__ = ["lance"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "2 dimensions, column 'vector' has 8"),
        ([float("nan")] * 8, "NaN"),
        ([0] * 8, "length 0"),
        ("hello", "embedder"),
        (None, "NULL"),
        ([[1]], "one list of numbers"),
        (["a"], "list of numbers"),
    ],
)
def test_bad_vectors_are_refused_with_reasons(value, said):
    with pytest.raises(InvalidArgumentError, match=said):
        parse_vector(value, vector_field(SCHEMA, None), Metric.COSINE)


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        (IndexKind.HNSW_SQ, {"em": 3}, "it has: .*m, ef_construction"),
        (IndexKind.HNSW_SQ, {"m": 0}, "from 2 to 256"),
        (IndexKind.IVF_PQ, {"num_sub_vectors": 3}, "must divide the dimension, 8"),
        (IndexKind.IVF_SQ, {"filter_columns": ["vector"]}, "it can: id, lang"),
        (IndexKind.FTS, {"language": "Klingon"}, "English"),
    ],
)
def test_bad_parameters_of_indexes_are_refused_with_reasons(lance, kind, params, said):
    dataset = MemoryObjects(SCHEMA)
    dataset.add(rows(range(10), np.random.default_rng(0), with_odd=False))
    column = "text" if kind is IndexKind.FTS else "vector"
    with pytest.raises(InvalidArgumentError, match=said):
        build(lance, dataset.source(), order(column, kind, **params))


def test_vectors_without_direction_are_counted_and_placed(lance):
    dataset = MemoryObjects(SCHEMA)
    values = [[1.0] * DIM, None, [0.0] * DIM, [float("nan")] * DIM]
    dataset.add(
        pa.table({"id": range(4), "lang": [None] * 4, "text": [""] * 4, "vector": values}, schema=SCHEMA)
    )
    with pytest.raises(InvalidArgumentError, match=r"2 vectors .* the first is row 2 "):
        build(lance, dataset.source(), order())
    assert build(lance, dataset.source(), order(metric=Metric.L2)).rows == 2


def test_lists_of_one_length_are_vectors():
    schema = pa.schema([("id", pa.int64()), ("v", pa.list_(pa.float64()))])
    dataset = MemoryObjects(schema)
    dataset.add(pa.table({"id": [1, 2, 3], "v": [[1, 0], [0, 1], None]}, schema=schema))
    searcher = VectorSearcher(Activations(Lance(lambda _: ("", {}), 1), 1 << 20))
    found = ask(
        searcher, dataset.source(), [], np.array([[0, 2]], np.float32), SearchOptions(), columns=("v", "id")
    )
    assert found.to_pylist() == [
        {"v": [0, 1], "id": 2, "_distance": 0},
        {"v": [1, 0], "id": 1, "_distance": 1},
    ]
    dataset.add(pa.table({"id": [4], "v": [[1, 2, 3]]}, schema=schema))
    with pytest.raises(InvalidArgumentError, match=r"different lengths|2 dimensions"):
        ask(searcher, dataset.source(), [], np.array([[0, 2]], np.float32), SearchOptions())
