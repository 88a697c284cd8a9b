"""The actions of profiles and of their indexes; bodies and results are JSON."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.domain.vector import IndexKind, Metric
from flight_server.errors import InvalidArgumentError
from flight_server.flight.progress import reported
from flight_server.flight.wire.actions import check_keys, decode_json, encode_json
from flight_server.services.indexing import AskedIndex

if TYPE_CHECKING:
    from flight_server.services.indexing import IndexService
    from flight_server.services.profiles import ProfileService

_METRIC_PARAMS = ("metric", "distance_type")
"""What a metric may be called among the parameters of a build; LanceDB says the latter."""

_KINDS: Mapping[type, str] = {str: "a text", bool: "true or false", dict: "a JSON object"}


@dataclass(frozen=True, slots=True)
class ProfileHandlers:
    """Answers the actions."""

    profiles: "ProfileService"
    indexes: "IndexService"

    async def create(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Make a profile."""
        (profile,) = _asked("create_profile", body, {"profile": str})
        return (encode_json(await self.profiles.create(call.identity, _needed("profile", profile))),)

    def drop(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Drop a profile with all its data; yield progress and then the report."""
        (profile,) = _asked("drop_profile", body, {"profile": str})
        return reported(partial(self.profiles.drop, call.identity, _needed("profile", profile)))

    def activate(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Load a profile; yield what each index has got, and then the summary."""
        profile, wait = _asked("activate_profile", body, {"profile": str, "wait": bool})
        rows = self.profiles.activate(call.identity, _needed("profile", profile), wait=wait is not False)
        return _encoded(rows)

    async def deactivate(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Let go of what a profile has in memory."""
        (profile,) = _asked("deactivate_profile", body, {"profile": str})
        return (encode_json(await self.profiles.deactivate(call.identity, _needed("profile", profile))),)

    def list(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the profiles, one result for each."""
        _asked("list_profiles", body, {})
        return _encoded(self.profiles.list(call.identity))

    def create_index(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Build an index; yield progress and then the report."""
        keys = {"profile": str, "table": str, "column": str, "type": str, "params": dict}
        profile, table, column, kind, params = _asked("create_vector_index", body, keys)
        index_kind = _kind(kind)
        metric, rest = _metric(params or {})
        if index_kind is IndexKind.FTS and len(rest) < len(params or {}):
            raise InvalidArgumentError("an index of texts compares no vectors: leave the metric out")
        names = _needed("profile", profile), _needed("table", table)
        asked = AskedIndex(*names, column, index_kind, metric, rest)
        return reported(partial(self.indexes.create, call.identity, asked))

    async def drop_index(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Drop the indexes of a table, or those of one column."""
        keys = {"profile": str, "table": str, "column": str}
        profile, table, column = _asked("drop_vector_index", body, keys)
        names = _needed("profile", profile), _needed("table", table)
        return (encode_json(await self.indexes.drop(call.identity, *names, column)),)


def _asked(action: str, body: bytes, keys: Mapping[str, type]) -> list[Any]:
    """Return the values of a body's keys, None where one is left out. Raises InvalidArgumentError."""
    options = decode_json(body)
    check_keys(action, options, tuple(keys))
    for name, kind in keys.items():
        value = options.get(name)
        if value is not None and not isinstance(value, kind):
            raise InvalidArgumentError(f"'{name}' must be {_KINDS[kind]}")
    return [options.get(name) for name in keys]


def _needed(name: str, value: str | None) -> str:
    if not value:
        raise InvalidArgumentError(f"the body must name a '{name}'")
    return value


def _kind(written: str | None) -> IndexKind:
    try:
        return IndexKind.AUTO if written is None else IndexKind(written.lower())
    except ValueError as error:
        raise InvalidArgumentError(
            f"there is no index of type {written!r:.80}; there are {', '.join(IndexKind)}"
        ) from error


def _metric(params: Mapping[str, Any]) -> tuple[Metric, dict[str, Any]]:
    """Return the metric of a build, cosine where none is given, and its other parameters."""
    given = {str(params[name]).lower() for name in _METRIC_PARAMS if params.get(name) is not None}
    rest = {name: value for name, value in params.items() if name not in _METRIC_PARAMS}
    if not given <= {*Metric} or len(given) > 1:
        raise InvalidArgumentError(
            f"there is no metric {', '.join(sorted(given))[:80]!r}; there are {', '.join(Metric)}"
        )
    return Metric(given.pop()) if given else Metric.COSINE, rest


async def _encoded(rows: AsyncIterator[dict[str, Any]]) -> AsyncGenerator[bytes, None]:
    async for row in rows:
        yield encode_json(row)
