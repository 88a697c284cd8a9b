"""The body of put_eval_set, which may be as long as a message: read value by value, with bounds.

Decoding it at once would let nobody else go on meanwhile, and take twenty times its memory.
"""

import io
from typing import Any

import pyarrow as pa

from flight_server.domain.json_stream import JsonStream
from flight_server.domain.trial import QUERIES
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire.actions import check_keys, check_names

_NAMES = ("profile", "name", "table")
_QUERY_KEYS = ("id", "vector", "text", "answers")
_MAX_QUERIES = 10_000
_MAX_PARTS = 100_000
"""Numbers of a vector, answers and all else in one query."""

_MAX_NAME = 255
"""Characters of the name of an eval set, and of the id of a query."""

_QUERIES = (
    f"'queries' must be a list of 1 to {_MAX_QUERIES} objects like "
    '{"id": "q1", "text": "…"} or {"id": "q1", "vector": […], "answers": ["…"]}'
)


def read_eval_set(body: bytes) -> tuple[str, str, str, pa.Table]:
    """Return the profile, the name, the table, and the queries as rows of `QUERIES`.

    Raises InvalidArgumentError.
    """
    try:
        options = _options(body)
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"the action's body must be a JSON object in UTF-8: {error}") from error
    check_names(options, _NAMES)
    if not _is_name(options["name"]):
        raise InvalidArgumentError(f"the 'name' of an eval set has 1 to {_MAX_NAME} printable characters")
    if "queries" not in options:
        raise InvalidArgumentError(_QUERIES)
    profile, name, table = (options[each] for each in _NAMES)
    return profile, name, table, options["queries"]


def _options(body: bytes) -> dict[str, Any]:
    stream = JsonStream(io.BytesIO(body or b"{}"))
    if not stream.is_object:
        raise ValueError("it begins otherwise")
    options: dict[str, Any] = {}
    for name in stream.members():
        check_keys("put_eval_set", {name: None}, (*_NAMES, "queries"))
        options[name] = _queries(stream) if name == "queries" else stream.value(_MAX_PARTS)
    return options


def _queries(stream: JsonStream) -> pa.Table:
    """Return the queries as rows, each of which is small memory before the next is read."""
    if not stream.is_list:
        raise InvalidArgumentError(_QUERIES)
    rows: dict[str, pa.RecordBatch] = {}
    for _ in stream.items():
        if len(rows) == _MAX_QUERIES:
            raise InvalidArgumentError(_QUERIES)
        query = _query(len(rows), stream.value(_MAX_PARTS))
        if query["query_id"] in rows:
            raise InvalidArgumentError("two queries have the same 'id'")
        rows[query["query_id"]] = _row(query)
    if not rows:
        raise InvalidArgumentError(_QUERIES)
    return pa.Table.from_batches(rows.values()).combine_chunks()


def _row(query: dict[str, Any]) -> pa.RecordBatch:
    try:
        return pa.RecordBatch.from_pylist([query], QUERIES)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(
            "each 'vector' must be a list of numbers, and 'text' must be a text"
        ) from error


def _query(at: int, written: object) -> dict[str, Any]:
    if not isinstance(written, dict) or written.keys() - set(_QUERY_KEYS):
        raise InvalidArgumentError(f"query {at} must be an object with only {', '.join(_QUERY_KEYS)}")
    if not _is_key(written.get("id")) or not _is_name(str(written["id"])):
        raise InvalidArgumentError(
            f"the 'id' of query {at} must be a text of 1 to {_MAX_NAME} printable characters, or a number"
        )
    if (written.get("vector") is None) == (written.get("text") is None):
        raise InvalidArgumentError(f"query {at} needs either a 'vector' or a 'text'")
    answers = written.get("answers")
    if answers is not None and not (isinstance(answers, list) and all(map(_is_key, answers))):
        raise InvalidArgumentError(f"the 'answers' of query {at} must be a list of keys: texts or numbers")
    if any(isinstance(value, bool) for value in _listed(written.get("vector"))):
        raise InvalidArgumentError(f"the 'vector' of query {at} must be a list of numbers")
    return {
        "query_id": str(written["id"]),
        "text": written.get("text"),
        "vector": written.get("vector"),
        "answers": None if answers is None else [str(each) for each in answers],
    }


def _is_key(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_name(value: str) -> bool:
    return 1 <= len(value) <= _MAX_NAME and value.isprintable()


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
