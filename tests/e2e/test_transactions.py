"""Transactions: snapshots for reads, one commit for the ingests of a transaction."""

from collections.abc import Callable

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server

ROW = pa.table({"x": [1]})


def count(cursor: dbapi.Cursor, *names: str) -> list[int]:
    counts = []
    for name in names:
        cursor.execute(f"SELECT count(*) FROM {name}")
        counts.append(cursor.fetchall()[0][0])
    return counts


@pytest.fixture
def pair(connect: Callable[..., dbapi.Connection], unique_name: str) -> tuple[str, str]:
    """Two datasets of one row each, in different buckets."""
    first, second = f"{unique_name}_a", f"testing.{unique_name}_b"
    with connect().cursor() as cursor:
        cursor.adbc_ingest(first, ROW, mode="create")
        cursor.adbc_ingest(f"{unique_name}_b", ROW, mode="create", db_schema_name="testing")
    return first, second


def test_an_open_transaction_keeps_its_snapshot_while_another_client_commits(
    server: Server, connect: Callable[..., dbapi.Connection], pair: tuple[str, str]
) -> None:
    first, second = pair
    with dbapi.connect(server.uri) as reader, reader.cursor() as reading:
        assert count(reading, first) == [1]
        with dbapi.connect(server.uri) as writer, writer.cursor() as writing:
            writing.adbc_ingest(first, ROW, mode="append")
            writing.adbc_ingest(second.removeprefix("testing."), ROW, mode="append", db_schema_name="testing")
            with connect().cursor() as outside:
                assert count(outside, first, second) == [1, 1]
            writer.commit()
        assert count(reading, first, second) == [1, 1]
        with connect().cursor() as outside:
            assert count(outside, first, second) == [2, 2]
        reader.commit()
        assert count(reading, first, second) == [2, 2]


def test_a_transaction_reads_its_own_ingests_and_rollback_leaves_nothing(
    server: Server, unique_name: str
) -> None:
    before = set(server.data_dir.rglob("*.parquet"))
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, ROW, mode="create")
        cursor.adbc_ingest(unique_name, ROW, mode="append")
        assert count(cursor, unique_name) == [2]
        cursor.adbc_ingest(unique_name, pa.table({"y": ["new"]}), mode="replace")
        cursor.execute(f"SELECT y FROM {unique_name}")
        assert cursor.fetchall() == [("new",)]
        connection.rollback()
        with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
            count(cursor, unique_name)
    assert set(server.data_dir.rglob("*.parquet")) == before


@pytest.mark.parametrize("target", ["", "testing", "a schema", "temporary"])
def test_an_ingest_of_any_mode_into_any_place_is_rolled_back(
    server: Server, unique_name: str, target: str
) -> None:
    schema = f"{unique_name}_schema" if target == "a schema" else target
    place = {"temporary": True} if schema == "temporary" else {"db_schema_name": schema or None}
    old, new = f"{unique_name}_old", f"{unique_name}_new"
    prefix = "temp." if "temporary" in place else f"{schema}." if schema else ""
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        if target == "a schema":
            cursor.execute(f"CREATE SCHEMA {schema}")
        cursor.adbc_ingest(old, ROW, mode="create", **place)
        connection.commit()
        before = set(server.data_dir.rglob("*.parquet"))
        cursor.adbc_ingest(new, ROW, mode="create", **place)
        cursor.adbc_ingest(old, ROW, mode="append", **place)
        cursor.adbc_ingest(f"{new}er", ROW, mode="create_append", **place)
        assert count(cursor, f"{prefix}{old}", f"{prefix}{new}", f"{prefix}{new}er") == [2, 1, 1]
        cursor.adbc_ingest(old, pa.table({"y": ["a", "b", "c"]}), mode="replace", **place)
        cursor.execute(f"DELETE FROM {prefix}{old} WHERE y = 'a'")
        assert count(cursor, f"{prefix}{old}") == [2]
        connection.rollback()
        cursor.execute(f"SELECT * FROM {prefix}{old}")
        assert cursor.fetch_arrow_table().equals(ROW)
        for name in (new, f"{new}er"):
            with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
                count(cursor, f"{prefix}{name}")
    assert set(server.data_dir.rglob("*.parquet")) == before


def test_a_statement_begun_in_a_transaction_can_be_read_after_its_commit(
    server: Server, unique_name: str
) -> None:
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, ROW, mode="create")
        cursor.execute(f"SELECT x FROM {unique_name}")
        connection.commit()
        assert cursor.fetchall() == [(1,)]


def test_after_a_staged_replace_its_schema_counts(server: Server, pair: tuple[str, str]) -> None:
    first, _ = pair
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(first, pa.table({"s": ["a"]}), mode="replace")
        with pytest.raises(dbapi.ProgrammingError, match="does not fit"):
            cursor.adbc_ingest(first, ROW, mode="append")
        cursor.adbc_ingest(first, pa.table({"s": ["b"]}), mode="append")
        connection.commit()
        cursor.execute(f"SELECT s FROM {first} ORDER BY s")
        assert cursor.fetchall() == [("a",), ("b",)]


def test_a_replace_without_rows_shows_no_other_transactions_columns(
    server: Server, pair: tuple[str, str]
) -> None:
    first, _ = pair
    for column in ("a", "b"):
        with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
            empty = pa.record_batch({column: pa.array([], pa.int64())})
            reader = pa.RecordBatchReader.from_batches(empty.schema, [empty])
            cursor.adbc_ingest(first, reader, mode="replace")
            cursor.execute(f"FROM {first}")
            assert cursor.fetch_arrow_table().schema.names == [column]
            connection.rollback()


def test_commit_makes_all_ingests_visible_at_once(
    server: Server, connect: Callable[..., dbapi.Connection], unique_name: str
) -> None:
    names = [f"{unique_name}_{i}" for i in range(3)]
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        for name in names:
            cursor.adbc_ingest(name, ROW, mode="create")
        connection.commit()
        assert count(cursor, *names) == [1, 1, 1]
    with connect().cursor() as outside:
        assert count(outside, *names) == [1, 1, 1]


def test_closing_the_connection_rolls_back(
    server: Server, connect: Callable[..., dbapi.Connection], unique_name: str
) -> None:
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(unique_name, ROW, mode="create")
    with connect().cursor() as outside, pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
        count(outside, unique_name)


def test_two_transactions_append_to_one_dataset_and_both_land(server: Server, pair: tuple[str, str]) -> None:
    first, _ = pair
    with dbapi.connect(server.uri) as one, dbapi.connect(server.uri) as two:
        with one.cursor() as a, two.cursor() as b:
            a.adbc_ingest(first, ROW, mode="append")
            b.adbc_ingest(first, ROW, mode="append")
        one.commit()
        two.commit()
        with one.cursor() as cursor:
            assert count(cursor, first) == [3]


def test_a_replace_of_what_moved_meanwhile_is_a_conflict_and_leaves_nothing(
    server: Server, connect: Callable[..., dbapi.Connection], pair: tuple[str, str]
) -> None:
    first, _ = pair
    with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(first, ROW, mode="replace")
        with connect().cursor() as outside:
            outside.adbc_ingest(first, ROW, mode="append")
        before = len(list(server.data_dir.rglob("*.parquet")))
        with pytest.raises(dbapi.OperationalError, match=r"moved|changed|version"):
            connection.commit()
        assert len(list(server.data_dir.rglob("*.parquet"))) == before - 1
    with connect().cursor() as outside:
        assert count(outside, first) == [2]
