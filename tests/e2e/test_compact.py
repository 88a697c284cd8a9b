"""Compact merges small objects and changes no rows."""

import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import dbapi
from click.testing import CliRunner

from flight_server.cli import main
from flight_server.testing import Server, serve
from tests import flight_sql

pytestmark = pytest.mark.slow

Connect = Callable[..., dbapi.Connection]


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server of its own: without a name, all that it has is compacted."""
    with serve() as running:
        yield running


@pytest.fixture
def client(own: Server) -> Iterator[Any]:
    with fl.connect(own.uri) as connected:
        yield connected


def compact(client: Any, **body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what was told on the way, and the report."""
    results = client.do_action(fl.Action("compact", json.dumps(body).encode()))
    *told, report = [json.loads(result.body.to_pybytes()) for result in results]
    return [each["progress"] for each in told], report


def append(client: Any, name: str, table: pa.Table, *, evolve: bool = False) -> None:
    headers = [(b"x-lakehouse-evolve", b"true")] if evolve else []
    options = fl.FlightCallOptions(headers=headers)
    writer, reader = client.do_put(fl.FlightDescriptor.for_path(name), table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()


def rows(client: Any, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = flight_sql.query(client, f"SELECT * FROM {name}").to_pylist()
    return found


def objects(client: Any, name: str) -> list[Any]:
    """Return the keys of a dataset's newest version."""
    sql = f"SELECT key FROM sys.object_refs WHERE dataset = '{name}' AND removed_version IS NULL"
    found: list[Any] = flight_sql.query(client, sql)["key"].to_pylist()
    return found


def test_small_objects_become_one_with_the_same_rows_in_order(
    own: Server, client: Any, unique_name: str
) -> None:
    for start in range(0, 500, 100):
        append(client, unique_name, pa.table({"x": range(start, start + 100), "s": ["é"] * 100}))
    append(client, unique_name, pa.table({"x": [500], "new": [1.5]}), evolve=True)
    before = rows(client, unique_name)
    told, report = compact(client, dataset=unique_name)
    assert (report["datasets"], report["merged"]["objects"], report["written"]["objects"]) == (1, 6, 1)
    assert [told[0], told[-1]] == [{"dataset": unique_name, "rows": done, "of": 501} for done in (0, 501)]
    assert (rows(client, unique_name), len(objects(client, unique_name))) == (before, 1)
    assert [row["x"] for row in before] == list(range(501))
    assert rows(client, f'"{unique_name}@5"') == [{"x": x, "s": "é"} for x in range(500)]
    assert compact(client, dataset=unique_name)[1]["datasets"] == 0
    (key,) = objects(client, unique_name)
    assert pq.read_metadata(own.data_dir / "primary" / key).num_rows == 501


def test_a_declared_sort_key_clusters_what_there_is_and_what_comes(
    own: Server, client: Any, unique_name: str
) -> None:
    values = list(range(1_000))
    random.Random(4).shuffle(values)
    append(client, unique_name, pa.table({"x": values[:600], "g": [value % 3 for value in values[:600]]}))
    _, report = compact(client, dataset=unique_name, sort_by=["G", "x"])
    assert report["merged"]["objects"] == 1  # declared after it was written
    found = rows(client, unique_name)
    assert [(row["g"], row["x"]) for row in found] == sorted((row["g"], row["x"]) for row in found)
    append(client, unique_name, pa.table({"x": values[600:], "g": [value % 3 for value in values[600:]]}))
    assert compact(client)[1]["given_up"] == []
    found = rows(client, unique_name)
    assert [(row["g"], row["x"]) for row in found] == sorted((x % 3, x) for x in values)
    with pytest.raises(pa.ArrowKeyError, match="no column 'nope'; the columns are: x, g"):
        compact(client, dataset=unique_name, sort_by=["nope"])
    assert compact(client, dataset=unique_name, sort_by=[])[1]["datasets"] == 0


def test_a_sort_key_follows_renamed_columns_and_keeps_constraints(
    own: Server, client: Any, unique_name: str
) -> None:
    with dbapi.connect(own.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in (
            f"CREATE TABLE {unique_name} (id INTEGER PRIMARY KEY, v INTEGER DEFAULT 7)",
            f"INSERT INTO {unique_name} VALUES (2, 1), (1, 2)",
            f"INSERT INTO {unique_name} (id) VALUES (0)",
            f"ALTER TABLE {unique_name} SET SORTED BY (id)",
            f"ALTER TABLE {unique_name} RENAME id TO key",
            f"ALTER TABLE {unique_name} ADD COLUMN later INTEGER DEFAULT 3",
        ):
            cursor.execute(statement)
        assert compact(client, dataset=unique_name)[1]["written"]["objects"] == 1
        expected = [{"key": key, "v": v, "later": 3} for key, v in ((0, 7), (1, 2), (2, 1))]
        assert rows(client, unique_name) == expected
        with pytest.raises(dbapi.Error, match="key"):
            cursor.execute(f"INSERT INTO {unique_name} VALUES (1, 1, 1)")
        cursor.execute(f"ALTER TABLE {unique_name} RESET SORTED BY")


def test_values_of_every_kind_come_through(client: Any, unique_name: str) -> None:
    moment = datetime(1999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
    values: dict[str, tuple[Any, Any]] = {
        "u": (pa.uint64(), 2**64 - 1),
        "f": (pa.float32(), 1.5),
        "d": (pa.decimal128(38, 10), Decimal("-1234567890.0123456789")),
        "b": (pa.binary(), b"\0\xff"),
        "day": (pa.date32(), moment.date()),
        "at": (pa.timestamp("us", "Europe/Berlin"), moment),
        "ns": (pa.timestamp("ns"), moment.replace(tzinfo=None)),
        "time": (pa.time64("us"), moment.time()),
        "list": (pa.list_(pa.int16()), [1, None]),
        "three": (pa.list_(pa.int8(), 3), [1, 2, 3]),
        "struct": (pa.struct([("a", pa.int8()), ("b", pa.utf8())]), {"a": 1, "b": "x"}),
        "map": (pa.map_(pa.utf8(), pa.int64()), [("k", 1)]),
        "yes": (pa.bool_(), True),
    }
    schema = pa.schema([(name, kind) for name, (kind, _) in values.items()])
    row = {name: value for name, (_, value) in values.items()}
    append(client, unique_name, pa.Table.from_pylist([row], schema))
    append(client, unique_name, pa.Table.from_pylist([dict.fromkeys(values)], schema))
    before = flight_sql.query(client, f"FROM {unique_name}")
    assert compact(client, dataset=unique_name)[1]["written"]["objects"] == 1
    assert flight_sql.query(client, f"FROM {unique_name}").equals(before)


def test_registered_objects_are_left_alone(own: Server, client: Any, unique_name: str) -> None:
    for number in range(2):
        pq.write_table(pa.table({"x": [number]}), own.data_dir / "primary" / f"{unique_name}{number}.parquet")
    body = {"bucket": "primary", "dataset": unique_name}
    keys = [f"{unique_name}{number}.parquet" for number in range(2)]
    list(client.do_action(fl.Action("register", json.dumps(body | {"keys": keys}).encode())))
    assert compact(client, dataset=unique_name)[1]["datasets"] == 0


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"dataset": "nothing_here"}, "no table 'nothing_here'"),
        ({"bucket": "nothing"}, "no bucket or schema 'nothing'; .* here are: primary, testing"),
        ({"sort_by": ["x"]}, "name it as 'dataset'"),
        ({"sort_by": "x", "dataset": "t"}, "must be a list of columns"),
        ({"dataset": 1}, "'dataset' must be a name"),
        ({"all": True}, "compact takes only bucket, dataset, sort_by"),
    ],
)
def test_what_cannot_be_compacted_is_said(client: Any, body: dict[str, Any], error: str) -> None:
    with pytest.raises(pa.ArrowException, match=error):
        compact(client, **body)


