"""A server that is killed, or whose disk fails, at each place of a commit loses and repeats nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from flight_server.domain import faults
from flight_server.domain.faults import Place
from flight_server.testing import serve
from tests import flight_sql

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

UPLOADS = 6
ROWS = 1_000
INGEST = (
    Place.INGEST_STORED,
    Place.INGEST_COMMITTED,
    Place.COMMIT_READY,
    Place.COMMIT_MADE,
    Place.OBJECT_WRITTEN,
    Place.OBJECT_CLOSED,
    Place.WRITE_READY,
)
SWEEP = (Place.SWEEP_BURIED, Place.SWEEP_DELETED, Place.OBJECT_DELETED)
COMMANDS = {Place.IMPORT_READY: ["catalog", "import"], Place.MIGRATE_READY: ["migrate"]}


def put(client: Any, number: int) -> None:
    """Upload rows that hold one number, under a key of its own."""
    table = pa.table({"x": [number] * ROWS})
    options = flight.FlightCallOptions(headers=[(b"x-idempotency-key", str(number).encode())], timeout=30)
    writer, reader = client.do_put(flight.FlightDescriptor.for_path("t"), table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()


def put_all(uri: str) -> list[int]:
    """Upload everything; return what was acknowledged."""
    done = []
    with flight.connect(uri) as client:
        for number in range(UPLOADS):
            try:
                put(client, number)
            except (pa.ArrowException, OSError):
                continue
            done.append(number)
    return done


def counts(client: Any) -> dict[int, int]:
    try:
        found = flight_sql.query(client, "SELECT x, count(*) AS n FROM t GROUP BY x").to_pylist()
    except pa.ArrowKeyError:
        return {}
    return {row["x"]: row["n"] for row in found}


def sweep(client: Any) -> dict[str, Any]:
    *_, result = client.do_action(flight.Action("sweep", b'{"older_than_s": 0}'))
    report: dict[str, Any] = json.loads(result.body.to_pybytes())
    return report


def stored(data_dir: Path) -> int:
    return sum(path.is_file() for path in (data_dir / "primary/_objects").rglob("*"))


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield lambda value: monkeypatch.setenv(faults.VARIABLE, value)
    monkeypatch.delenv(faults.VARIABLE, raising=False)


@pytest.mark.parametrize("place", INGEST)
@pytest.mark.parametrize("time", [1, 3])
def test_a_killed_ingest_is_whole_or_absent(
    tmp_path: Path, fault: Any, monkeypatch: pytest.MonkeyPatch, place: str, time: int
) -> None:
    fault(f"{place}:{time}")
    with serve(data_dir=tmp_path) as server:
        acknowledged = put_all(server.uri)
    monkeypatch.delenv(faults.VARIABLE)
    assert len(acknowledged) < UPLOADS
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        found = counts(client)
        assert set(acknowledged) <= found.keys()
        assert set(found.values()) <= {ROWS}
        assert put_all(server.uri) == list(range(UPLOADS))
        assert counts(client) == dict.fromkeys(range(UPLOADS), ROWS)
        sweep(client)
        assert stored(tmp_path) == UPLOADS
        assert counts(client) == dict.fromkeys(range(UPLOADS), ROWS)


@pytest.mark.parametrize("place", SWEEP)
def test_a_killed_sweep_is_finished_by_the_next(
    tmp_path: Path, fault: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    fault(place)
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        put(client, 0)
        orphan = tmp_path / "primary/_objects/o/o.parquet"
        orphan.parent.mkdir()
        orphan.touch()
        with pytest.raises((pa.ArrowException, OSError)):
            sweep(client)
    monkeypatch.delenv(faults.VARIABLE)
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        sweep(client)
        assert (stored(tmp_path), counts(client)) == (1, {0: ROWS})


@pytest.mark.parametrize("write", range(1, 9))
def test_a_full_disk_leaves_the_state_before_or_after(tmp_path: Path, fault: Any, write: int) -> None:
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        put(client, 0)
    fault(f"{faults.FULL_DISK}:{write}")
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        expected, refused = {0: ROWS}, ""
        try:
            put(client, 1)
            expected[1] = ROWS
        except pa.ArrowException as error:
            refused = str(error)
        assert 1 in expected or "no space left" in refused
        assert counts(client) == expected
        assert stored(tmp_path) == len(expected)


@pytest.mark.parametrize(("place", "command"), COMMANDS.items())
def test_a_killed_import_or_migration_changed_nothing(tmp_path: Path, place: str, command: list[str]) -> None:
    primary = tmp_path / "primary"
    primary.mkdir()
    pq.write_table(pa.table({"x": [1]}), primary / "a.parquet")
    manifest = tmp_path / "manifest.json"
    entry = {"bucket": "data", "key": "a.parquet", "size_bytes": 1}
    dataset = {"id": "a", "name": "a", "created_at": "2024-05-01T00:00:00Z", "objects": [entry]}
    manifest.write_text(json.dumps({"datasets": [dataset]}))

    def run(words: list[str], fault: str = "") -> subprocess.CompletedProcess[bytes]:
        paths = [str(manifest)] if "import" in words else []
        return subprocess.run(
            [sys.executable, "-m", "flight_server", *words, *paths, "--data-dir", str(tmp_path)],
            env=os.environ | {faults.VARIABLE: fault},
            capture_output=True,
            timeout=60,
        )

    if command == ["migrate"]:
        assert run(["catalog", "import"]).returncode == 0
    assert run(command, place).returncode < 0
    report = json.loads(run(command).stdout)
    assert report.get("renamed", {"data": report.get("objects")}) == {"data": 1}
