"""Storage fails at each operation of an ingest in turn: the state is as before or after, and all goes on."""

import shutil
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.domain import faults
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.stress.test_crash_safety import stored, sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MOST_OPERATIONS = 100
ROWS = 1_000
BEFORE, AFTER = [1, 1], [1 + ROWS] * 2
EXPECTED = {
    "storage-eio": ("bucket primary cannot be used: Input/output error", "FailedPrecondition"),
    "storage-enospc": ("bucket primary has no space left", "ResourceExhausted"),
}


def ingest(server: Server, rows: int) -> None:
    """Write one object to each of two datasets and commit both at once."""
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        for name in ("a", "b"):
            cursor.adbc_ingest(name, pa.table({"x": range(rows)}), mode="create_append")
        connection.commit()


def check(server: Server, data_dir: Path, text: str, code: str) -> bool:
    """Ingest once while an operation may fail; tell whether one did."""
    expected, refused = AFTER, ""
    with pyarrow.flight.connect(server.uri) as client:
        try:
            ingest(server, ROWS)
        except dbapi.Error as error:
            expected, refused = BEFORE, str(error)
        assert expected == AFTER or f"{text} ({code}" in refused
        if expected == AFTER:
            # The operations of the ingest are over: a reader's may be next.
            with suppress(pa.ArrowException):
                counts(client)
        assert counts(client) == expected
        ingest(server, ROWS)
        expected = [rows + ROWS for rows in expected]
        sweep(client)
        assert stored(data_dir) == 2 * (1 + expected[0] // ROWS)
        assert counts(client) == expected
    return expected[0] == 1 + ROWS


def counts(client: pyarrow.flight.FlightClient) -> list[int]:
    sql = "SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b"
    return list(flight_sql.query(client, sql).to_pylist()[0].values())


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A data directory where both datasets have one row."""
    with serve(data_dir=tmp_path / "before") as server:
        ingest(server, 1)
    return tmp_path / "before"


@pytest.mark.parametrize("fault", EXPECTED)
def test_an_ingest_survives_the_failure_of_any_operation(
    before: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    for number in range(1, MOST_OPERATIONS):
        data_dir = before.with_name(str(number))
        shutil.copytree(before, data_dir)
        monkeypatch.setenv(faults.VARIABLE, f"{fault}:{number}")
        with serve(data_dir=data_dir, engine={"spares": 0}) as server:
            if not check(server, data_dir, *EXPECTED[fault]):
                break
    print(f"{number - 1} operations failed in turn")  # noqa: T201 - pytest shows it when the test fails
    assert 20 < number < MOST_OPERATIONS - 1


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_sweep_survives_the_failure_of_any_operation(
    before: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    text, _ = EXPECTED[fault]
    for number in range(1, MOST_OPERATIONS):
        for name in ("a", "b"):
            orphan = before / f"primary/_objects/orphan/{number}{name}.parquet"
            orphan.parent.mkdir(exist_ok=True)
            orphan.touch()
        monkeypatch.setenv(faults.VARIABLE, f"{fault}:{number}")
        with (
            serve(data_dir=before, engine={"spares": 0}) as server,
            pyarrow.flight.connect(server.uri) as client,
        ):
            refused = ""
            try:
                sweep(client)
            except pa.ArrowException as error:
                refused = str(error)
            if not refused:
                break
            assert text.removeprefix("bucket primary ") in refused
            sweep(client)
            assert (stored(before), counts(client)) == (2, BEFORE)
    assert 5 < number < MOST_OPERATIONS - 1
