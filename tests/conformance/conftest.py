"""The server of the conformance suite: ours, or the one that `--flight-sql-uri` names."""

from collections.abc import Iterator

import pytest

from tests.conformance.flight_session import FlightSession
from tests.conformance.target import Target


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The server that the cases run against."""
    uri = request.config.getoption("--flight-sql-uri")
    if uri is None:
        return Target(request.getfixturevalue("server").uri)
    username = request.config.getoption("--flight-sql-username")
    return Target(uri, username, request.config.getoption("--flight-sql-password"))


@pytest.fixture(scope="session")
def shared(target: Target) -> Iterator[FlightSession]:
    """The connection of all cases that change nothing."""
    session = FlightSession(target, {})
    yield session
    session.close()
