import random
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flight_server.domain.vector import Filter, IndexKind, IndexRecord, Metric, SearchOptions, Tier
from flight_server.errors import CallCancelledError, FailedPreconditionError, InvalidArgumentError
from flight_server.vectors import index as indexes
from flight_server.vectors.activation import Activations
from flight_server.vectors.batching import Coalescer
from flight_server.vectors.index_rows import IndexOrder
from flight_server.vectors.lance import Lance
from flight_server.vectors.opened import open_index
from flight_server.vectors.queries import Search
from flight_server.vectors.search import Activated, VectorSearcher
from tests.integration.vector_objects import BUCKET, MemoryObjects

DIM = 8
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("lang", pa.utf8()),
        ("text", pa.utf8()),
        ("vector", pa.list_(pa.float32(), DIM)),
    ]
)
FILTERS = (
    None,
    Filter("lang = 'en'", "lang = 'en'", ("lang",)),
    Filter("id % 7 = 1", "", ("id",)),
    Filter("false", "false", ()),
)


def rows(numbers, random_state, *, with_odd=True):
    vectors = random_state.normal(size=(len(numbers), DIM)).astype(np.float32)
    values = vectors.tolist()
    for at in range(len(values)):
        if with_odd and at % 11 == 5:
            values[at] = random.Random(at).choice([None, [0.0] * DIM, [float("nan")] * DIM, values[0]])
    return pa.table(
        {
            "id": numbers,
            "lang": [("en", "de", None)[number % 3] for number in numbers],
            "text": [f"word{number % 50} and {number}" for number in numbers],
            "vector": values,
        },
        schema=SCHEMA,
    )


def brute_force(source, query, metric, k, where):
    """All rows, object by object, in double precision."""
    found, b = [], query.astype(np.float64)
    for number in source.objects:
        table = source.dataset.tables[number]
        keeps = source.mask(table, where) if where and table.num_rows else np.full(table.num_rows, True)
        listed = [value or [np.nan] * DIM for value in table["vector"].to_pylist()]
        a = np.array(listed, np.float64).reshape(-1, DIM)
        with np.errstate(invalid="ignore"):
            distances = {
                Metric.L2: ((a - b) ** 2).sum(axis=1),
                Metric.DOT: 1 - a @ b,
                Metric.COSINE: np.maximum(0, 1 - a @ b / np.sqrt((a**2).sum(axis=1) * (b @ b))),
            }[metric].astype(np.float32)
        ids = table["id"].to_pylist()
        good = np.flatnonzero(keeps & np.isfinite(distances))
        found += [(distances[row], number, int(row), ids[row]) for row in good]
    return sorted(found)[:k]


@pytest.fixture
def lance(tmp_path):
    return Lance(lambda bucket: (str(tmp_path / bucket.replace(":", "%3A") / "vectors"), {}), 1 << 26)


def order(column="vector", kind=IndexKind.AUTO, metric=Metric.COSINE, **params):
    return IndexOrder(BUCKET, f"t_{column}", column, kind, metric, params)


def record_of(built, wanted, version=1):
    return IndexRecord(
        "i", "d", wanted.bucket, built.column, built.kind, built.metric, wanted.table, built.lance_version,
        version, built.rows, built.dim, built.bytes, built.params,
    )  # fmt: skip


def build(lance, source, wanted):
    return record_of(indexes.build(lance, source, wanted, lambda *_: None, lambda: None), wanted)


def update(lance, source, record):
    return indexes.update(lance, source, record, lambda *_: None, lambda: None, "anew")


def ask(searcher, source, records, queries, options, where=None, columns=("id",), **more):
    search = Search(source, records, None, options, where, columns)
    return searcher.vector(search, queries, **more)


