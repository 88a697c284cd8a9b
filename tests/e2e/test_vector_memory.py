"""What of vectors stays in memory while datasets change: searches go on by it, whatever was there before."""

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from pyarrow import flight

from flight_server.testing import Server
from tests.actions import act_all

HALF = 45_000
"""Rows of an object: two of them fit into memory, three would be too many to be compared."""


def search(name: str, vector: list[float], column: str = "id") -> str:
    return f"SELECT {column} FROM vector_search('{name}', {vector}, profile => 'user', k => 1)"


def rows(cursor: dbapi.Cursor, sql: str) -> list[int]:
    cursor.execute(sql)
    return [row[0] for row in cursor.fetchall()]


def active(server: Server, table: str) -> tuple[str, int]:
    """The tier that answers searches of a table, and how many vectors it has in memory."""
    with flight.connect(server.uri) as client:
        told = {row.get("table"): row for row in act_all(client, "activate_profile", profile="user")}
    return told[table]["tier"], told[table]["rows"]


def test_rows_that_are_gone_do_not_take_the_place_of_those_that_are_there(
    server: Server, unique_name: str
) -> None:
    name = f'"profile:user".{unique_name}'
    made = "SELECT i AS id, 0 AS changes, [cos(i), sin(i)]::FLOAT[2] AS v FROM range({}, {}) t(i)"
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} AS {made.format(0, HALF)}")
        cursor.execute(f"INSERT INTO {name} {made.format(HALF, 2 * HALF)}")
        nearest = search(unique_name, [1.0, 0.0], "changes")
        assert rows(cursor, nearest) == [0]
        for changed, times in (f"< {HALF}", 1), (f">= {HALF}", 1), (">= 0", 2), (">= 0", 3):
            cursor.execute(f"UPDATE {name} SET changes = changes + 1 WHERE id {changed}")
            assert rows(cursor, nearest) == [times]
            assert active(server, unique_name) == ("exact", 2 * HALF)
        cursor.execute(f"DROP TABLE {name}")


def test_lists_may_have_another_length_in_another_version(server: Server, unique_name: str) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for version in range(1, 13):
            dim = 4 + version % 2
            vectors = pa.array([[1.0] * dim, [1.0] + [0.0] * (dim - 1)], pa.list_(pa.float32()))
            table = pa.table({"id": [version, 0], "v": vectors})
            cursor.adbc_ingest(unique_name, table, mode="replace", db_schema_name="profile:user")
            assert rows(cursor, search(unique_name, [1.0] * dim)) == [version]
            for before in range(1, version):
                vector = [1.0] * (4 + before % 2)
                assert rows(cursor, search(f"{unique_name}@{before}", vector)) == [before]
            with pytest.raises(dbapi.Error, match=f"has {9 - dim} dimensions, column 'v' has {dim}"):
                rows(cursor, search(unique_name, [1.0] * (9 - dim)))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 4)])
def test_many_objects_without_a_vector_are_searched(
    server: Server, unique_name: str, kind: pa.DataType
) -> None:
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(12):
            empty = pa.table({"id": [number], "v": pa.array([None], kind)})
            cursor.adbc_ingest(unique_name, empty, mode="create_append", db_schema_name="profile:user")
            assert rows(cursor, search(unique_name, [1.0] * 4)) == []
        full = pa.table({"id": [12], "v": pa.array([[1.0] * 4], kind)})
        cursor.adbc_ingest(unique_name, full, mode="append", db_schema_name="profile:user")
        assert rows(cursor, search(unique_name, [1.0] * 4)) == [12]
