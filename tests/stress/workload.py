"""A random workload of statements that write, and a plain DuckDB that does what was acknowledged.

One unit of work, a statement or a transaction, is in doubt at a time: then DuckDB's own transaction is
left open until the server has been asked, which must have all of the unit or nothing of it.
"""

import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server

BUCKETS = ('"primary"', "testing")
FAILURES = (pa.ArrowException, OSError, dbapi.Error, dbapi.Warning)
END_SECONDS = 0.5
READS = 5
AGAIN = 0.6
"""How often a transaction changes what it has changed before."""

BUCKET = "bucket "
TOLD = ("the engine process", BUCKET)
"""What errors that a server has sent say; after any other one it may be about to be gone."""

MOST_TABLES = 6
MOST_ROWS = 400

State: TypeAlias = Mapping[tuple[str, str], tuple[str, object]]
"""Schema and name → table or view, and its columns and rows."""

_LISTED = """
    SELECT table_schema, table_name, table_type FROM information_schema.tables
    WHERE starts_with(table_name, '{prefix}') ORDER BY ALL
"""
_SCHEMAS = """
    SELECT DISTINCT schema_name, 's' FROM information_schema.schemata
    WHERE starts_with(schema_name, '{prefix}') ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class Connections:
    """A client's two connections: one where each statement stands alone, one of transactions."""

    alone: Any
    together: Any


@contextmanager
def connected(server: Server) -> Iterator[Connections]:
    """Connect a client; nothing is said of a server that is gone when it leaves."""
    with ExitStack() as stack:
        opened = []
        for autocommit in (True, False):
            opened.append(dbapi.connect(server.uri, autocommit=autocommit))
            stack.callback(_closed, opened[-1])
        yield Connections(*opened)


def _closed(connection: Any) -> None:
    with suppress(*FAILURES):
        connection.close()


def run(connection: Any, sql: str) -> None:
    """Run a statement whose rows nobody reads."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(sql)


def read(connection: Any, sql: str) -> object:
    """Return names of columns and rows, or that there are none; a failure of storage passes."""
    for _ in range(READS):
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(sql)
                return [name for name, *_ in cursor.description], cursor.fetchall()
            except (dbapi.Error, duckdb.Error) as error:
                if BUCKET not in str(error):
                    break
    return "cannot be read"


@dataclass(slots=True)
class Writer:
    """Writes datasets whose names begin with its `prefix`, in both buckets and in schemas of its own."""

    prefix: str
    choice: random.Random
    reference: Any = field(default_factory=lambda: duckdb.connect(":memory:"))
    is_in_doubt: bool = False
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    _names: int = 0
    _touched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Make the schemas that a server's buckets are."""
        for bucket in BUCKETS:
            self.reference.execute(f"CREATE SCHEMA {bucket}")

    def unit(self, server: Server, client: Connections) -> None:
        """Do one unit of work; once the server is gone, it is in doubt."""
        way = self.choice.choice(_WAYS)
        self._touched.clear()
        self.reference.begin()
        self.is_in_doubt = way is _alone
        try:
            is_kept = way(self, client)
        except FAILURES as error:
            if _is_gone(server, error):
                if not self.is_in_doubt:
                    self.reference.rollback()
                raise
            self.refused[str(error).split(";")[0][:160]] += 1
            is_kept = False
            self._undo(client)
        self.is_in_doubt = False
        if is_kept:
            self.reference.commit()
        else:
            self.reference.rollback()

    def _undo(self, client: Connections) -> None:
        with suppress(*FAILURES):
            client.together.rollback()
        with suppress(*FAILURES):
            run(client.alone, "ROLLBACK")

    def next_statement(self) -> str:
        """Return a statement that DuckDB has just run."""
        tables = self._tables()
        kind, make = self._kind(len(tables))
        if kind in _DEFINITIONS:
            # DuckDB's own commit fails when a transaction defines anew what it has changed before.
            tables = [table for table in tables if table not in self._touched]
        elif self.choice.random() < AGAIN:
            tables = [table for table in tables if table in self._touched] or tables
        sql = make(self, tables)
        self.reference.execute(sql)
        self._touched.update(table for table in self._tables() if table.rpartition(".")[2] in sql)
        self.done[kind] += 1
        return sql

    def _kind(self, tables: int) -> "_Kind":
        if tables < 2:
            return "create", _create
        if self._touched and tables <= len(self._touched) + 1:
            return "insert", _insert
        return ("drop", _drop) if tables > MOST_TABLES else self.choice.choice(_STATEMENTS)

    @property
    def has_changed(self) -> bool:
        """Whether the unit of work that is being made has changed a table."""
        return bool(self._touched)

    def new_name(self) -> str:
        """Return a name that was not used before."""
        self._names += 1
        return f"{self.prefix}{self._names}"

    def _tables(self) -> list[str]:
        listed = self.reference.execute(_LISTED.format(prefix=self.prefix)).fetchall()
        return [f'"{space}".{name}' for space, name, kind in listed if kind == "BASE TABLE"]

    def views(self) -> list[str]:
        """Return the names of the views that there are."""
        listed = self.reference.execute(_LISTED.format(prefix=self.prefix)).fetchall()
        return [f'"{space}".{name}' for space, name, kind in listed if kind == "VIEW"]

    def check(self, client: Connections) -> None:
        """Compare the server with DuckDB; a unit in doubt is there, or it is not."""
        found = state(client.alone, self.prefix)
        # Cursors are connections of their own: they see nothing of the transaction that is open.
        if self.is_in_doubt and found == state(self.reference, self.prefix):
            self.reference.rollback()
        elif self.is_in_doubt:
            self.reference.commit()
        self.is_in_doubt = False
        expected = state(self.reference, self.prefix)
        for name in sorted({*found, *expected}):
            assert found.get(name) == expected.get(name), name


