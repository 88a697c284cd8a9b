"""Dynamic PIVOT against DuckDB's own: the text with values written in gives the same columns and rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from flight_server.engine import pivot
from flight_server.engine.kinds import Pivot
from flight_server.engine.parse import read

QUERIES = [
    "PIVOT t ON a USING sum(y)",
    "PIVOT t ON a || b USING sum(y) GROUP BY g",
    "PIVOT t ON a, b USING sum(y)",
    "PIVOT t ON a IN ('u'), b USING sum(y)",
    "PIVOT t ON CASE WHEN y > 1 THEN 'big' ELSE 'small' END USING count(*) GROUP BY g",
    "PIVOT t ON y USING count(*) GROUP BY a ORDER BY a LIMIT 1",
    "PIVOT (SELECT * FROM t WHERE a = 'u') ON b USING sum(y)",
    "PIVOT (PIVOT t ON a USING sum(y) GROUP BY g) ON g USING count(*)",
    "FROM (PIVOT t ON a USING sum(y), count(*) AS n GROUP BY g) WHERE g = 1",
    "WITH z AS (FROM t) PIVOT (FROM z) ON a, b USING max(y)",
    "WITH p AS (PIVOT t ON a USING sum(y)), q AS (FROM p) SELECT * FROM q",
    "WITH p(c) AS (FROM (PIVOT t ON a USING sum(y) GROUP BY g)) SELECT * FROM p",
    "WITH p AS MATERIALIZED (PIVOT t ON a USING sum(y)) FROM p UNION ALL FROM p",
    "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 3), w AS (SELECT i, i % 2 AS k "
    "FROM r) PIVOT w ON k USING sum(i)",
]


class Preparation:
    """Everything that a text names is there as it stands."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def read(self, _cursor: Any, sql: str) -> Any:
        return read(self.connection.cursor(), sql)

    def query(self, cursor: Any, _statement: Any, sql: str) -> Any:
        assert not isinstance(self.read(cursor, sql), Pivot)
        return SimpleNamespace(sql=sql)

    @contextmanager
    def available(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield lambda _values: None


@contextmanager
def aside(_cursor: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize("sql", QUERIES)
def test_values_written_in_give_what_duckdb_gives(sql: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t AS FROM (VALUES ('u', 'v', 1, 1), ('u', 'w', 2, 1), ('x y''z', 'v', 3, 2)) "
            "_(a, b, y, g)"
        )
        statement: Any = SimpleNamespace(running=SimpleNamespace(aside=aside))
        preparation: Any = Preparation(connection)
        assert isinstance(read(connection.cursor(), sql), Pivot)
        text = pivot.with_values(connection.cursor(), sql, statement, preparation)
        wanted, found = connection.cursor().execute(sql), connection.cursor().execute(text)
        assert [column[0] for column in found.description] == [column[0] for column in wanted.description]
        assert sorted(map(str, found.fetchall())) == sorted(map(str, wanted.fetchall()))
