"""Ingest by DoPut: where objects land, what the catalog says of them, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.catalog.store import Catalog
from flight_server.testing import Server

PEOPLE = pa.table({"name": ["Ada", "Grace", "Edsger"], "born": [1815, 1906, 1930]})
ROOTS = {"primary": "primary", "testing": "_testing", "profile:user": "_profile_user"}

Connect = Callable[..., dbapi.Connection]


def options(*headers: tuple[str, str]) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(headers=[(name.encode(), value.encode()) for name, value in headers])


def put(
    client: flight.FlightClient, path: tuple[str, ...], table: pa.Table, *headers: tuple[str, str]
) -> dict[str, Any]:
    """Upload a table and return the JSON of the PutResult."""
    descriptor = flight.FlightDescriptor.for_path(*path)
    writer, reader = client.do_put(descriptor, table.schema, options(*headers))
    with writer:
        writer.write_table(table)
        writer.done_writing()
        answer: dict[str, Any] = json.loads(reader.read().to_pybytes())
    return answer


def objects_of(server: Server, namespace: str, name: str) -> list[tuple[str, str]]:
    """Return (bucket, key) of a dataset's objects as the catalog records them."""
    catalog = Catalog.open(f"sqlite:///{server.data_dir / 'catalog.db'}")
    try:
        dataset = catalog.find_dataset([namespace], name, catalog.newest_commit())
        assert dataset is not None
        return [(ref.bucket, ref.key) for ref in catalog.list_objects(dataset.id, dataset.version)]
    finally:
        catalog.close()


