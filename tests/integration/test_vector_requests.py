"""What the gateway asks of an engine process about vectors, over real objects read by DuckDB."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_server.domain.vector import SearchOptions, Tier
from flight_server.engine.embedding import ColumnEmbedder
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance, InstanceOptions
from flight_server.engine.relations import Relations
from flight_server.engine.statement import Running
from flight_server.engine.trials import TrialRequests
from flight_server.engine.vector_requests import (
    INDEX_REQUESTS,
    VECTOR_REQUESTS,
    VectorRequests,
    open_activations,
)
from flight_server.engine.vector_source import VectorSources
from flight_server.errors import CallCancelledError, InvalidArgumentError
from flight_server.frames.frame import Frame
from flight_server.frames.requests import ObjectGroup, Relation, encode_relations
from flight_server.frames.vectors import decode_index, encode_index
from flight_server.objects.store import ObjectStore
from flight_server.vectors.embedding import Embedders
from flight_server.vectors.queries import Search
from flight_server.vectors.search import VectorSearcher

BUCKET, DIM = "profile:user", 16
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.utf8()), ("vector", pa.list_(pa.float32(), DIM))])


class Process:
    """The vector part of an engine process over one bucket; `relation` names a version by its objects."""

    def __init__(self, root: Path) -> None:
        (root / "temp").mkdir()
        self.root = root / "bucket"
        self.root.mkdir()
        stores = {BUCKET: ObjectStore(BUCKET, self.root.as_uri())}
        self.instance = Instance(InstanceOptions(1 << 28, 1 << 28, 1, root / "temp", (self.root,)))
        self.sources = VectorSources(self.instance, stores, Failures([]))
        self.activations = open_activations(stores, 1 << 28, preloads=True)
        self.searcher = VectorSearcher(self.activations)
        embedders, failures = Embedders({}), Failures([])
        relations = Relations(self.instance, stores, failures)
        columns = ColumnEmbedder(self.instance, relations, failures, embedders)
        trials = TrialRequests(self.sources, self.activations.lance, embedders)
        self.requests = VectorRequests(self.sources, self.activations, self.searcher, columns, trials)

    def write(self, key: str, start: int, count: int) -> None:
        state = np.random.default_rng(start)
        flat = pa.array(state.normal(size=count * DIM).astype(np.float32))
        vectors = pa.FixedSizeListArray.from_arrays(flat, DIM)
        texts = [f"text number {number}" for number in range(start, start + count)]
        pq.write_table(
            pa.table([range(start, start + count), texts, vectors], schema=SCHEMA), self.root / key
        )

    def relation(self, *keys: str) -> Relation:
        message = SCHEMA.serialize().to_pybytes()
        return Relation(message, (ObjectGroup(message, tuple((BUCKET, key) for key in keys)),))

    def ask(self, request_kind: str, relations=None, running=None, **fields):
        described = encode_relations(relations or {})
        request = Frame(request_kind, {**described.fields, "bucket": BUCKET, **fields}, described.payload)
        said: list[Frame] = []
        work = VECTOR_REQUESTS.get(request_kind) or INDEX_REQUESTS[request_kind]
        return work(self.requests, request, running or Running(), said.append), said

    def build(self, relation, **fields):
        asked: dict[str, object] = {
            "dataset_id": "d",
            "column": None,
            "kind": "ivf_flat",
            "metric": "cosine",
            "params": {"num_partitions": 1, "max_iterations": 1},
            "table": "i1",
        }
        return self.ask("build_index", relation, **asked | fields)

    def record(self, built: Frame, version: int = 1):
        fields = {name: value for name, value in built.fields.items() if name not in ("seconds", "is_anew")}
        own = {"id": "i", "dataset_id": "d", "bucket": BUCKET, "table": "i1", "dataset_version": version}
        return decode_index({**own, **fields, "search": {}})

    def nearest(self, name: str, relation: Relation, number: int, records=()):
        """Search for the vector of a row of the first object."""
        query = pq.read_table(self.root / "a.parquet")["vector"][number].as_py()
        with self.sources.source(name, relation, BUCKET, Running()) as rows:
            search = Search(rows, records, None, SearchOptions(3), None, ["id", "text"])
            return self.searcher.vector(search, np.array([query], np.float32)).to_pylist()


@pytest.fixture
def process(tmp_path):
    made = Process(tmp_path)
    made.write("a.parquet", 0, 1_200)
    yield made
    made.instance.close()


def test_an_index_is_built_activated_updated_and_dropped(process):
    first = {"d@1": process.relation("a.parquet")}
    (built, _), said = process.build(first)
    assert built.fields["kind"] == "ivf_flat"
    assert [frame.kind for frame in said] == ["progress"] * len(said)
    assert [frame.fields["done"] for frame in said] == sorted(frame.fields["done"] for frame in said)
    record = process.record(built)
    listed = [{"table": "docs", "relation": "d@1", "records": [encode_index(record)]}]
    _, (activated, end) = process.ask("activate", first, datasets=listed, wait=True)
    assert end.kind == "end"
    expected = {
        "profile": "user",
        "table": "docs",
        "type": "ivf_flat",
        "rows": 1_200,
        "dim": DIM,
        "tier": "exact",
    }
    assert activated.fields | expected == activated.fields
    process.write("b.parquet", 1_200, 10)
    second = process.relation("a.parquet", "b.parquet")
    (updated, _), _ = process.ask(
        "update_index", {"d@2": second}, dataset_id="d", record=encode_index(record), anew="i2"
    )
    assert updated.fields["rows"] == 1_210
    found = process.nearest("d@2", second, 7, [process.record(updated, 2)])
    assert (found[0]["id"], found[0]["text"], found[0]["_distance"]) == (7, "text number 7", 0.0)
    _, (active,) = process.ask("activations")
    assert [(row["state"], row["tier"]) for row in active.fields["rows"]] == [("hot", Tier.EXACT)]
    _, (gone,) = process.ask("deactivate")
    assert gone.fields["bytes"] > 1_200 * DIM * 4
    process.ask("drop_index", table="i1")
    assert [*(process.root / "vectors").iterdir()] == []
    assert process.nearest("d@2", second, 7, [record])[0]["id"] == 7


def test_a_discarded_failed_or_cancelled_build_leaves_nothing(process):
    first = {"d@1": process.relation("a.parquet")}
    (_, discard), _ = process.build(first)
    discard()
    with pytest.raises(InvalidArgumentError, match="no parameter 'em'"):
        process.build(first, params={"em": 1})
    running = Running()
    running.cancel()
    with pytest.raises(CallCancelledError):
        process.build(first, running=running)
    assert [*(process.root / "vectors").iterdir()] == []
