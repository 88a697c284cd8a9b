"""The actions of eval sets and trials; bodies and results are JSON."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.domain.trial import MAX_SETTING, SETTINGS
from flight_server.domain.vector import IndexKind, Metric
from flight_server.errors import InvalidArgumentError
from flight_server.flight.progress import Tell, reported, reported_rows
from flight_server.flight.wire.actions import check_keys, check_names, decode_json
from flight_server.flight.wire.eval_sets import read_eval_set
from flight_server.services.trials import AskedTrial, EvalSet

if TYPE_CHECKING:
    from flight_server.services.trials import TrialService

_MAX_SETTINGS = 64
_MAX_K = 10_000
_ONE_THREAD = partial(ThreadPoolExecutor, 1, "eval-sets")


@dataclass(frozen=True, slots=True)
class TrialHandlers:
    """Answers the actions."""

    service: "TrialService"
    _reader: ThreadPoolExecutor = field(init=False, default_factory=_ONE_THREAD)
    """Eval sets may take seconds to read, which nobody else waits for."""

    def put_eval_set(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Store an eval set; yield progress and then the report."""

        async def stored(tell: Tell) -> object:
            loop = asyncio.get_running_loop()
            asked = EvalSet(*await loop.run_in_executor(self._reader, read_eval_set, body))
            return await self.service.put_eval_set(call.identity, asked, tell)

        return reported(stored)

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


def _options(action: str, body: bytes, names: tuple[str, ...], others: tuple[str, ...]) -> dict[str, Any]:
    """Return a body that has all these names as texts. Raises InvalidArgumentError."""
    options = decode_json(body)
    check_keys(action, options, (*names, *others))
    check_names(options, names)
    return options


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
