"""Sweep removes what no version needs, and nothing else."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql

DAY = 24 * 3600


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server of its own: a sweep sees all buckets."""
    with serve() as running:
        yield running


@pytest.fixture
def client(own: Server) -> Iterator[Any]:
    with flight.connect(own.uri) as connected:
        yield connected


def act(client: Any, action: str, **body: Any) -> dict[str, Any]:
    (result,) = client.do_action(flight.Action(action, json.dumps(body).encode()))
    answer: dict[str, Any] = json.loads(result.body.to_pybytes())
    return answer


def put(client: Any, name: str, value: int, mode: str = "replace") -> None:
    table = pa.table({"x": [value]})
    options = flight.FlightCallOptions(headers=[(b"x-lakehouse-mode", mode.encode())])
    writer, reader = client.do_put(flight.FlightDescriptor.for_path(name), table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()


def values(client: Any, name: str) -> list[int]:
    found: list[Any] = flight_sql.query(client, f"SELECT x FROM {name} ORDER BY x").column("x").to_pylist()
    return found


def orphan(server: Server, name: str, age: float) -> Path:
    path = server.data_dir / "primary/_objects" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 100)
    os.utime(path, (time.time() - age,) * 2)
    return path


def make_older(server: Server, seconds: float) -> None:
    """Move all commits so far into the past."""
    with sqlite3.connect(server.data_dir / "catalog.db") as connection:
        connection.execute("UPDATE commits SET at = at - ?", (int(seconds * 1e6),))
    connection.close()


def objects(server: Server) -> int:
    return sum(path.is_file() for path in (server.data_dir / "primary/_objects").rglob("*"))


def test_orphans_of_some_age_go_and_nothing_else(own: Server, client: Any, unique_name: str) -> None:
    put(client, unique_name, 1)
    old, young = orphan(own, "a/old.parquet", 2 * DAY), orphan(own, "a/young.parquet", 60)
    beside = own.data_dir / "primary/mine.parquet"
    beside.write_text("not ours")
    os.utime(beside, (0, 0))
    assert act(client, "sweep", dry_run=True)["orphans"] == {"objects": 1, "bytes": 100}
    assert old.exists()
    assert act(client, "sweep", bucket="testing")["orphans"]["objects"] == 0
    assert act(client, "sweep")["orphans"] == {"objects": 1, "bytes": 100}
    assert (old.exists(), young.exists(), beside.exists()) == (False, True, True)
    assert act(client, "sweep", older_than_s=0)["orphans"]["objects"] == 1
    assert act(client, "sweep", older_than_s=0)["orphans"]["objects"] == 0
    assert values(client, unique_name) == [1]


def test_running_uploads_and_open_transactions_keep_their_objects(
    own: Server, client: Any, unique_name: str
) -> None:
    batch = pa.record_batch({"x": list(range(200_000))})
    writer, reader = client.do_put(flight.FlightDescriptor.for_path(unique_name), batch.schema)
    with dbapi.connect(own.uri) as connection, connection.cursor() as cursor, writer:
        writer.write_batch(batch)
        cursor.adbc_ingest(f"{unique_name}_b", pa.table({"x": [7]}), mode="create")
        with flight.connect(own.uri) as other:
            assert act(other, "sweep", older_than_s=0)["orphans"]["objects"] == 0
        connection.commit()
        writer.done_writing()
        reader.read()
    assert len(values(client, unique_name)) == 200_000
    assert values(client, f"{unique_name}_b") == [7]


@pytest.mark.slow
def test_an_upload_that_a_sweep_overtook_is_refused(own: Server, client: Any, unique_name: str) -> None:
    """A sweep on the command line cannot know what the server is writing."""
    with dbapi.connect(own.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, pa.table({"x": [7]}), mode="create")
        command = [sys.executable, "-m", "flight_server", "sweep", "--older-than", "0", "--data-dir"]
        done = subprocess.run([*command, str(own.data_dir)], capture_output=True, check=True, timeout=60)
        assert json.loads(done.stdout)["orphans"]["objects"] == 1
        with pytest.raises(dbapi.Error, match="a sweep has removed"):
            connection.commit()
    with pytest.raises(pa.ArrowKeyError):
        values(client, unique_name)


def test_versions_past_their_retention_go_with_their_objects(
    own: Server, client: Any, unique_name: str
) -> None:
    outside = own.data_dir / f"primary/{unique_name}.parquet"
    pq.write_table(pa.table({"x": [0]}), outside)
    act(client, "register", bucket="primary", dataset=unique_name, keys=[outside.name])
    for value in (1, 2):
        put(client, unique_name, value)
    put(client, f"{unique_name}_kept", 5)
    put(client, unique_name, 3, "append")
    make_older(own, 8 * DAY)
    put(client, unique_name, 4)
    before = objects(own)
    ticket = client.get_flight_info(flight.FlightDescriptor.for_path(unique_name)).endpoints[0].ticket
    # Version 4 (rows 2 and 3) was current until just now: it stays, as do the current ones.
    expected = {"versions": 3, "expired": {"objects": 1, "forgotten": 1}}
    for dry_run in (True, False):
        report = act(client, "sweep", dry_run=dry_run)
        assert report["versions"] >= expected["versions"]
        assert (report["expired"]["objects"], report["forgotten"]) == (1, 1)
        assert objects(own) == before - (not dry_run)
    assert act(client, "sweep")["versions"] == 0
    assert outside.exists()
    assert client.do_get(ticket).read_all().num_rows == 1
    assert values(client, unique_name) == [4]
    assert values(client, f"{unique_name}_kept") == [5]


def test_a_forgotten_idempotency_key_is_free_again(own: Server, client: Any, unique_name: str) -> None:
    with sqlite3.connect(own.data_dir / "catalog.db") as connection:
        connection.execute("INSERT INTO idempotency VALUES ('local', ?, 'd', '{}', 0)", (unique_name,))
    connection.close()
    assert act(client, "sweep")["idempotency_keys"] == 1
    assert act(client, "sweep")["idempotency_keys"] == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"older_than_s": -1}, "seconds from 0"),
        ({"older_than_s": "1"}, "seconds from 0"),
        ({"dry_run": 1}, "true or false"),
        ({"bucket": 3}, "bucket's name"),
        ({"force": True}, "takes only bucket, older_than_s, dry_run"),
    ],
)
def test_malformed_sweeps_are_invalid(client: Any, body: dict[str, Any], message: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=message):
        act(client, "sweep", **body)