def state(connection: Any, prefix: str) -> State:
    """Return all that there is under a prefix."""
    listed: Any = read(connection, _LISTED.format(prefix=prefix))
    schemas: Any = read(connection, _SCHEMAS.format(prefix=prefix))
    found: dict[tuple[str, str], tuple[str, object]] = {
        (name, ""): ("SCHEMA", None) for name, _ in schemas[1]
    }
    for space, name, kind in listed[1]:
        found[space, name] = kind, read(connection, f'FROM "{space}".{name} ORDER BY ALL')
    return found


def _is_gone(server: Server, error: Exception) -> bool:
    is_told = any(text in str(error) for text in TOLD)
    try:
        server.process.wait(0 if is_told else END_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _alone(writer: Writer, client: Connections) -> bool:
    """Run a statement that stands alone."""
    run(client.alone, writer.next_statement())
    return True


def _in_sql(writer: Writer, client: Connections) -> bool:
    """Run a transaction that SQL begins and ends."""
    run(client.alone, "BEGIN")
    for _ in range(writer.choice.randrange(2, 5)):
        run(client.alone, writer.next_statement())
    is_kept = writer.choice.random() < 0.8
    writer.is_in_doubt = is_kept
    run(client.alone, "COMMIT" if is_kept else "ROLLBACK")
    return is_kept


def _in_protocol(writer: Writer, client: Connections) -> bool:
    """Run a transaction that the driver begins and ends."""
    for _ in range(writer.choice.randrange(2, 5)):
        run(client.together, writer.next_statement())
    is_kept = writer.choice.random() < 0.8
    writer.is_in_doubt = is_kept
    if is_kept:
        client.together.commit()
    else:
        client.together.rollback()
    return is_kept


_WAYS = (_alone, _alone, _alone, _in_sql, _in_protocol)


def _create(writer: Writer, tables: list[str]) -> str:
    name = f"{writer.choice.choice(BUCKETS)}.{writer.new_name()}"
    if not tables or writer.choice.random() < 0.3:
        return f"CREATE TABLE {name} AS SELECT i AS k, i * 7 AS v FROM range(20) r(i)"
    if writer.choice.random() < 0.3:
        return f"CREATE TABLE {name} (k BIGINT NOT NULL, v BIGINT)"
    return f"CREATE TABLE {name} AS SELECT k, v + 1 AS v FROM {writer.choice.choice(tables)} WHERE k % 3 > 0"


def _replace(writer: Writer, tables: list[str]) -> str:
    name, source = writer.choice.choice(tables), writer.choice.choice(tables)
    return (
        f"CREATE OR REPLACE TABLE {name} AS SELECT k, v + 1 AS v FROM {source} ORDER BY ALL LIMIT {MOST_ROWS}"
    )


def _insert(writer: Writer, tables: list[str]) -> str:
    low = writer.choice.randrange(100)
    return (
        f"INSERT INTO {writer.choice.choice(tables)} (k, v) "
        f"SELECT i, i * 3 FROM range({low}, {low + writer.choice.randrange(1, 20)}) r(i)"
    )


def _insert_values(writer: Writer, tables: list[str]) -> str:
    low = writer.choice.randrange(100)
    return f"INSERT INTO {writer.choice.choice(tables)} (k, v) VALUES ({low}, 1), (7, 2)"


def _update(writer: Writer, tables: list[str]) -> str:
    return f"UPDATE {writer.choice.choice(tables)} SET v = v + 1 WHERE k % 5 = {writer.choice.randrange(5)}"


def _delete(writer: Writer, tables: list[str]) -> str:
    return f"DELETE FROM {writer.choice.choice(tables)} WHERE k % 7 = {writer.choice.randrange(7)}"


def _truncate(writer: Writer, tables: list[str]) -> str:
    return f"TRUNCATE {writer.choice.choice(tables)}"


def _merge(writer: Writer, tables: list[str]) -> str:
    low = writer.choice.randrange(100)
    return (
        f"MERGE INTO {writer.choice.choice(tables)} AS t "
        f"USING (SELECT i AS k FROM range({low}, {low + 15}) r(i)) AS s ON t.k = s.k "
        "WHEN MATCHED AND t.v > 300 THEN DELETE WHEN MATCHED THEN UPDATE SET v = t.v + 100 "
        "WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, 0)"
    )


def _add_column(writer: Writer, tables: list[str]) -> str:
    return f"ALTER TABLE {writer.choice.choice(tables)} ADD COLUMN {writer.new_name()} BIGINT DEFAULT 5"


def _drop_column(writer: Writer, tables: list[str]) -> str:
    table = writer.choice.choice(tables)
    columns = writer.reference.execute(f"FROM {table} LIMIT 0").description
    extra = [name for name, *_ in columns if name not in ("k", "v")]
    if not extra:
        return _add_column(writer, tables)
    column = writer.choice.choice(extra)
    if writer.choice.random() < 0.5:
        return f"ALTER TABLE {table} RENAME COLUMN {column} TO {writer.new_name()}"
    return f"ALTER TABLE {table} DROP COLUMN {column}"


def _rename(writer: Writer, tables: list[str]) -> str:
    return f"ALTER TABLE {writer.choice.choice(tables)} RENAME TO {writer.new_name()}"


def _drop(writer: Writer, tables: list[str]) -> str:
    return f"DROP TABLE {writer.choice.choice(tables)}"


def _view(writer: Writer, tables: list[str]) -> str:
    views = writer.views()
    if len(views) > 2:
        return f"DROP VIEW {writer.choice.choice(views)}"
    if views and writer.choice.random() < 0.5:
        name = f"OR REPLACE VIEW {writer.choice.choice(views)}"
    else:
        name = f"VIEW {writer.choice.choice(BUCKETS)}.{writer.new_name()}"
    return f"CREATE {name} AS SELECT count(*) AS n, sum(v)::BIGINT AS s FROM {writer.choice.choice(tables)}"


def _schema(writer: Writer, tables: list[str]) -> str:
    made = writer.reference.execute(_SCHEMAS.format(prefix=writer.prefix)).fetchall()
    if not made:
        return f"CREATE SCHEMA {writer.new_name()}"
    if not writer.has_changed and writer.choice.random() < 0.5:
        return f"DROP SCHEMA {made[0][0]} CASCADE"
    return f"CREATE TABLE {made[0][0]}.{writer.new_name()} AS SELECT k, v FROM {writer.choice.choice(tables)}"


_Kind: TypeAlias = tuple[str, Callable[[Writer, list[str]], str]]

_DEFINITIONS = frozenset({"replace", "add column", "drop column", "rename", "drop"})

_STATEMENTS: tuple[_Kind, ...] = (
    ("create", _create),
    ("replace", _replace),
    ("insert", _insert),
    ("insert", _insert),
    ("values", _insert_values),
    ("update", _update),
    ("update", _update),
    ("delete", _delete),
    ("truncate", _truncate),
    ("merge", _merge),
    ("merge", _merge),
    ("add column", _add_column),
    ("drop column", _drop_column),
    ("rename", _rename),
    ("drop", _drop),
    ("view", _view),
    ("schema", _schema),
)