class Story:
    """A dataset to which things happen, at random, and the index that follows it now and then."""

    def __init__(self, lance, seed):
        self.draw, self.state = random.Random(seed), np.random.default_rng(seed)
        self.lance, self.dataset = lance, MemoryObjects(SCHEMA)
        self.live, self.past, self.records = [], [], []
        self.metric = self.draw.choice(list(Metric))
        params = {"num_partitions": 1, "max_iterations": 1, "filter_columns": ["lang"]}
        self.order = order(metric=self.metric, kind=IndexKind.IVF_FLAT, **params)

    def go_on(self):
        for _ in range(self.draw.randint(0, 3)):
            start = 1000 * len(self.dataset.tables)
            numbers = range(start, start + self.draw.choice([0, 1, 40, 700]))
            # Cosine refuses to build over vectors without a direction, and leaves later ones out.
            with_odd = self.metric is not Metric.COSINE or (self.records and self.draw.random() < 0.5)
            self.live.append(self.dataset.add(rows(numbers, self.state, with_odd=with_odd)))
        self.live = [number for number in self.live if self.draw.random() > 0.2]
        self.past.append(self.dataset.source(self.live))

    def build(self):
        self.records = [build(self.lance, self.past[-1], self.order)]

    def update(self):
        try:
            built = update(self.lance, self.past[-1], self.records[0])
            self.records = [record_of(built, self.order)]
        except InvalidArgumentError:  # it had to be built anew, and cosine cannot compare some
            self.live = []

    def check(self, searcher, source):
        queries = self.state.normal(size=(self.draw.choice([1, 1, 5]), DIM)).astype(np.float32)
        k, where = self.draw.choice([1, 10, 900]), self.draw.choice(FILTERS)
        is_exact = self.draw.random() < 0.2
        options = SearchOptions(k, nprobes=1, metric=self.metric, is_exact=is_exact)
        found = ask(searcher, source, self.records, queries, options, where, is_batch=True)
        for at, query in enumerate(queries):
            own = found.filter(pa.array(found["query_index"].to_numpy() == at))
            expected = brute_force(source, query, self.metric, k, where)
            assert len(own) == len(expected)
            distances = [item[0] for item in expected]
            np.testing.assert_allclose(own["_distance"].to_numpy(), distances, rtol=1e-4, atol=1e-5)
            is_same = own["id"].to_pylist() == [item[3] for item in expected]
            # LanceDB computes in single precision: the order of what is equally near may differ.
            assert is_same or len(set(distances)) < k or self.records


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))]
)
def test_searches_find_what_brute_force_finds(lance, seed, monkeypatch):
    """Whatever was appended or removed since the index was built, and whatever is in memory."""
    story = Story(lance, seed)
    # A small limit makes the index and the scan answer, too.
    limit = story.draw.choice([0, 700, 100_000])
    for module in ("activation", "search"):
        monkeypatch.setattr(f"flight_server.vectors.{module}.EXACT_ROWS", limit)
    searcher = VectorSearcher(Activations(lance, story.draw.choice([10_000, 60_000, 1 << 30])))
    happenings = {1: story.build, 3: story.update, 4: story.update}
    for step in range(6):
        story.go_on()
        happenings.get(step, lambda: None)()
        for source in {story.past[-1], story.draw.choice(story.past)}:
            story.check(searcher, source)


def test_the_tier_follows_size_index_and_wish(lance, monkeypatch):
    dataset = MemoryObjects(SCHEMA)
    dataset.add(rows(range(2_000), np.random.default_rng(0), with_odd=False))
    source = dataset.source()
    records = [build(lance, source, order())]
    activations = Activations(lance, 1 << 30)
    searcher = VectorSearcher(activations)

    def tier(records, **options):
        search = Search(source, records, None, SearchOptions(**options))
        said = searcher.describe(search).tier
        searcher.vector(search, np.ones((1, DIM), np.float32))
        assert activations.rows()[0]["tier"] == said
        return said

    assert tier(records) is Tier.EXACT
    activations.deactivate(BUCKET)
    for module in ("activation", "search"):
        monkeypatch.setattr(f"flight_server.vectors.{module}.EXACT_ROWS", 100)
    assert tier(records) is Tier.INDEX
    assert tier(records, k=600, ef=1) is Tier.INDEX
    assert tier(records, k=600, refine=5) is Tier.INDEX
    assert tier([]) is Tier.SCAN
    assert tier(records, metric=Metric.L2) is Tier.SCAN
    assert tier(records, is_exact=True) is Tier.EXACT


