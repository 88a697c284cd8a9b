"""The target of dbt's own tests of adapters: a running server, where each class makes a schema of its own."""

import os

import pytest


@pytest.fixture(scope="class")
def dbt_profile_target() -> dict[str, object]:
    """Return what a profiles.yml says of the server."""
    return {
        "type": "gizmosql",
        "host": "127.0.0.1",
        "port": int(os.environ["FLIGHT_SQL_PORT"]),
        "database": "lakehouse",
        "use_encryption": False,
        "threads": 2,
    }
