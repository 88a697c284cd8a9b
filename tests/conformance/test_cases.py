"""Runs the case files (docs/guide/conformance.md) through real clients."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

import pytest

from tests.conformance import cases, steps
from tests.conformance.adbc_session import AdbcSession
from tests.conformance.cases import Case
from tests.conformance.flight_session import ROUTES, FlightSession
from tests.conformance.target import RefusedError, Target

_READS = {"query", "call", "poll", "send"}


@dataclass(frozen=True, slots=True)
class Run:
    """A case, and how its statements are sent: by ADBC, or by a route of `ROUTES`."""

    case: Case
    by: str

    @property
    def can_share(self) -> bool:
        """Tell whether the case leaves its session as it found it."""
        return self.by != "adbc" and not self.case.headers and {s.kind for s in self.case.steps} <= _READS


def _runs() -> Iterator[pytest.param]:
    for case in cases.load():
        by_flight = list(ROUTES) if case.has_effects else ["update"]
        ways = {"flight": by_flight, "adbc": ["adbc"]}
        for by in (way for client in case.clients for way in ways[client]):
            label = case.name if by == "update" else f"{case.name} ({by})"
            yield pytest.param(Run(case, by), id=label)


@pytest.mark.parametrize("run", [*_runs()])
def test_case(run: Run, target: Target, shared: FlightSession, request: pytest.FixtureRequest) -> None:
    """Run the steps of a case one after another."""
    config = request.config
    if run.case.is_extension and config.getoption("--flight-sql-uri"):
        if not config.getoption("--flight-sql-extensions"):
            pytest.skip("an extension of this server")
    case = run.case.named(f"conformance_{uuid.uuid4().hex[:8]}")
    if run.can_share:
        for step in case.steps:
            steps.run(steps.Sessions(shared, lambda: shared), step)
        return
    with ExitStack() as stack:
        connect = cache(lambda _: stack.enter_context(_session(run, case, target)))
        sessions = steps.Sessions(connect("own"), lambda: connect("other"))
        stack.callback(_drop, case, target)
        for step in case.steps:
            steps.run(sessions, step)


@contextmanager
def _session(run: Run, case: Case, target: Target) -> Iterator[steps.Session]:
    if run.by == "adbc":
        session: steps.Session = AdbcSession(target, case.headers)
    else:
        session = FlightSession(target, case.headers, ROUTES[run.by])
    try:
        yield session
    finally:
        _unless_refused(session.close_session)
        session.close()


def _drop(case: Case, target: Target) -> None:
    """Drop the tables of a case, where the server can."""
    for table in case.tables:
        session = FlightSession(target, {}, ROUTES["update"])
        _unless_refused(lambda name=table: session.update(f"DROP TABLE IF EXISTS {name}", None))
        session.close()


def _unless_refused(act: Callable[[], object]) -> None:
    """Do something that not every server can."""
    try:
        act()
    except RefusedError as error:
        if error.status not in ("UNIMPLEMENTED", "NOT_FOUND"):
            raise
