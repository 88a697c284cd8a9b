"""The actions of eval sets and trials; bodies and results are JSON."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flight_server.domain.call import CallContext
from flight_server.domain.trial import MAX_SETTING, QUERIES, SETTINGS
from flight_server.domain.vector import IndexKind, Metric
from flight_server.errors import InvalidArgumentError
from flight_server.flight.progress import reported, reported_rows
from flight_server.flight.wire.actions import LONGEST_JSON, check_keys, decode_json
from flight_server.services.trials import AskedTrial, EvalSet

if TYPE_CHECKING:
    from flight_server.services.trials import TrialService

_MAX_QUERIES = 10_000
_MAX_SETTINGS = 64
_MAX_K = 10_000
_QUERY_KEYS = ("id", "vector", "text", "answers")
_MAX_NAME = 255
"""Characters of the name of an eval set, and of the id of a query."""


@dataclass(frozen=True, slots=True)
class TrialHandlers:
    """Answers the actions."""

    service: "TrialService"

    def put_eval_set(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Store an eval set; yield progress and then the report."""
        options = _options("put_eval_set", body, ("profile", "name", "table"), ("queries",), None)
        if not _is_name(options["name"]):
            raise InvalidArgumentError(f"the 'name' of an eval set has 1 to {_MAX_NAME} printable characters")
        asked = EvalSet(
            options["profile"], options["name"], options["table"], _queries(options.get("queries"))
        )
        return reported(partial(self.service.put_eval_set, call.identity, asked))

    def run(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Run trials; yield progress and then the journal's rows."""
        options = _options("run_trial", body, ("profile", "table", "eval_set"), ("index", "search", "k"))
        kind, metric, params = _index(options.get("index"))
        asked = AskedTrial(
            options["profile"],
            options["table"],
            options["eval_set"],
            kind,
            metric,
            params,
            _settings(options.get("search")),
            _k(options.get("k")),
        )
        return reported_rows(partial(self.service.run, call.identity, asked))

    def promote(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Make a trial's index the one of searches; yield progress and then the report."""
        options = _options("promote_trial", body, ("profile", "trial_id"), ())
        return reported(partial(self.service.promote, call, options["profile"], options["trial_id"]))


def _options(
    action: str,
    body: bytes,
    names: tuple[str, ...],
    others: tuple[str, ...],
    longest: int | None = LONGEST_JSON,
) -> dict[str, Any]:
    """Return a body that has all these names as texts. Raises InvalidArgumentError."""
    options = decode_json(body, longest)
    check_keys(action, options, (*names, *others))
    for name in names:
        if not isinstance(options.get(name), str) or not options[name]:
            raise InvalidArgumentError(f"the body must name a '{name}'")
    return options


def _queries(written: object) -> pa.Table:
    """Return the queries of an eval set as rows. Raises InvalidArgumentError."""
    if not isinstance(written, list) or not 1 <= len(written) <= _MAX_QUERIES:
        raise InvalidArgumentError(
            f"'queries' must be a list of 1 to {_MAX_QUERIES} objects like "
            '{"id": "q1", "text": "…"} or {"id": "q1", "vector": […], "answers": ["…"]}'
        )
    rows = [_query(at, each) for at, each in enumerate(written)]
    if len({row["query_id"] for row in rows}) < len(rows):
        raise InvalidArgumentError("two queries have the same 'id'")
    try:
        return pa.Table.from_pylist(rows, QUERIES)
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


def _index(written: object) -> tuple[IndexKind, Metric | None, Mapping[str, object]]:
    """Return what is to be built. Raises InvalidArgumentError."""
    given = {} if written is None else written
    if not isinstance(given, dict):
        raise InvalidArgumentError("'index' must be an object: {\"type\": …, parameters of the build}")
    params = {name: value for name, value in given.items() if name not in ("type", "metric")}
    kind, metric = given.get("type") or IndexKind.AUTO, given.get("metric")
    if not isinstance(kind, str) or kind not in {*IndexKind} or kind == IndexKind.FTS:
        kinds = ", ".join(each for each in IndexKind if each is not IndexKind.FTS)
        raise InvalidArgumentError(f"there is no index of type {kind!r:.80} to try; there are {kinds}")
    if metric is not None and (not isinstance(metric, str) or metric not in {*Metric}):
        raise InvalidArgumentError(f"there is no metric {metric!r:.80}; there are {', '.join(Metric)}")
    return IndexKind(kind), None if metric is None else Metric(metric), params


def _settings(written: object) -> list[dict[str, int]]:
    """Return the settings of searches. Raises InvalidArgumentError."""
    given = [{}] if written is None else written
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_SETTINGS:
        raise InvalidArgumentError(f"'search' must be a list of 1 to {_MAX_SETTINGS} objects")
    for each in given:
        is_known = isinstance(each, dict) and not each.keys() - set(SETTINGS)
        if not is_known or not all(_is_whole(value, MAX_SETTING) for value in each.values()):
            raise InvalidArgumentError(
                f"each of 'search' must be an object with whole numbers from 1 to {MAX_SETTING} "
                f"for {', '.join(SETTINGS)}"
            )
    return given


def _k(written: object) -> int:
    k = 10 if written is None else written
    if not isinstance(k, int) or not _is_whole(k, _MAX_K):
        raise InvalidArgumentError(f"'k' must be a whole number from 1 to {_MAX_K}")
    return k


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
