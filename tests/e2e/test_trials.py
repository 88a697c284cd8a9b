"""Eval sets, trials and their promotion: what is measured, what is kept, and that searches notice nothing."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.domain.trial import TRIALS
from flight_server.testing import Server, serve
from tests.actions import act, act_all, put, vectors

pytestmark = pytest.mark.slow

ROWS, DIM = 3000, 16
RANDOM = np.random.default_rng(11)
VECTORS = RANDOM.standard_normal((ROWS, DIM)).astype(np.float32)
QUERIES = (VECTORS[:40] + 0.05 * RANDOM.standard_normal((40, DIM))).astype(np.float32)
INDEX = {"type": "hnsw_sq", "m": 8, "ef_construction": 50}


@pytest.fixture(scope="module")
def lab() -> Iterator[Server]:
    """A server with vectors in profile:user and an eval set for them; nothing is indexed by itself."""
    with serve(vectors={"catch_up_after": 0}) as running, flight.connect(running.uri) as client:
        put(client, ["profile:user", "docs"], docs(0, ROWS))
        put(client, ["profile:user", "others"], docs(0, 10))
        put_eval_set(client)
        yield running


@pytest.fixture
def client(lab: Server) -> Iterator[flight.FlightClient]:
    with flight.connect(lab.uri) as connected:
        yield connected


@pytest.fixture
def cursor(lab: Server) -> Iterator[dbapi.Cursor]:
    options = {"adbc.flight.sql.rpc.call_header.x-lakehouse-profile": "user"}
    with (
        dbapi.connect(lab.uri, db_kwargs=options, autocommit=True) as connection,
        connection.cursor() as opened,
    ):
        yield opened


def docs(start: int, stop: int) -> pa.Table:
    return pa.table({"id": range(start, stop), "vector": vectors(VECTORS[start:stop].tolist())})


def put_eval_set(client: flight.FlightClient, **more: Any) -> dict[str, Any]:
    queries = [{"id": f"q{at}", "vector": query.tolist()} for at, query in enumerate(QUERIES)]
    queries[0]["answers"] = ["0"]
    body = {"profile": "user", "name": "own", "table": "docs", "queries": queries} | more
    return act(client, "put_eval_set", **body)


def run_trial(client: flight.FlightClient, **more: Any) -> list[dict[str, Any]]:
    body = {"profile": "user", "table": "docs", "eval_set": "own", "index": INDEX} | more
    return [said for said in act_all(client, "run_trial", **body) if "progress" not in said]


def rows(cursor: dbapi.Cursor, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return cursor.fetchall()


def test_a_trial_measures_and_is_kept_in_the_journal(
    client: flight.FlightClient, cursor: dbapi.Cursor, lab: Server
) -> None:
    plan = f"EXPLAIN SELECT * FROM vector_search('docs', {QUERIES[0].tolist()})"
    before = rows(cursor, plan)
    weak, strong = run_trial(client, search=[{"ef": 20, "refine": 1}, {"ef": 300}], k=5)
    assert [*weak] == TRIALS.names
    assert strong["recall"] == 1.0
    assert strong["ndcg"] == 1.0
    assert 0.5 < weak["recall"] <= 1.0
    assert (strong["search_params"], strong["k"], strong["num_queries"]) == ({"ef": 300}, 5, 40)
    assert (strong["num_rows"], strong["dim"], strong["index_type"]) == (ROWS, DIM, "hnsw_sq")
    assert strong["build_params"] == {"m": 8, "ef_construction": 50}
    for name in ("latency_p50_ms", "latency_p99_ms", "qps", "build_seconds", "index_bytes", "prewarm_ms"):
        assert strong[name] > 0, name
    (kept,) = rows(
        cursor, f"SELECT recall, status, run_id FROM sys.trials WHERE trial_id = '{weak['trial_id']}'"
    )
    assert kept == (weak["recall"], "ok", strong["run_id"])
    assert strong["note"] is None
    assert rows(cursor, plan) == before, "no search sees it"
    assert not [*lab.data_dir.glob("_profile_user/vectors/*")], "nothing of it is left"


def test_exact_answers_are_readable_and_go_stale(client: flight.FlightClient, cursor: dbapi.Cursor) -> None:
    put(client, ["profile:user", "moving"], docs(0, 500))
    assert put_eval_set(client, table="moving", name="moves")["dataset_version"] == 1
    of = "WHERE eval_set = 'moves' AND query_id = 'q3'"
    assert rows(cursor, f"SELECT count(*), max(k) FROM eval_truth {of}") == [(100, 100)]
    near = rows(cursor, f"SELECT distance FROM eval_truth {of} ORDER BY rank LIMIT 3")
    found = rows(cursor, f"SELECT _distance FROM vector_search('moving', {QUERIES[3].tolist()}, k => 3)")
    assert near == found
    cursor.execute("DELETE FROM moving WHERE id = 3")
    (measured,) = run_trial(client, table="moving", eval_set="moves")
    assert measured["note"].startswith("exact answers were there for version 1 of the dataset")
    assert measured["recall"] == 1.0
    versions = rows(cursor, f"SELECT DISTINCT dataset_version FROM eval_truth {of} ORDER BY ALL")
    assert versions == [(1,), (2,)]
    (measured,) = run_trial(client, table="moving", eval_set="moves")
    assert measured["note"] is None, "those that were computed are used"


def test_what_is_stale_says_so(client: flight.FlightClient, cursor: dbapi.Cursor) -> None:
    told = (
        "SELECT num_queries, k, distance_type, dataset_version, table_version, stale "
        "FROM sys.eval_sets WHERE profile = 'user' AND eval_set = 'ages'"
    )
    query = QUERIES[0].tolist()
    put(client, ["profile:user", "ageing"], docs(0, 50))
    put_eval_set(client, table="ageing", name="ages", queries=[{"id": "near", "vector": query}])
    assert rows(cursor, told) == [(1, 100, "cosine", 1, 1, False)]
    cursor.execute("DELETE FROM ageing WHERE id = 3")
    assert rows(cursor, told) == [(1, 100, "cosine", 1, 2, True)]
    (measured,) = run_trial(client, table="ageing", eval_set="ages")
    assert (measured["warmup"], measured["concurrency"], measured["seed"]) == (1, 1, None)
    assert rows(cursor, told) == [(1, 100, "cosine", 2, 2, False)]
    cursor.execute("DROP TABLE ageing")
    assert rows(cursor, told) == [(1, 100, "cosine", 2, None, True)]
    put(client, ["profile:user", "ageing"], docs(100, 150))
    put(client, ["profile:user", "ageing"], docs(150, 160), mode="append")
    assert rows(cursor, told) == [(1, 100, "cosine", 2, None, True)], "a table of the same name is another"
    (measured,) = run_trial(client, table="ageing", eval_set="ages")
    assert measured["note"].startswith("exact answers were there for an earlier dataset of that name")
    assert measured["recall"] == 1.0
    assert rows(cursor, told) == [(1, 100, "cosine", 2, 2, False)]


def test_bookkeeping_is_not_loaded_but_can_be_searched(
    client: flight.FlightClient, cursor: dbapi.Cursor
) -> None:
    loaded = {said.get("table") for said in act_all(client, "activate_profile", profile="user")}
    assert "docs" in loaded
    assert "eval_queries" not in loaded
    found = rows(cursor, f"SELECT query_id FROM vector_search('eval_queries', {QUERIES[2].tolist()}, k => 1)")
    assert found == [("q2",)]


@pytest.mark.slow
def test_a_promotion_serves_searches_that_go_on_meanwhile(
    client: flight.FlightClient, cursor: dbapi.Cursor, lab: Server
) -> None:
    act(client, "create_vector_index", profile="user", table="docs", type="ivf_flat")
    (trial,) = run_trial(client, search=[{"ef": 77}])
    errors: list[BaseException] = []
    is_done = threading.Event()

    def search() -> None:
        with dbapi.connect(lab.uri, autocommit=True) as connection, connection.cursor() as own:
            while not is_done.is_set():
                try:
                    own.execute(
                        "SELECT id FROM vector_search('docs', ?, profile => 'user', k => 1)",
                        [QUERIES[7].tolist()],
                    )
                    assert own.fetchall() == [(7,)]
                except BaseException as error:
                    errors.append(error)
                    return

    searching = threading.Thread(target=search)
    searching.start()
    try:
        report = act(client, "promote_trial", profile="user", trial_id=trial["trial_id"])
    finally:
        is_done.set()
        searching.join()
    assert not errors
    assert (report["type"], report["search"]) == ("hnsw_sq", {"ef": 77})
    kept = rows(cursor, f"SELECT promoted_at IS NOT NULL FROM trials WHERE trial_id = '{trial['trial_id']}'")
    assert kept == [(True,)]
    assert rows(cursor, "SELECT count(*) FROM trials WHERE promoted_at IS NOT NULL") == [(1,)]
    act(client, "drop_vector_index", profile="user", table="docs")


def test_what_fails_is_in_the_journal_and_cannot_be_promoted(
    client: flight.FlightClient, cursor: dbapi.Cursor
) -> None:
    with pytest.raises(pa.ArrowInvalid, match="num_sub_vectors must divide the dimension"):
        run_trial(client, index={"type": "ivf_pq", "num_sub_vectors": 7})
    ((trial, error),) = rows(cursor, "SELECT trial_id, error FROM trials WHERE status = 'failed'")
    assert "num_sub_vectors" in error
    with pytest.raises(pa.ArrowInvalid, match="is failed: only one that came to its end"):
        act(client, "promote_trial", profile="user", trial_id=trial)


def test_a_client_that_goes_away_cancels_its_trial(client: flight.FlightClient, cursor: dbapi.Cursor) -> None:
    body = {
        "profile": "user",
        "table": "docs",
        "eval_set": "own",
        "search": [{"ef": 9000}] * 64,
        "index": INDEX,
    }
    results = client.do_action(flight.Action("run_trial", json.dumps(body).encode()))
    next(results)
    del results
    for _ in range(200):
        found = rows(cursor, "SELECT count(*) FROM trials WHERE status = 'cancelled'")
        if found != [(0,)]:
            break
    assert found == [(64,)]


def test_journals_stay_with_their_profiles(client: flight.FlightClient, cursor: dbapi.Cursor) -> None:
    act(client, "create_profile", profile="rival")
    put(client, ["profile:rival", "docs"], docs(0, 50))
    put_eval_set(client, profile="rival")
    run_trial(client, profile="rival")
    assert rows(cursor, "SELECT DISTINCT profile FROM trials") == [("user",)]
    assert rows(cursor, 'SELECT profile FROM "profile:rival".trials') == [("rival",)]


def test_bad_requests_say_what_is_right(client: flight.FlightClient) -> None:
    pairs = pa.table({"id": [1], "a": vectors([[1.0, 0.0]]), "b": vectors([[0.0, 1.0]])})
    put(client, ["profile:user", "pairs"], pairs)
    for action, body, said in (
        (put_eval_set, {"queries": []}, "'queries' must be a list of 1 to 10000"),
        (put_eval_set, {"queries": [{"id": "a"}]}, "needs either a 'vector' or a 'text'"),
        (put_eval_set, {"queries": [{"id": "a", "vector": [1, 2]}]}, "query 'a': .* has 2 dimensions"),
        (put_eval_set, {"queries": [{"id": "a", "text": "x"}]}, "has no embedder"),
        (put_eval_set, {"queries": [{"id": "a", "vector": [0] * DIM}]}, "query 'a': .* no direction"),
        (put_eval_set, {"queries": [{"id": "a", "vector": [True] * DIM}]}, "must be a list of numbers"),
        (put_eval_set, {"queries": [{"id": ["a"], "vector": [1] * DIM}]}, "'id' of query 0 must be"),
        (
            put_eval_set,
            {"queries": [{"id": "a", "vector": [1] * DIM, "answers": ["1", "99999"]}]},
            "query 'a': no row has the key '99999' in column id",
        ),
        (put_eval_set, {"name": "a\0"}, "1 to 255 printable characters"),
        (put_eval_set, {"table": "pairs"}, "one column of vectors, and this one has 2: a, b"),
        (put_eval_set, {"table": "nothing"}, "no table 'profile:user.nothing'"),
        (run_trial, {"eval_set": "none"}, "no eval set 'none'"),
        (run_trial, {"table": "others"}, "eval set 'own' is one for table docs"),
        (run_trial, {"index": {"type": "magic"}}, "no index of type 'magic' to try"),
        (run_trial, {"index": {"type": ["hnsw_sq"]}}, "no index of type .* to try"),
        (run_trial, {"index": {"metric": {}}}, "there is no metric"),
        (run_trial, {"index": {"type": "hnsw_sq", "mm": 1}}, "mm"),
        (run_trial, {"search": [{"speed": 1}]}, "whole numbers from 1 to 100000 for ef, nprobes, refine"),
        (run_trial, {"k": 0}, "'k' must be a whole number"),
        (run_trial, {"profile": "nobody"}, "no profile 'nobody'"),
    ):
        with pytest.raises(Exception, match=said):
            action(client, **body)
    with pytest.raises(Exception, match=r"no trial 'x': FROM sys\.trials lists them"):
        act(client, "promote_trial", profile="user", trial_id="x")
