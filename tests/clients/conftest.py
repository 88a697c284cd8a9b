"""A server with known tables for the clients of the world, and where `make clients` installs them."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import needs

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENTS = ROOT / ".clients"

EVERY_TYPE = pa.table(
    {
        "flag": pa.array([True]),
        "tiny": pa.array([-7], pa.int8()),
        "small": pa.array([-700], pa.int16()),
        "number": pa.array([-70_000], pa.int32()),
        "big": pa.array([2**62], pa.int64()),
        "ratio": pa.array([1.5], pa.float64()),
        "price": pa.array([12.5], pa.float64()).cast(pa.decimal128(9, 2)),
        "word": pa.array(["é"]),
        "data": pa.array([b"\x00\xff"]),
        "born": pa.array([date(2024, 2, 29)]),
        "at": pa.array([1_709_212_455_678_901], pa.timestamp("us")),
        "zoned": pa.array([1_709_212_455_678_901], pa.timestamp("us", "UTC")),
        "tags": pa.array([["a", "b"]], pa.list_(pa.utf8())),
        "pair": pa.array([{"x": 1, "y": "z"}], pa.struct([("x", pa.int32()), ("y", pa.utf8())])),
    }
)

TABLES = {
    ("primary", "animals"): pa.table(
        {"species": ["bird", "cat", "dog"], "legs": pa.array([2, 4, 4], pa.int32())}
    ),
    ("primary", "a_b"): pa.table({"id": [1]}),
    ("primary", "every_type"): EVERY_TYPE,
    ("testing", "animals"): pa.table({"species": ["unicorn"], "legs": pa.array([4], pa.int32())}),
    ("testing", "people"): pa.table(
        {
            "name": ["Ada", "Bob", "Cy"],
            "born": [date(1815, 12, 10), date(1990, 1, 2), None],
            "pet": ["cat", "bird", None],
        }
    ),
    ("profile:user", "notes"): pa.table({"about": ["cat"], "Note": ["purrs"]}),
}
"""What the server holds: (bucket, name) to rows. Clients only read these."""


@pytest.fixture(scope="module")
def world() -> Iterator[Server]:
    """A server with TABLES; one for each kind of client, because some leave tables behind."""
    with serve() as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for (bucket, name), rows in TABLES.items():
                cursor.adbc_ingest(name, rows, mode="create", db_schema_name=bucket)
        yield running


@pytest.fixture
def empty() -> Iterator[Server]:
    """A server that holds nothing, for a client that writes."""
    with serve() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Line:
    """What one step of a client gave: a value, or the text of an error."""

    value: Any = None
    error: str | None = None


Lines = dict[str, Line]


def run(command: Sequence[str | Path], cwd: Path = ROOT, stdin: str = "", seconds: float = 55.0) -> str:
    """Run a client and return what it printed; it must end well."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def lines(output: str) -> Lines:
    """Read lines of JSON with a name and either a value or an error."""
    said = [json.loads(text) for text in output.splitlines() if text.startswith("{")]
    return {line["name"]: Line(line.get("value"), line.get("error")) for line in said}


def installed(client: str) -> Path:
    """Return the folder that `make clients` has installed a client into, or end the test."""
    return needs.installed(CLIENTS / client / ".ready", f"the client {client}", "run `make clients`").parent


def run_python(client: str, server: Server, program: str = "client") -> Lines:
    """Run a program of a client's folder in the client's own environment."""
    folder = installed(client)
    command = [folder / "bin/python", "-m", f"tests.clients.{client}.{program}", server.uri]
    return lines(run(command, seconds=110))


def check(found: Lines, values: dict[str, Any], errors: dict[str, str]) -> None:
    """Compare all that a client showed: `values` by name, `errors` by name as regular expressions."""
    wrong = {
        name: line
        for name, line in found.items()
        if line != Line(values.get(name))
        and not (name in errors and line.error and re.search(errors[name], line.error))
    }
    assert wrong == {}
    assert found.keys() == values.keys() | errors.keys()
