"""Runs statements that write a table of the instance, once for each row of their parameters.

All rows are one atomic unit. An INSERT of nothing but parameters reads them as one Arrow table.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from flight_server.engine import parameters, quote
from flight_server.engine.binding import bind
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.preparation import Ready
from flight_server.engine.statement import Statement
from flight_server.engine.streams import conform
from flight_server.errors import InvalidArgumentError
from flight_server.frames.flight_data import BatchFramer, encapsulated_header, pieces

Cursor = duckdb.DuckDBPyConnection

_BATCH_ROWS = 32_768
_PARAMETERS = "_parameters"
_VALUES = re.compile(r"\bVALUES\b", re.IGNORECASE)


def one_row(cursor: Cursor, sql: str, statement: Statement) -> tuple[str, parameters.Values | None]:
    """Return a query's text for the only values that it is to run with, and these.

    Raises InvalidArgumentError when several were bound.
    """
    if not statement.messages:
        return sql, None
    binding, bound = parameters.bind_values(cursor, sql, statement.messages)
    if bound.count != 1:
        raise InvalidArgumentError(f"this statement runs once: bind one row of parameters, not {bound.count}")
    return binding.text, next(bound.rows())


def changed(cursor: Cursor, ready: Ready, parsed: ParsedStatement, statement: Statement) -> int:
    """Run a statement and return how many rows it changed in all."""
    if not statement.messages:
        return _count(cursor, ready.sql, None)
    insert = _insert_from_table(cursor, ready, parsed, statement)
    if insert is not None:
        return _count(cursor, insert, None)
    binding, bound = parameters.bind_values(cursor, ready.sql, statement.messages)
    with _atomic(cursor):
        return sum(_count(cursor, binding.sql, values) for values in bound.rows())


def returned(cursor: Cursor, ready: Ready, statement: Statement) -> tuple[int, tuple[bytes, ...]]:
    """Run a statement with RETURNING; return how many rows, and these as messages, the schema first."""
    rows: Iterator[parameters.Values | None] = iter([None])
    if statement.messages:
        binding, bound = parameters.bind_values(cursor, ready.sql, statement.messages)
        rows = bound.rows()
    else:
        binding = bind(cursor, ready.sql)
    framer = BatchFramer(binding.schema)
    messages = [b"".join(pieces(encapsulated_header(memoryview(binding.schema.serialize()))))]
    count = 0
    with _atomic(cursor):
        for values in rows:
            for batch in cursor._submit(binding.sql, values, "stream", _BATCH_ROWS).arrow_reader():
                count += batch.num_rows
                messages += [b"".join(message) for message in framer.frame(conform(batch, binding.schema))]
    return count, tuple(messages)


@contextmanager
def _atomic(cursor: Cursor) -> Iterator[None]:
    cursor.begin()
    try:
        yield
        cursor.commit()
    except BaseException:
        cursor.rollback()
        raise


def _count(cursor: Cursor, sql: str, values: parameters.Values | None) -> int:
    rows = cursor.execute(sql, values).fetchall()
    return int(rows[0][0]) if rows else 0


def _insert_from_table(
    cursor: Cursor, ready: Ready, parsed: ParsedStatement, statement: Statement
) -> str | None:
    """Return `INSERT … SELECT` from a registered table of the parameters; None where the text is another."""
    order = _values_row(parsed)
    if order is None:
        return None
    table = parameters.read_table(statement.messages)
    if sorted(order) != [str(number + 1) for number in range(table.num_columns)]:
        return None
    values = list(_VALUES.finditer(ready.sql))
    if len(values) != 1:
        return None
    start = values[0].start()
    close = ready.sql.index(")", start)
    if set(ready.sql[values[0].end() : close]) - set(" \t\r\n(,?$0123456789"):
        return None
    names = [str(number + 1) for number in range(table.num_columns)]
    cursor.register(_PARAMETERS, table.rename_columns(names))
    chosen = ", ".join(quote.identifier(name) for name in order)
    select = f"SELECT {chosen} FROM {quote.path(('temp', _PARAMETERS))}"  # noqa: S608 - quoted
    return ready.sql[:start] + select + ready.sql[close + 1 :]


def _values_row(parsed: ParsedStatement) -> list[str] | None:
    """Return the parameters of an INSERT whose one row of VALUES holds nothing else."""
    written = parsed.tree["statements"][0]["node"]["cte_map"]["map"][0]["value"]["query_node"]
    if written["type"] != "INSERT_QUERY_NODE" or not written.get("select_statement"):
        return None
    source = (written["select_statement"].get("node") or {}).get("from_table") or {}
    rows = source.get("values") or [] if source.get("type") == "EXPRESSION_LIST" else []
    if len(rows) != 1 or any(value["type"] != "VALUE_PARAMETER" for value in rows[0]):
        return None
    return [value["identifier"] for value in rows[0]]
