"""Catalogs from before buckets existed: import, read, migrate, read again."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import dbapi
from click.testing import CliRunner, Result

from flight_server.cli import main
from flight_server.testing import Server, serve

ROWS_PER_OBJECT = 1_000
CREATED = "2024-05-01T00:00:00Z"

Run = Callable[..., Result]


def run_in(data_dir: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(main, [*arguments, "--data-dir", str(data_dir)])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command line on this test's data directory."""
    return run_in(tmp_path / "data")


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server of its own: migrating sees the whole catalog, and each test leaves it migrated."""
    with serve() as running:
        yield running


@pytest.fixture
def run_beside(own: Server) -> Run:
    """Run the command line on the running server's data directory."""
    return run_in(own.data_dir)


def write_object(root: Path, key: str, start: int) -> dict[str, Any]:
    """Write one legacy object; return its manifest entry without a bucket."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"i": range(start, start + ROWS_PER_OBJECT)}), path)
    return {"key": key, "size_bytes": path.stat().st_size, "created_at": CREATED}


def write_manifest(folder: Path, *datasets: tuple[str, list[dict[str, Any]]]) -> str:
    entries = [
        {"id": f"{folder.name}-{at}", "name": name, "created_at": CREATED, "objects": objects}
        for at, (name, objects) in enumerate(datasets)
    ]
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"datasets": entries}))
    return str(manifest)


def fourteen_refs(data_dir: Path) -> list[dict[str, Any]]:
    """12 refs in `data` and 2 in `primary`."""
    return [
        write_object(data_dir / "primary", f"legacy/part-{at}.parquet", at * ROWS_PER_OBJECT)
        | {"bucket": "primary" if at % 7 == 6 else "data"}
        for at in range(14)
    ]


def total(uri: str, name: str) -> tuple[int, int]:
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*), sum(i)::bigint FROM {name}")
        (row,) = cursor.fetchall()
        return row


def act(uri: str, body: bytes = b"") -> dict[str, Any]:
    with pyarrow.flight.connect(uri) as client:
        (result,) = client.do_action(pyarrow.flight.Action("migrate", body))
        report: dict[str, Any] = json.loads(result.body.to_pybytes())
        return report


EXPECTED = {
    "total": 14,
    "renamed": {"data": 12},
    "already_canonical": 2,
    "urls_rewritten": 0,
    "unknown": [],
    "duplicates": [],
}


def test_the_action_normalises_once_and_reading_never_notices(tmp_path: Path, run: Run) -> None:
    data_dir = tmp_path / "data"
    manifest = write_manifest(tmp_path, ("events", fourteen_refs(data_dir)))
    imported = run("catalog", "import", manifest)
    assert imported.exit_code == 0, imported.stderr
    rows = 14 * ROWS_PER_OBJECT
    expected = (rows, rows * (rows - 1) // 2)
    with serve(data_dir=data_dir) as server:
        assert total(server.uri, "events") == expected
        assert act(server.uri, b'{"dry_run": true}') == EXPECTED | {"dry_run": True}
        assert act(server.uri) == EXPECTED | {"dry_run": False}
        assert total(server.uri, "events") == expected
        again = act(server.uri)
        assert (again["renamed"], again["already_canonical"]) == ({}, 14)
        assert total(server.uri, '"primary".events') == expected
    assert len(list((data_dir / "primary" / "legacy").iterdir())) == 14


@pytest.mark.slow
def test_the_command_line_works_beside_a_running_server(tmp_path: Path, run: Run) -> None:
    data_dir = tmp_path / "data"
    with serve(data_dir=data_dir) as server:
        manifest = write_manifest(tmp_path, ("events", fourteen_refs(data_dir)))
        assert json.loads(run("catalog", "import", manifest).stdout)["datasets"] == 1
        assert total(server.uri, "events")[0] == 14 * ROWS_PER_OBJECT
        assert json.loads(run("migrate", "--dry-run").stdout)["renamed"] == {"data": 12}
        assert json.loads(run("migrate").stdout) == EXPECTED | {"dry_run": False}
        assert json.loads(run("migrate").stdout)["renamed"] == {}
        assert total(server.uri, "events")[0] == 14 * ROWS_PER_OBJECT


def test_every_legacy_url_resolves_before_and_after(tmp_path: Path, own: Server, run_beside: Run) -> None:
    places = [
        ("primary", "a.parquet", {"bucket": "local"}),
        ("primary", "b.parquet", {}),
        ("primary", "c.parquet", {"key": "lakehouse://data/c.parquet"}),
        ("_testing", "d.parquet", {"key": "lakehouse://testing/d.parquet", "bucket": "data"}),
        ("_profile_user", "e.parquet", {"key": "lakehouse-profile-user://e.parquet"}),
    ]
    objects = [
        write_object(own.data_dir / root, key, at * ROWS_PER_OBJECT) | written
        for at, (root, key, written) in enumerate(places)
    ]
    before = act(own.uri)
    run_beside("catalog", "import", write_manifest(tmp_path, ("mixed", objects)))
    expected = (5_000, 5_000 * 4_999 // 2)
    assert total(own.uri, "mixed") == expected
    report = act(own.uri)
    assert report["renamed"] == {"local": 1, "": 3, "data": 1}
    assert (report["total"], report["urls_rewritten"]) == (before["total"] + 5, 3)
    assert report["unknown"] == before["unknown"]
    assert total(own.uri, "mixed") == expected


def test_an_unknown_bucket_fails_only_statements_that_name_its_dataset(
    tmp_path: Path, own: Server, run_beside: Run
) -> None:
    good = write_object(own.data_dir / "primary", "good.parquet", 0)
    lost = {"bucket": "elsewhere", "key": "x.parquet", "size_bytes": 1, "created_at": CREATED}
    manifest = write_manifest(tmp_path, ("good", [good]), ("bad", [good, lost]))
    assert run_beside("catalog", "import", manifest).exit_code == 0
    assert act(own.uri)["unknown"] == [{"bucket": "elsewhere", "count": 1}]
    assert total(own.uri, "good")[0] == ROWS_PER_OBJECT
    with pytest.raises(dbapi.OperationalError, match="'elsewhere', which is not configured"):
        total(own.uri, "bad")


def test_of_two_datasets_of_one_name_the_newest_is_read(tmp_path: Path, own: Server, run_beside: Run) -> None:
    older = write_object(own.data_dir / "primary", "older.parquet", 0)
    newer = write_object(own.data_dir / "primary", "newer.parquet", 500)
    manifest = Path(write_manifest(tmp_path, ("twice", [older]), ("Twice", [newer])))
    entries = json.loads(manifest.read_text())
    entries["datasets"][1]["created_at"] = "2025-01-01T00:00:00Z"
    manifest.write_text(json.dumps(entries))
    run_beside("catalog", "import", str(manifest))
    assert total(own.uri, "twice")[1] == sum(range(500, 1_500))
    (duplicate,) = act(own.uri)["duplicates"]
    older_id, newer_id = (dataset["id"] for dataset in entries["datasets"])
    assert (set(duplicate["ids"]), duplicate["kept"]) == ({older_id, newer_id}, newer_id)


@pytest.mark.slow
def test_objects_of_several_schemas_are_one_dataset_with_the_columns_of_all(tmp_path: Path, run: Run) -> None:
    tables = [
        pa.table({"i": pa.array([1], pa.int32()), "old": ["x"]}),
        pa.table({"i": pa.array([2**40], pa.int64()), "New": [1.5]}),
        pa.table({"I": pa.array([3], pa.int16())}),
    ]
    root = tmp_path / "data/primary"
    objects = [write_object(root, f"legacy/{at}.parquet", 0) for at in range(3)]
    for entry, table in zip(objects, tables, strict=True):
        pq.write_table(table, root / entry["key"])
    assert run("catalog", "import", write_manifest(tmp_path, ("drifted", objects))).exit_code == 0
    with (
        serve(data_dir=tmp_path / "data") as server,
        dbapi.connect(server.uri, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT i, old, new FROM drifted ORDER BY i")
        assert cursor.fetchall() == [(1, "x", None), (3, None, None), (2**40, None, 1.5)]


def test_missing_objects_are_listed_and_nothing_is_imported(tmp_path: Path, run: Run) -> None:
    good = write_object(tmp_path / "data" / "primary", "good.parquet", 0)
    manifest = write_manifest(tmp_path, ("t", [good, {**good, "key": "gone.parquet"}]))
    refused = run("catalog", "import", manifest)
    assert refused.exit_code == 1
    assert "gone.parquet" in refused.stderr
    assert json.loads(run("migrate").stdout)["total"] == 0


@pytest.mark.parametrize("command", ["migrate", "sweep"])
def test_a_data_directory_without_a_catalog_gets_none(tmp_path: Path, run: Run, command: str) -> None:
    refused = run(command)
    assert refused.exit_code == 1
    assert "there is no catalog here" in refused.stderr
    assert not (tmp_path / "data" / "catalog.db").exists()


def test_a_name_that_sql_cannot_reach_is_refused_with_its_entry(tmp_path: Path, run: Run) -> None:
    refused = run("catalog", "import", write_manifest(tmp_path, ("fine", []), ("people@3", [])))
    assert refused.exit_code == 1
    assert (
        f"wrong at the dataset with the id {tmp_path.name}-1: 'people@3' is not a table name"
        in refused.stderr
    )


@pytest.mark.slow
def test_of_many_missing_objects_the_first_are_listed(tmp_path: Path, run: Run) -> None:
    lost = {"bucket": "data", "size_bytes": 1, "created_at": CREATED}
    datasets = [(f"t{at}", [{**lost, "key": f"{at}-{part}"} for part in range(100)]) for at in range(15)]
    refused = run("catalog", "import", write_manifest(tmp_path, *datasets))
    assert "1500 objects of the manifest do not exist, nothing was imported: primary: 0-0," in refused.stderr
    assert refused.stderr.rstrip().endswith("primary: 0-19 and 1480 more")
    assert json.loads(run("migrate").stdout)["total"] == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_an_import_needs_no_memory_for_its_size(tmp_path: Path, kind: str) -> None:
    measured = """
