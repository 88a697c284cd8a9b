"""dbt: a project whose model reads sources in two buckets, and dbt's own tests of adapters, which write."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from flight_server.testing import Server
from tests.clients.conftest import HERE, check, installed, run_python

pytestmark = [pytest.mark.dbt, pytest.mark.timeout(120)]

MODEL = """\
select people.name, animals.legs
from "lakehouse"."testing"."people" as people
join "lakehouse"."primary"."animals" as animals on people.pet = animals.species
order by people.name"""

VALUES = {
    "debug": True,
    "compile": MODEL,
    "show a model": [{"name": "Ada", "legs": 4}, {"name": "Bob", "legs": 2}],
    "show SQL": [{"n": 3}],
    "test": {"source_not_null_zoo_animals_legs": "pass"},
    "source freshness": {"people": "warn"},
    "docs": {
        "source.reading.zoo.animals": ["BASE TABLE", {"species": "VARCHAR", "legs": "INTEGER"}],
        "source.reading.office.people": [
            "BASE TABLE",
            {"name": "VARCHAR", "born": "DATE", "pet": "VARCHAR"},
        ],
    },
}


def test_dbt_reads_everything_there_is(world: Server) -> None:
    check(run_python("dbt", world), VALUES, {})


OWN = {"basic": 12, "incremental": 20, "seed": 16, "snapshot": 20}
"""How many tests each module of tests/clients/dbt/adapter has; none may be skipped."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("module", OWN)
def test_dbts_own_tests_of_adapters_pass(empty: Server, tmp_path: Path, module: str) -> None:
    folder = installed("dbt") / "bin"
    # dbt writes its logs below the root.
    options = ["-q", "-W", "ignore", "-c", "pytest.ini", "--rootdir", tmp_path]
    done = subprocess.run(
        [folder / "python", "-m", "pytest", *options, f"adapter_{module}.py"],
        cwd=HERE / "dbt/adapter",
        env={**os.environ, "FLIGHT_SQL_PORT": str(empty.port)},
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(rf"{OWN[module]} passed in .*", done.stdout.splitlines()[-1]), done.stdout[-20_000:]
