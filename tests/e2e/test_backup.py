"""A backup brings back exactly the versions that it was made of."""

import json
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from click.testing import CliRunner, Result

from flight_server.cli import main
from flight_server.testing import serve
from tests import flight_sql

YEAR = 365 * 24 * 3600


def run(*words: str | Path, data_dir: Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words), "--data-dir", str(data_dir)])


def report(*words: str | Path, data_dir: Path) -> dict[str, Any]:
    done = run(*words, data_dir=data_dir)
    assert (done.exit_code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def served(data_dir: Path) -> Iterator[Any]:
    with (
        serve(data_dir=data_dir, telemetry={"log_level": "error"}) as server,
        fl.connect(server.uri) as client,
    ):
        yield client


def put(client: Any, name: str, value: int, mode: str = "create_append") -> None:
    table = pa.table({"x": [value]})
    options = fl.FlightCallOptions(headers=[(b"x-lakehouse-mode", mode.encode())])
    writer, reader = client.do_put(fl.FlightDescriptor.for_path(name), table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()


def values(client: Any, name: str) -> list[int]:
    found: list[Any] = flight_sql.query(client, f"SELECT x FROM {name} ORDER BY x")["x"].to_pylist()
    return found


def make_older(data_dir: Path, seconds: float) -> None:
    with sqlite3.connect(data_dir / "catalog.db") as connection:
        connection.execute("UPDATE commits SET at = at - ?", (int(seconds * 1e6),))
        connection.execute("UPDATE holds SET at = at - ?", (int(seconds * 1e6),))
    connection.close()


@pytest.mark.slow
def test_what_a_backup_names_survives_and_comes_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data) as client:
        for value in (1, 2):
            put(client, "t", value)
        put(client, "dropped", 7)
        made = report("backup", tmp_path, data_dir=data)
        file = Path(made["file"])
        assert (made["datasets"], made["objects"], file.parent) == (2, 3, tmp_path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        put(client, "t", 3, "replace")
        put(client, "t", 4, "replace")
        put(client, "later", 5)
        client.get_flight_info(flight_sql.statement_query("DROP TABLE dropped"))
        make_older(data, YEAR)
        (result,) = client.do_action(fl.Action("sweep", b'{"older_than_s": 0}'))
        swept = json.loads(result.body.to_pybytes())
        # 3, which the backup lacks
        assert (swept["expired"]["objects"], swept["orphans"]["objects"]) == (1, 0)
        refused = run("restore", file, "--force", data_dir=data)
        assert "a server or a command uses the catalog" in refused.stderr
    check_elsewhere(file, data, tmp_path / "other")
    assert "there is a catalog here already" in run("restore", file, data_dir=data).stderr
    restored = report("restore", file, "--force", data_dir=data)
    assert (restored["objects"], restored["unchecked"]) == (3, 0)
    with served(data) as client:
        assert (values(client, "t"), values(client, '"t@1"')) == ([1, 2], [1])
        names = flight_sql.query(client, "SELECT name FROM sys.datasets ORDER BY name")["name"]
        assert (names.to_pylist(), values(client, "dropped")) == (["dropped", "t"], [7])
        put(client, "t", 6)
        assert values(client, "t") == [1, 2, 6]


def check_elsewhere(file: Path, data: Path, other: Path) -> None:
    """Restore into an empty place: only where the objects are."""
    refused = run("restore", file, data_dir=other).stderr
    assert "3 objects of the backup are missing, nothing was restored: primary: _objects/" in refused
    assert not (other / "catalog.db").exists()
    shutil.copytree(data / "primary", other / "primary", dirs_exist_ok=True)
    assert report("restore", file, data_dir=other)["objects"] == 3
    assert sorted(path.name for path in other.glob("catalog*")) == ["catalog.db"]


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, " * 100)
    assert "is not a SQLite database" in run("restore", tmp_path / "text", data_dir=tmp_path / "d").stderr
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert "is not a catalog" in run("restore", tmp_path / "other.db", data_dir=tmp_path / "d").stderr
    assert "there is no catalog here" in run("backup", tmp_path / "b", data_dir=tmp_path / "d").stderr
