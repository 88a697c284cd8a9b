"""dbt: a project whose model reads sources in two buckets."""

import pytest

from flight_server.testing import Server
from tests.clients.conftest import check, run_python

pytestmark = pytest.mark.dbt

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