import re, sys
from pathlib import Path
from flight_server.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    write_object(tmp_path / "data" / "primary", "one.parquet", 0)
    peaks = []
    for count in (20_000, 200_000):
        manifest = tmp_path / f"manifest-{count}"
        # Half of the datasets have the one real object, all of them many that nobody can look at.
        keys = [
            "one.parquet" if at % 20 == 0 else f"folder/of/some/length/{at}.parquet" for at in range(count)
        ]
        rows = {
            "id": [f"{count}-{at // 10}" for at in range(count)],
            "name": [f"n{at // 10}" for at in range(count)],
            "created_at": [CREATED] * count,
            "bucket": ["data" if key == "one.parquet" else "elsewhere" for key in keys],
            "key": keys,
            "size_bytes": [1] * count,
        }
        _WRITERS[kind](manifest, rows)
        command = [sys.executable, "-c", measured, "catalog", "import", str(manifest)]
        done = subprocess.run(
            [*command, "--data-dir", str(tmp_path / "data")], capture_output=True, text=True
        )
        report, peak = done.stdout.splitlines()
        assert json.loads(report)["objects"] == count
        assert json.loads(report)["rows"] == count // 20 * ROWS_PER_OBJECT
        peaks.append(int(peak))
    assert peaks[1] < 1.3 * peaks[0]


def _write_rows_as_json(path: Path, rows: dict[str, list[Any]]) -> None:
    entries = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    header = ("id", "name", "created_at")
    pieces = [{**{name: row[name] for name in header}, "objects": [row]} for row in entries]
    path.write_text(json.dumps({"datasets": pieces}))


_WRITERS: dict[str, Callable[[Path, dict[str, list[Any]]], None]] = {
    "json": _write_rows_as_json,
    "parquet": lambda path, rows: pq.write_table(pa.table(rows), path),
}


def test_unknown_keys_of_the_body_are_refused(server: Server) -> None:
    with pytest.raises(pa.ArrowInvalid, match="dry_run"):
        act(server.uri, b'{"dryrun": true}')