def files_under(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def newest_commit(server: Server) -> int:
    catalog = Catalog.open(f"sqlite:///{server.data_dir / 'catalog.db'}")
    try:
        return catalog.newest_commit()
    finally:
        catalog.close()


@pytest.mark.parametrize(
    ("headers", "bucket"),
    [
        ([], "primary"),
        ([("x-lakehouse-bucket", "")], "primary"),
        ([("x-lakehouse-bucket", "  ")], "primary"),
        ([("x-lakehouse-bucket", "data")], "primary"),
        ([("x-lakehouse-bucket", "testing")], "testing"),
        ([("x-lakehouse-bucket", "testing"), ("x-lakehouse-bucket", "testing")], "testing"),
        ([("x-lakehouse-bucket", "profile:user")], "profile:user"),
    ],
)
def test_objects_lie_in_the_bucket_that_the_header_names(
    server: Server, flight: Any, unique_name: str, headers: list[tuple[str, str]], bucket: str
) -> None:
    result = put(flight, (unique_name,), PEOPLE, *headers)
    assert (result["bucket"], result["rows"], result["version"]) == (bucket, 3, 1)
    ((recorded, key),) = objects_of(server, bucket, unique_name)
    assert recorded == bucket
    assert key.startswith("_objects/")
    assert (server.data_dir / ROOTS[bucket] / key).stat().st_size == result["bytes"]


def test_adbc_ingests_into_the_bucket_of_its_connection(
    server: Server, connect: Connect, unique_name: str
) -> None:
    with connect(bucket="testing").cursor() as cursor:
        assert cursor.adbc_ingest(unique_name, PEOPLE, mode="create") == 3
    assert {bucket for bucket, _ in objects_of(server, "testing", unique_name)} == {"testing"}


def test_a_bucket_named_in_the_path_or_schema_wins_over_the_session(
    server: Server, connect: Connect, flight: Any, unique_name: str
) -> None:
    assert put(flight, ("testing", unique_name), PEOPLE)["bucket"] == "testing"
    with connect().cursor() as cursor:
        cursor.adbc_ingest(unique_name, PEOPLE, mode="create", db_schema_name="profile:user")
    assert objects_of(server, "profile:user", unique_name)[0][0] == "profile:user"


def test_an_unknown_bucket_is_not_found_and_writes_nothing(
    server: Server, connect: Connect, flight: Any, unique_name: str
) -> None:
    before = files_under(server.data_dir / "primary"), newest_commit(server)
    with pytest.raises(pa.ArrowKeyError, match=r"no bucket 'nope'.*primary, testing, profile:user"):
        put(flight, (unique_name,), PEOPLE, ("x-lakehouse-bucket", "nope"))
    with (
        pytest.raises(dbapi.ProgrammingError, match=r"NOT_FOUND.*primary, testing, profile:user"),
        connect(bucket="nope").cursor() as cursor,
    ):
        cursor.adbc_ingest(unique_name, PEOPLE, mode="create")
    assert before == (files_under(server.data_dir / "primary"), newest_commit(server))


@pytest.mark.parametrize(
    ("path", "headers", "message"),
    [
        ((), [("x-lakehouse-bucket", "Testing")], "not a bucket name"),
        ((), [("x-lakehouse-bucket", "../testing")], "not a bucket name"),
        ((), [("x-lakehouse-bucket", "a/b")], "not a bucket name"),
        ((), [("x-lakehouse-bucket", "testing"), ("x-lakehouse-bucket", "primary")], "differ|two|once"),
        (("testing",), [("x-lakehouse-bucket", "primary")], "leave one of them out"),
        ((), [("x-lakehouse-mode", "upsert")], "create_append"),
        (("a", "b"), [], "path"),
    ],
)
def test_malformed_and_contradicting_requests_are_invalid(
    flight: Any, unique_name: str, path: tuple[str, ...], headers: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(pa.ArrowInvalid, match=message):
        put(flight, (*path, unique_name), PEOPLE, *headers)


@pytest.mark.parametrize("name", ["a@3", "tab\there", "x" * 256])
def test_names_that_sql_cannot_reach_are_invalid(connect: Connect, name: str) -> None:
    with (
        connect().cursor() as cursor,
        pytest.raises(dbapi.ProgrammingError, match=r"INVALID_ARGUMENT.*is not a table name"),
    ):
        cursor.adbc_ingest(name, PEOPLE, mode="create")


def test_the_mode_decides_what_happens_to_a_dataset_that_exists(connect: Connect, unique_name: str) -> None:
    with connect().cursor() as cursor:

        def count() -> int:
            cursor.execute(f"SELECT count(*) FROM {unique_name}")
            return int(cursor.fetchall()[0][0])

        with pytest.raises(dbapi.ProgrammingError, match=r"NOT_FOUND.*to append to"):
            cursor.adbc_ingest(unique_name, PEOPLE, mode="append")
        cursor.adbc_ingest(unique_name, PEOPLE, mode="create")
        with pytest.raises(dbapi.ProgrammingError, match=r"ALREADY_EXISTS.*already exists"):
            cursor.adbc_ingest(unique_name, PEOPLE, mode="create")
        cursor.adbc_ingest(unique_name, PEOPLE, mode="append")
        cursor.adbc_ingest(unique_name, PEOPLE, mode="create_append")
        assert count() == 9
        cursor.adbc_ingest(unique_name, pa.table({"other": [1]}), mode="replace")
        assert count() == 1


def test_the_mode_header_does_the_same_for_paths(flight: Any, unique_name: str) -> None:
    path = ("testing", unique_name)
    with pytest.raises(pa.ArrowKeyError, match="to append to"):
        put(flight, path, PEOPLE, ("x-lakehouse-mode", "append"))
    assert put(flight, path, PEOPLE, ("x-lakehouse-mode", "create"))["version"] == 1
    with pytest.raises(pa.ArrowException, match="already exists"):
        put(flight, path, PEOPLE, ("x-lakehouse-mode", "create"))
    assert put(flight, path, PEOPLE)["version"] == 2
    assert put(flight, path, PEOPLE, ("x-lakehouse-mode", "replace"))["version"] == 3


def test_other_columns_are_refused_one_by_one(connect: Connect, flight: Any, unique_name: str) -> None:
    put(flight, (unique_name,), PEOPLE)
    other = pa.table({"name": [1], "died": [1852]})
    with pytest.raises(pa.ArrowInvalid, match=r"'died' is not in the dataset.*'name' is string.*'born'"):
        put(flight, (unique_name,), other)
    with connect().cursor() as cursor:
        with pytest.raises(dbapi.ProgrammingError, match="INVALID_ARGUMENT"):
            cursor.adbc_ingest(unique_name, other, mode="append")
        with pytest.raises(dbapi.ProgrammingError, match="ALREADY_EXISTS"):
            cursor.adbc_ingest(unique_name, other, mode="create_append")


def test_columns_are_matched_by_name_and_widened(connect: Connect, flight: Any, unique_name: str) -> None:
    put(flight, (unique_name,), PEOPLE)
    put(flight, (unique_name,), pa.table({"BORN": pa.array([1912], pa.int16()), "Name": ["Alan"]}))
    with connect().cursor() as cursor:
        cursor.execute(f"SELECT name FROM {unique_name} WHERE born = 1912")
        assert cursor.fetchall() == [("Alan",)]


def test_an_empty_upload_makes_a_dataset_without_rows(
    connect: Connect, flight: Any, unique_name: str
) -> None:
    result = put(flight, (unique_name,), PEOPLE.slice(0, 0))
    assert (result["rows"], result["objects"]) == (0, 0)
    with connect().cursor() as cursor:
        cursor.execute(f"SELECT * FROM {unique_name}")
        assert cursor.fetch_arrow_table().schema == PEOPLE.schema


def test_an_upload_that_fails_on_the_way_leaves_nothing(
    server: Server, flight: Any, unique_name: str
) -> None:
    before = files_under(server.data_dir / "primary")
    schema = pa.schema([("a", pa.utf8())])
    offsets, not_utf8 = pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")
    batch = pa.record_batch([pa.Array.from_buffers(pa.utf8(), 1, [None, offsets, not_utf8])], schema=schema)
    writer, reader = flight.do_put(pa.flight.FlightDescriptor.for_path(unique_name), schema)
    with pytest.raises(pa.ArrowInvalid, match="malformed Arrow"), writer:
        writer.write_batch(batch)
        writer.done_writing()
        reader.read()
    with pytest.raises(pa.ArrowKeyError):
        flight.get_flight_info(pa.flight.FlightDescriptor.for_path(unique_name))
    assert files_under(server.data_dir / "primary") == before


def test_an_early_refusal_reaches_a_client_that_goes_on_sending(flight: Any, unique_name: str) -> None:
    put(flight, (unique_name,), PEOPLE)
    batch = pa.record_batch({"wrong": pa.array(range(100_000))})
    writer, _ = flight.do_put(pa.flight.FlightDescriptor.for_path(unique_name), batch.schema)
    with pytest.raises(pa.ArrowInvalid, match="does not fit"), writer:
        for _ in range(2_000):
            writer.write_batch(batch)
