"""Runs the case files (docs/guide/conformance.md) through real clients."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.conformance import cases, steps
from tests.conformance.adbc_session import AdbcSession
from tests.conformance.cases import Case
from tests.conformance.flight_session import ROUTES, FlightSession
from tests.conformance.target import RefusedError, Target

_READS = {"query", "call", "poll", "send"}


@dataclass(frozen=True, slots=True)
class Run:
    """A case, and one of its routes."""

    case: Case
    route: str

    @property
    def can_share(self) -> bool:
        """Tell whether the case leaves its session as it found it."""
        kinds = {step.kind for step in self.case.steps}
        return self.route == "both ways" and not self.case.headers and kinds <= _READS


def _runs() -> Iterator[Any]:
    for case in cases.load():
        for route in case.routes:
            label = case.name if route == "both ways" else f"{case.name} ({route})"
            yield pytest.param(Run(case, route), id=label)


@pytest.mark.parametrize("run", [*_runs()])
def test_case(run: Run, target: Target, shared: FlightSession, request: pytest.FixtureRequest) -> None:
    """Run the steps of a case one after another."""
    config = request.config
    is_foreign = config.getoption("--flight-sql-uri") and not config.getoption("--flight-sql-extensions")
    if run.case.is_extension and is_foreign:
        pytest.skip("an extension of flight-server")
    case = run.case.named(f"conformance_{uuid.uuid4().hex[:8]}")
    if run.can_share:
        for step in case.steps:
            steps.run(steps.Sessions(shared, lambda: shared), step)
        return
    with ExitStack() as stack:
        connect = cache(lambda _: stack.enter_context(_session(run, case, target)))
        sessions = steps.Sessions(connect("own"), lambda: connect("other"))
        stack.callback(_drop, case, shared)
        for step in case.steps:
            steps.run(sessions, step)


@contextmanager
def _session(run: Run, case: Case, target: Target) -> Iterator[steps.Session]:
    if run.route == "adbc":
        session: steps.Session = AdbcSession(target, case.headers)
    else:
        session = FlightSession(target, case.headers, ROUTES.get(run.route))
    try:
        yield session
    finally:
        with suppress(RefusedError):  # not every server has sessions
            session.close_session()
        session.close()


def _drop(case: Case, session: FlightSession) -> None:
    """Drop the tables of a case, where the server can."""
    for table in case.tables:
        with suppress(RefusedError):
            session.update(f"DROP TABLE IF EXISTS {table}", None)