def test_the_command_compacts_beside_a_server(own: Server, client: Any, unique_name: str) -> None:
    for number in range(3):
        append(client, unique_name, pa.table({"x": [number]}))
    options = ["--dataset", unique_name, "--sort-by", "x", "--data-dir", str(own.data_dir)]
    done = CliRunner().invoke(main, ["compact", *options])
    assert json.loads(done.stdout)["merged"]["objects"] == 3
    assert rows(client, unique_name) == [{"x": 0}, {"x": 1}, {"x": 2}]


def test_an_open_transaction_is_not_made_to_fail(own: Server, client: Any, unique_name: str) -> None:
    for number in range(3):
        append(client, unique_name, pa.table({"x": [number]}))
    with dbapi.connect(own.uri) as connection, connection.cursor() as cursor:
        cursor.executescript(f"UPDATE {unique_name} SET x = 10 WHERE x = 0")
        _, report = compact(client, dataset=unique_name)
        assert "an open transaction" in report["given_up"][0]["reason"]
        connection.commit()
    assert compact(client, dataset=unique_name)[1]["datasets"] == 1
    assert sorted(row["x"] for row in rows(client, unique_name)) == [1, 2, 10]


def test_many_small_objects_are_merged_in_the_background(tmp_path: Path) -> None:
    with serve(data_dir=tmp_path, catalog={"compact_beyond": 4}) as server, fl.connect(server.uri) as client:
        for number in range(6):
            append(client, "many", pa.table({"x": [number]}))
        append(client, "few", pa.table({"x": [0]}))
        append(client, "few", pa.table({"x": [1]}))
        deadline = time.monotonic() + 40
        while len(objects(client, "many")) > 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert [len(objects(client, name)) for name in ("many", "few")] == [1, 2]
        assert [row["x"] for row in rows(client, "many")] == list(range(6))
