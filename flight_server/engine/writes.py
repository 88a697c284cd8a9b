"""Runs statements that write a table of the instance, once for each row of their parameters.

An INSERT of nothing but parameters reads them as one Arrow table.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from flight_server.engine import parameters, quote
from flight_server.engine.binding import bind
from flight_server.engine.markers import markers
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.ready import Ready
from flight_server.engine.searches import Fill
from flight_server.engine.sessions import shown
from flight_server.engine.statement import Statement
from flight_server.engine.streams import conform
from flight_server.errors import InvalidArgumentError
from flight_server.frames.flight_data import BatchFramer, encapsulated_header, pieces

Cursor = duckdb.DuckDBPyConnection

Runs: TypeAlias = Sequence[parameters.Values | None]
Before: TypeAlias = Callable[[str, Runs], None]
"""What comes before the first run: it is given the text, and the values of each run."""

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


def changed(
    cursor: Cursor,
    ready: Ready,
    parsed: ParsedStatement,
    statement: Statement,
    fill: Fill,
    before: Before = lambda _text, _runs: None,
) -> int:
    """Run a statement and return how many rows it changed in all; `fill` runs its searches before."""
    has_values = bool(statement.messages and parsed.parameters)
    if statement.messages and not has_values:
        parameters.read(cursor, statement.messages, ())  # drivers bind a batch without columns
    insert = _insert_from_table(cursor, ready, parsed, statement) if has_values else None
    if insert is not None or not has_values:
        before(insert or ready.sql, [None])
        fill(None)
        return _count(cursor, insert or ready.sql, None)
    binding, bound = parameters.bind_values(cursor, ready.sql, statement.messages)
    rows = list(bound.rows())
    before(binding.text, rows)
    count = 0
    for values in rows:
        fill(values)
        count += _count(cursor, binding.sql, values)
    return count


def returned(
    cursor: Cursor,
    ready: Ready,
    statement: Statement,
    fill: Fill,
    before: Before = lambda _text, _runs: None,
) -> tuple[int, tuple[bytes, ...]]:
    """Run a statement with RETURNING; return how many rows, and these as messages, the schema first."""
    rows: list[parameters.Values | None] = [None]
    if statement.messages:
        binding, bound = parameters.bind_values(cursor, ready.sql, statement.messages)
        rows = list(bound.rows())
    else:
        binding = bind(cursor, ready.sql)
    before(binding.text, rows)
    schema = binding.schema
    framer = BatchFramer(schema)
    messages = [b"".join(pieces(encapsulated_header(memoryview(named(schema).serialize()))))]
    count = 0
    for values in rows:
        fill(values)
        for batch in cursor._submit(binding.sql, values, "stream", _BATCH_ROWS).arrow_reader():
            count += batch.num_rows
            messages += [b"".join(message) for message in framer.frame(conform(batch, schema))]
    return count, tuple(messages)


def named(schema: pa.Schema) -> pa.Schema:
    """Return what a statement returns with the names that clients know in those of its columns."""
    return pa.schema([field.with_name(shown(field.name)) for field in schema])


@contextmanager
def atomic(cursor: Cursor) -> Iterator[None]:
    """Run what is in the block as one transaction of the instance."""
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


def given(text: str, values: parameters.Values | None) -> dict[str, Any] | None:
    """Return those of a statement's values that a part of its text takes, by name or number."""
    if values is None:
        return None
    named = values if isinstance(values, dict) else {str(at + 1): item for at, item in enumerate(values)}
    used = {marker.name.lower() for marker in markers(text)}
    return {name: value for name, value in named.items() if name.lower() in used} or None


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
    written = parsed.write_node
    if written is None or written["type"] != "INSERT_QUERY_NODE" or not written.get("select_statement"):
        return None
    if written.get("on_conflict_info"):
        return None  # a later row may conflict with an earlier one, which is no error
    source = (written["select_statement"].get("node") or {}).get("from_table") or {}
    rows = source.get("values") or [] if source.get("type") == "EXPRESSION_LIST" else []
    if len(rows) != 1 or any(value["type"] != "VALUE_PARAMETER" for value in rows[0]):
        return None
    return [value["identifier"] for value in rows[0]]
