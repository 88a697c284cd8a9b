"""The promises that headers ask of an upload: its rows, once only, and columns of its own."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server
from tests import flight_sql

ROWS, KEY, EVOLVE = "x-lakehouse-expected-rows", "x-idempotency-key", "x-lakehouse-evolve"
HEADER = "adbc.flight.sql.rpc.call_header."
TABLE = pa.table({"id": [1, 2, 3]})


def put(client: Any, name: str, table: pa.Table, **headers: str) -> dict[str, Any]:
    """Upload a table; headers without their hyphens' rest: `rows`, `key`, `evolve`, `mode`."""
    names = {"rows": ROWS, "key": KEY, "evolve": EVOLVE, "mode": "x-lakehouse-mode"}
    sent = [(names[short].encode(), value.encode()) for short, value in headers.items()]
    writer, reader = client.do_put(
        flight.FlightDescriptor.for_path(name), table.schema, flight.FlightCallOptions(headers=sent)
    )
    with writer:
        writer.write_table(table)
        writer.done_writing()
        answer: dict[str, Any] = json.loads(reader.read().to_pybytes())
    return answer


def rows(client: Any, name: str, columns: str = "*") -> list[dict[str, Any]]:
    return flight_sql.query(client, f"SELECT {columns} FROM {name}").to_pylist()


def files(server: Server) -> int:
    return sum(path.is_file() for path in (server.data_dir / "primary").rglob("*"))


def test_other_than_the_expected_rows_are_discarded(server: Server, flight: Any, unique_name: str) -> None:
    before = files(server)
    with pytest.raises(pa.ArrowInvalid, match=r"has 3 rows and x-lakehouse-expected-rows says 5"):
        put(flight, unique_name, TABLE, rows="5")
    with pytest.raises(pa.ArrowKeyError):
        rows(flight, unique_name)
    assert files(server) == before
    assert put(flight, unique_name, TABLE, rows="3")["version"] == 1


def test_adbc_asks_for_the_same_promises(server: Server, flight: Any, unique_name: str) -> None:
    def ingest(mode: str, **headers: str) -> int:
        options = {f"{HEADER}{name.replace('_', '-')}": value for name, value in headers.items()}
        with (
            dbapi.connect(server.uri, db_kwargs=options, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            return cursor.adbc_ingest(unique_name, TABLE, mode=mode)

    with pytest.raises(dbapi.ProgrammingError, match=r"INVALID_ARGUMENT.*3 rows.*says 4"):
        ingest("create", x_lakehouse_expected_rows="4")
    for _ in range(3):
        assert ingest("create", x_idempotency_key=f"adbc {unique_name}") == 3
    assert len(rows(flight, unique_name)) == 3


def test_a_known_key_answers_again_and_writes_nothing(server: Server, flight: Any, unique_name: str) -> None:
    first = put(flight, unique_name, TABLE, key=unique_name)
    before = files(server)
    assert put(flight, unique_name, TABLE, key=unique_name) == first
    assert files(server) == before
    other = pa.table({"id": [1, 2, 4]})
    for table, mode in ((other, "create_append"), (TABLE, "replace")):
        with pytest.raises(pa.ArrowException, match="belongs to another upload"):
            put(flight, unique_name, table, key=unique_name, mode=mode)
    assert len(rows(flight, unique_name)) == 3


def test_a_transaction_records_its_keys_when_it_commits(
    server: Server, flight: Any, unique_name: str
) -> None:
    options = {f"{HEADER}{KEY}": unique_name}
    for is_kept in (False, True, True):
        with dbapi.connect(server.uri, db_kwargs=options) as connection, connection.cursor() as cursor:
            for _ in range(2):
                cursor.adbc_ingest(unique_name, TABLE, mode="create_append")
            connection.commit() if is_kept else connection.rollback()
    assert len(rows(flight, unique_name)) == 3


def test_concurrent_uploads_with_one_key_are_one_commit(server: Server, unique_name: str) -> None:
    def upload(number: int) -> tuple[int, int]:
        key = number % 25
        with flight.connect(server.uri) as client:
            result = put(client, unique_name, pa.table({"id": [key]}), key=f"{unique_name} {key}")
        return key, result["version"]

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(upload, range(200)))
    assert sorted(version for _, version in answers) == list(range(1, 26))
    with flight.connect(server.uri) as client:
        assert Counter(row["id"] for row in rows(client, unique_name)) == Counter(range(25))


def test_an_evolving_append_adds_columns_and_leaves_out_others(flight: Any, unique_name: str) -> None:
    put(flight, unique_name, TABLE)
    wider = pa.table({"name": ["Ada"], "id": pa.array([4], pa.int16())})
    with pytest.raises(pa.ArrowInvalid, match="'name' is not in the dataset"):
        put(flight, unique_name, wider)
    assert put(flight, unique_name, wider, evolve="true")["version"] == 2
    assert put(flight, unique_name, pa.table({"born": [1815]}), evolve="true")["version"] == 3
    with pytest.raises(pa.ArrowInvalid, match="'id' is int64, the upload has string"):
        put(flight, unique_name, pa.table({"id": ["x"]}), evolve="true")
    found = rows(flight, f"{unique_name} ORDER BY ALL NULLS LAST")
    assert found[-2:] == [
        {"id": 4, "name": "Ada", "born": None},
        {"id": None, "name": None, "born": 1815},
    ]


def test_concurrent_evolving_appends_lose_no_column(server: Server, unique_name: str) -> None:
    with flight.connect(server.uri) as client:
        put(client, unique_name, TABLE)

    def upload(number: int) -> None:
        with flight.connect(server.uri) as client:
            put(client, unique_name, pa.table({"id": [number], f"c{number % 4}": [number]}), evolve="true")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(10, 34)))
    with flight.connect(server.uri) as client:
        found = rows(client, unique_name)
    assert {row["id"] for row in found if row[f"c{row['id'] % 4}"] == row["id"]} == set(range(10, 34))


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"rows": "many"}, "is a number of rows"),
        ({"evolve": "yes"}, "true or false"),
        ({"key": "k" * 201}, "201 characters, more than 200"),
    ],
)
def test_malformed_promises_are_invalid(
    flight: Any, unique_name: str, headers: dict[str, str], message: str
) -> None:
    with pytest.raises(pa.ArrowInvalid, match=message):
        put(flight, unique_name, TABLE, **headers)
