"""The options of a session: what may be set, what values are right, what they are now.

Set by SQL (`SET`, `USE`, `RESET`), by the action SetSessionOptions, or by a driver's properties. Those of
DuckDB (`TimeZone`) travel with every statement; an engine process has tried their values before.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import CATALOG
from flight_server.domain.identity import Identity
from flight_server.domain.session import DUCKDB_SETTINGS
from flight_server.errors import InvalidArgumentError, NotFoundError
from flight_server.services.resolution import Names
from flight_server.services.sessions import Session, SessionService
from flight_server.services.transactions import TransactionService

_MOST_SCHEMAS = 100
"""How many schemas a search path may have: each statement looks through all."""

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "": 1e-3}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


class UnknownOptionError(InvalidArgumentError):
    """No option has this name."""


@dataclass(frozen=True, slots=True)
class _Option:
    """How an option is set from a text, taken back, and shown."""

    set: Callable[["SessionOptions", CallContext, Session, str], None]
    reset: Callable[[Session], None]
    show: Callable[["SessionOptions", CallContext, Session], str | None]


class SessionOptions:
    """Sets and shows the options of sessions."""

    def __init__(
        self,
        sessions: SessionService,
        names: Names,
        transactions: TransactionService,
        select: Callable[[Identity, str], None],
    ) -> None:
        """Take what is told of each profile that is selected as `select`."""
        self._sessions = sessions
        self._select = select
        self._names = names
        self._transactions = transactions

    def set(self, call: CallContext, name: str, value: str) -> None:
        """Set an option of the call's session.

        Raises UnknownOptionError, InvalidArgumentError or NotFoundError; then nothing is changed.
        """
        session = self._sessions.get(call.session_id)
        if name.lower() in DUCKDB_SETTINGS:
            session.settings[DUCKDB_SETTINGS[name.lower()]] = value
        else:
            _option(name).set(self, call, session, value)

    def set_schemas(self, call: CallContext, paths: tuple[tuple[str, ...], ...]) -> None:
        """Set where bare names are looked for first, by paths of schemas; the catalog's name means none.

        Raises NotFoundError, or InvalidArgumentError for too many.
        """
        session = self._sessions.get(call.session_id)
        paths = tuple(dict.fromkeys(paths))
        if len(paths) > _MOST_SCHEMAS:
            raise InvalidArgumentError(
                f"the search path has {len(paths)} schemas, at most {_MOST_SCHEMAS} are looked through: name "
                "others with their schema"
            )
        session.schemas = tuple(name for path in paths for name in self._schema(call, path))

    def reset(self, call: CallContext, name: str) -> None:
        """Take an option of the call's session back. Raises UnknownOptionError."""
        session = self._sessions.get(call.session_id)
        if name.lower() in DUCKDB_SETTINGS:
            session.settings.pop(DUCKDB_SETTINGS[name.lower()], None)
        else:
            _option(name).reset(session)

    def show(self, call: CallContext) -> dict[str, str]:
        """Return the options of the call's session that have a value."""
        session = self._sessions.get(call.session_id)
        shown = {name: option.show(self, call, session) for name, option in _OPTIONS.items()}
        return {name: value for name, value in shown.items() if value is not None} | session.settings

    def _schema(self, call: CallContext, path: tuple[str, ...]) -> list[str]:
        if path[0].lower() == CATALOG:
            path = path[1:]
        if len(path) > 1:
            raise NotFoundError(
                f"no schema {'.'.join(path)!r}; a schema has one name, as in {CATALOG}.primary"
            )
        return [self._named(call, name) for name in path]

    def _named(self, call: CallContext, schema: str) -> str:
        snapshot = self._transactions.snapshot(self._transactions.of_session(call))
        return self._names.namespace(call.identity, schema, snapshot).name

    def _set_catalog(self, _call: CallContext, _session: Session, value: str) -> None:
        if value.lower() != CATALOG:
            raise NotFoundError(f"no catalog {value!r}; there is one: {CATALOG}")

    def _set_schema(self, call: CallContext, session: Session, value: str) -> None:
        session.schemas = (self._named(call, value),)

    def _set_bucket(self, call: CallContext, session: Session, value: str) -> None:
        session.bucket = self._names.registry.resolve(call.identity, value).name

    def _set_profile(self, call: CallContext, session: Session, value: str) -> None:
        found = self._names.registry.profile(call.identity, value.lower())
        session.profile = found.name.removeprefix(PROFILE_PREFIX)
        self._select(call.identity, session.profile)

    def _set_timeout(self, _call: CallContext, session: Session, value: str) -> None:
        session.statement_timeout = _seconds(value)


def _seconds(written: str) -> float | None:
    """Return the seconds of `5s`, `1.5min` or a bare number, which is of milliseconds; None for 0."""
    found = _DURATION.fullmatch(written.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise InvalidArgumentError(
            f"{written[:80]!r} is not a statement_timeout: write '500ms', '30s', '5min', a number of "
            "milliseconds, or 0 for none"
        )
    return float(found[1]) * _SECONDS[found[2]] or None


def _option(name: str) -> _Option:
    option = _OPTIONS.get(name.lower())
    if option is None:
        known = ", ".join(sorted([*_OPTIONS, *DUCKDB_SETTINGS.values()]))
        raise UnknownOptionError(f"no option {name[:80]!r} of a session; those that can be set are: {known}")
    return option


def _taken_back(attribute: str, nothing: object = None) -> Callable[[Session], None]:
    return lambda session: setattr(session, attribute, nothing)


_OPTIONS: Mapping[str, _Option] = {
    "bucket": _Option(SessionOptions._set_bucket, _taken_back("bucket"), lambda _, call, __: call.bucket),
    "catalog": _Option(SessionOptions._set_catalog, lambda _: None, lambda *_: CATALOG),
    "profile": _Option(
        SessionOptions._set_profile, _taken_back("profile"), lambda _, __, session: session.profile
    ),
    "schema": _Option(
        SessionOptions._set_schema, _taken_back("schemas", ()), lambda _, call, __: call.namespace
    ),
    "statement_timeout": _Option(
        SessionOptions._set_timeout,
        _taken_back("statement_timeout"),
        lambda _, __, session: (
            None if session.statement_timeout is None else f"{session.statement_timeout * 1000:g}ms"
        ),
    ),
}
"""Name → option; documented in docs/reference/sessions.md."""
