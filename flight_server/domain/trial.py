"""The journal of trials: one row for each setting of a search that was measured, in the field's own words."""

import pyarrow as pa

TRIALS_DATASET = "trials"
"""The dataset of a profile that holds its journal."""

QUERIES_DATASET, TRUTH_DATASET = "eval_queries", "eval_truth"
"""The datasets of a profile that hold its eval sets, and the exact answers to their queries."""

BOOKKEEPING = frozenset({TRIALS_DATASET, QUERIES_DATASET, TRUTH_DATASET})
"""Datasets that the server writes itself: they can be searched like any, but are there for trials."""

WARMUP_QUERIES = 10
TRUTH_K = 100
"""How many exact answers are kept of each query, unless a trial asks for more."""

SETTINGS = ("ef", "nprobes", "refine")
"""What a trial may set of a search."""

MAX_SETTING = 100_000
"""The largest value of each; LanceDB ends what asks for more than its numbers hold."""

_MOMENT = pa.timestamp("us", "UTC")

_COLUMNS: dict[str, pa.DataType] = {
    "trial_id": pa.utf8(),
    "run_id": pa.utf8(),
    "started_at": _MOMENT,
    "profile": pa.utf8(),
    "table_name": pa.utf8(),
    "column": pa.utf8(),
    "dataset_version": pa.int64(),
    "num_rows": pa.int64(),
    "dim": pa.int64(),
    "distance_type": pa.utf8(),
    "index_type": pa.utf8(),
    "build_params": pa.utf8(),
    "search_params": pa.utf8(),
    "k": pa.int64(),
    "eval_set": pa.utf8(),
    "eval_set_version": pa.int64(),
    "num_queries": pa.int64(),
    "seed": pa.int64(),
    "warmup": pa.int64(),
    "concurrency": pa.int64(),
    "build_seconds": pa.float64(),
    "index_bytes": pa.int64(),
    "prewarm_ms": pa.float64(),
    "first_query_ms": pa.float64(),
    "recall": pa.float64(),
    "ndcg": pa.float64(),
    "latency_p50_ms": pa.float64(),
    "latency_p95_ms": pa.float64(),
    "latency_p99_ms": pa.float64(),
    "qps": pa.float64(),
    "rss_bytes": pa.int64(),
    "lancedb_version": pa.utf8(),
    "status": pa.utf8(),
    "error": pa.utf8(),
    "promoted_at": _MOMENT,
    "note": pa.utf8(),
}

TRIALS = pa.schema(list(_COLUMNS.items()))
"""Its columns; `build_params` and `search_params` are JSON, `status` is ok, failed or cancelled."""

QUERIES = pa.schema(
    {
        "query_id": pa.utf8(),
        "text": pa.utf8(),
        "vector": pa.list_(pa.float32()),
        "answers": pa.list_(pa.utf8()),
    }
)
"""The queries of an eval set: each has a text or a vector, and perhaps keys of rows known to be right."""

_ANSWER: dict[str, pa.DataType] = {
    "query_id": pa.utf8(),
    "rank": pa.int64(),
    "object": pa.int64(),
    "row": pa.int64(),
    "distance": pa.float32(),
}
TRUTH = pa.schema(_ANSWER)
"""Exact answers: where each row is (as in indexes) and how far from its query."""

_EVAL_SET: dict[str, pa.DataType] = {
    "eval_set": pa.utf8(),
    "eval_set_version": pa.int64(),
    "table_name": pa.utf8(),
    "created_at": _MOMENT,
}
_TRUTH_OF: dict[str, pa.DataType] = {
    "column": pa.utf8(),
    "dataset_id": pa.utf8(),
    "dataset_version": pa.int64(),
    "distance_type": pa.utf8(),
    "k": pa.int64(),
}
EVAL_QUERIES = pa.schema([*pa.schema(_EVAL_SET), *QUERIES])
EVAL_TRUTH = pa.schema([*pa.schema(_EVAL_SET), *pa.schema(_TRUTH_OF), *TRUTH])

_EVAL_SETS: dict[str, pa.DataType] = {
    "profile": pa.utf8(),
    "eval_set": pa.utf8(),
    "eval_set_version": pa.int64(),
    "table_name": pa.utf8(),
    "column": pa.utf8(),
    "distance_type": pa.utf8(),
    "num_queries": pa.int64(),
    "k": pa.int64(),
    "created_at": _MOMENT,
    "dataset_version": pa.int64(),
    "table_version": pa.int64(),
    "stale": pa.bool_(),
}
EVAL_SETS = pa.schema(list(_EVAL_SETS.items()))
"""What is told of eval sets: `stale` says that the exact answers are not those of the table as it is."""
