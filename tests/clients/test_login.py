"""Logging in with JDBC and Go, where everybody has to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flight_server.auth.changes import UserChanges
from flight_server.auth.users import UsersFile
from flight_server.testing import Server, serve
from tests import needs
from tests.clients.conftest import HERE, Line, installed, lines, run

DRIVERS = ("18.3.0", "15.0.2")
PASSWORD = "x"
"""What the Go client says."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Server, str]]:
    """A server with one user, and an API token of that user's."""
    with serve(users={"ada": {"password": PASSWORD, "grants": ["*=admin"]}}) as running:
        token = UserChanges(UsersFile(running.data_dir / "users.json")).add_token("ada", None)
        yield running, token


@pytest.mark.jdbc
@pytest.mark.parametrize("driver", DRIVERS)
def test_jdbc_logs_in_by_password_and_by_token(
    driver: str, guarded: tuple[Server, str], tmp_path: Path
) -> None:
    server, token = guarded
    compiler = needs.program("javac", "install a JDK, 17 or newer")
    run([compiler, "-d", tmp_path, *sorted((HERE / "jdbc").glob("*.java"))])
    jar = installed("jdbc") / f"flight-sql-jdbc-driver-{driver}.jar"
    options = ["--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", f"{jar}:{tmp_path}"]
    address = f"{server.host}:{server.port}"
    found = lines(run(["java", *options, "Login", address, "ada", PASSWORD, token]))
    assert found["login: password"] == found["login: token"] == Line(7)
    for refused in ("wrong password", "wrong token", "nobody"):
        assert "not logged in" in (found[f"login: {refused}"].error or ""), refused


@pytest.mark.go
def test_go_gets_nothing_but_by_logging_in(guarded: tuple[Server, str]) -> None:
    found = lines(run([installed("go") / "client", guarded[0].uri]))
    assert found["login"] == Line([{"one": 1}])
    assert [name for name, line in found.items() if line.value] == ["login"]