def test_a_damaged_index_is_searched_without(lance, caplog, tmp_path, monkeypatch):
    dataset = MemoryObjects(SCHEMA)
    dataset.add(rows(range(2_000), np.random.default_rng(0), with_odd=False))
    source, query = dataset.source(), np.ones((1, DIM), np.float32)
    records = [build(lance, source, order())]
    monkeypatch.setattr("flight_server.vectors.search.EXACT_ROWS", 100)
    searcher = VectorSearcher(Activations(lance, 1 << 30))
    expected = ask(searcher, source, [], query, SearchOptions())
    indexes.drop(lance, BUCKET, "t_vector")
    for _ in range(2):
        assert ask(searcher, source, records, query, SearchOptions()) == expected
    assert sum("searched without" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("damaged", ["_versions/*", "data/*"])
def test_a_damaged_index_is_built_anew_beside_what_is_left_of_it(lance, tmp_path, damaged):
    dataset = MemoryObjects(SCHEMA)
    dataset.add(rows(range(2_000), np.random.default_rng(0), with_odd=False))
    wanted = order(kind=IndexKind.IVF_FLAT)
    record = build(lance, dataset.source(), wanted)
    for path in tmp_path.glob(f"**/t_vector.lance/{damaged}"):
        path.write_bytes(b"damaged")
    lance.forget(BUCKET)
    dataset.add(rows(range(2_000, 2_100), np.random.default_rng(1), with_odd=False))
    built = update(lance, dataset.source(), record)
    assert (built.is_anew, built.rows) == (True, 2_100)
    again = replace(record_of(built, wanted), table="anew")
    assert open_index(lance, again).covers == dataset.source().objects.keys()


def test_searches_keep_the_recorded_version_until_there_is_another(lance, monkeypatch):
    """Old versions go when an index is brought up to date: not the one that searches are told of."""
    monkeypatch.setattr(indexes, "_VERSIONS_KEPT", timedelta(seconds=1.5))
    dataset, wanted = MemoryObjects(SCHEMA), order(kind=IndexKind.IVF_FLAT)
    dataset.add(rows(range(1_000), np.random.default_rng(0), with_odd=False))
    record = build(lance, dataset.source(), wanted)
    time.sleep(1.6)
    dataset.add(rows(range(1_000, 1_200), np.random.default_rng(1), with_odd=False))
    assert update(lance, dataset.source(), record).rows == 1_200
    assert open_index(lance, record).rows == 1_000


def test_texts_are_found_before_the_index_knows_them(lance):
    dataset = MemoryObjects(SCHEMA)
    first = dataset.add(rows(range(500), np.random.default_rng(0)))
    wanted = order("text", IndexKind.FTS)
    records = [build(lance, dataset.source(), wanted)]
    searcher = VectorSearcher(Activations(lance, 1 << 30))

    def ids(source, text, where=None, k=3):
        search = Search(source, records, None, SearchOptions(k), where, ["id"])
        found = searcher.text(search, text)
        assert (np.diff(found["_score"].to_numpy()) <= 0).all()
        return found["id"].to_pylist()

    assert ids(dataset.source(), "word7 407") == [
        407,
        *[id for id in ids(dataset.source(), "word7 407") if id != 407],
    ]
    second = dataset.add(rows([10_007, 10_008], np.random.default_rng(1)))
    assert ids(dataset.source(), "10007 word7")[0] == 10_007
    assert 10_007 not in ids(dataset.source([first]), "10007 word7")
    assert ids(dataset.source([second]), "word7") == [10_007]
    assert ids(dataset.source(), "word8", Filter("id > 1000", "", ("id",))) == [10_008]
    assert ids(dataset.source(), "word8", Filter("id > 1000000", "", ("id",))) == []
    built = update(lance, dataset.source(), records[0])
    records[:] = [record_of(built, wanted)]
    assert built.rows == 502
    assert ids(dataset.source(), "10007 word7")[0] == 10_007
    vectors = Search(dataset.source(), records, None, SearchOptions(5), None, ["id"])
    both = searcher.hybrid(vectors, np.ones(DIM, np.float32), "word7 407")
    assert 407 in both["id"].to_pylist()
    assert both.num_rows == 5
    with pytest.raises(FailedPreconditionError, match="create_vector_index"):
        searcher.text(Search(dataset.source(), [], None, SearchOptions()), "x")


def start(threads):
    for thread in threads:
        thread.start()


def join(threads):
    for thread in threads:
        thread.join(20)


def test_many_searchers_agree_while_objects_come_and_indexes_change(lance):
    state = np.random.default_rng(3)
    dataset = MemoryObjects(SCHEMA)
    live = [dataset.add(rows(range(1_000), state, with_odd=False))]
    wanted = order(kind=IndexKind.IVF_FLAT, num_partitions=1)
    records = [build(lance, dataset.source(), wanted)]
    activations = Activations(lance, 1 << 30)
    searcher, errors, stop = VectorSearcher(activations), [], threading.Event()
    versions = [dataset.source(live)]
    queries = state.normal(size=(20, DIM)).astype(np.float32)

    def run_once(draw):
        source, query = draw.choice(versions), queries[draw.randrange(20)]
        found = ask(searcher, source, list(records), query[None], SearchOptions(5))
        expected = brute_force(source, query, Metric.COSINE, 5, None)
        assert found["id"].to_pylist() == [item[3] for item in expected]

    def run(seed):
        draw = random.Random(seed)
        try:
            while not stop.is_set():
                run_once(draw)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    start(threads)
    for step in range(1, 8):
        live.append(dataset.add(rows(range(step * 1000, step * 1000 + 100), state, with_odd=False)))
        versions.append(dataset.source(live))
        if step % 3 == 0:
            built = update(lance, versions[-1], records[0])
            records[:] = [record_of(built, wanted)]
        if step == 5:
            activations.deactivate(BUCKET)
    stop.set()
    join(threads)
    assert errors == []


def test_eight_activations_at_once_load_once(lance):
    dataset = MemoryObjects(SCHEMA)
    dataset.add(rows(range(3_000), np.random.default_rng(0)))
    source, searcher = dataset.source(), VectorSearcher(Activations(lance, 1 << 30))
    told: list[Activated] = []
    threads = [
        threading.Thread(target=lambda: told.extend(searcher.activate(source, [], lambda: None)))
        for _ in range(8)
    ]
    start(threads)
    join(threads)
    assert [(item.tier, item.rows > 2_000) for item in told] == [(Tier.EXACT, True)] * 8
    assert source.scanned == 3_000


def test_those_who_wait_for_an_answer_share_it_or_leave():
    table: Coalescer[int, int] = Coalescer()
    begun, may_go = threading.Event(), threading.Event()
    groups: list[list[int]] = []
    got: list[Any] = []

    def work(numbers):
        groups.append(sorted(numbers))
        begun.set()
        may_go.wait(10)
        if -1 in numbers:
            raise ValueError
        return [number * 2 for number in numbers]

    def ask_for(number, check=lambda: None):
        try:
            got.append(table.answer("key", number, work, check))
        except (ValueError, CallCancelledError) as error:
            got.append(type(error))

    def cancelled():
        raise CallCancelledError("gone")

    threads = [threading.Thread(target=ask_for, args=(1,))]
    start(threads)
    begun.wait(10)
    later = [threading.Thread(target=ask_for, args=(number,)) for number in (2, 3)]
    leaver = [threading.Thread(target=ask_for, args=(4, cancelled))]
    start([*later, *leaver])
    join(leaver)
    while len(table._tables["key"].waiting) < 2:
        time.sleep(0.001)
    may_go.set()
    join([*threads, *later])
    assert groups == [[1], [2, 3]]
    assert sorted(got[1:]) == [2, 4, 6]
    assert got[0] is CallCancelledError
    ask_for(-1)
    assert got[-1] is ValueError
    assert table._tables == {}


def test_the_bucket_used_least_recently_goes_as_a_whole(lance):
    activations = Activations(lance, 220_000)
    searcher = VectorSearcher(activations)
    sources = []
    for bucket in ("profile:a", "profile:b", "profile:c"):
        dataset = MemoryObjects(SCHEMA)
        dataset.add(rows(range(900), np.random.default_rng(0)))
        source = dataset.source()
        source.bucket = bucket
        sources.append(source)
    for source in (*sources[:2], sources[0], sources[2]):
        ask(searcher, source, [], np.ones((1, DIM), np.float32), SearchOptions())
    states = {row["bucket"]: row["state"] for row in activations.rows()}
    assert states == {"profile:a": "hot", "profile:b": "cold", "profile:c": "hot"}
    assert sum(row["bytes"] for row in activations.rows()) <= 220_000
