"""Time travel: what `AT (VERSION => …)` and `AT (TIMESTAMP => …)` mean, and where they stand in a text."""

import re
from typing import Any

import duckdb

from flight_server.errors import InvalidArgumentError

_TYPES = frozenset(
    {
        "BIGINT", "DATE", "DATETIME", "INTEGER", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ",
        "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP_S", "VARCHAR",
    }
)  # fmt: skip
"""Types that a literal may be cast to, as the parse writes them."""

_ADVICE = (
    "AT takes a literal, or a cast of one: AT (VERSION => 3) or "
    "AT (TIMESTAMP => TIMESTAMP '2026-11-22 10:00:00'); times without a zone are UTC"
)

_UNITS = {"VERSION": "CAST({} AS BIGINT)", "TIMESTAMP": "epoch_us(CAST({} AS TIMESTAMPTZ))"}

_TOKEN = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
    |[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    |(?P<word>[^\W\d]\w*)|.""",
    re.DOTALL | re.VERBOSE,
)


def moment(cursor: duckdb.DuckDBPyConnection, clause: dict[str, Any] | None) -> tuple[int | None, int | None]:
    """Return the version, or the microseconds since 1970 UTC, that an AT clause of a parse names.

    Raises InvalidArgumentError when it holds anything but a literal or casts of one.
    """
    if clause is None:
        return None, None
    value, text = _expression(clause["expr"])
    sql = f"SELECT {_UNITS[clause['unit']].format(value)}"
    with cursor.cursor() as apart:
        # Not the session's zone: the same text must mean the same version for everybody.
        apart.execute("SET TimeZone = 'UTC'")
        try:
            found: int | None = apart.execute(sql, [text]).fetchall()[0][0]
        except duckdb.Error as error:
            raise InvalidArgumentError(_ADVICE) from error
    if found is None:
        raise InvalidArgumentError(_ADVICE)
    return (found, None) if clause["unit"] == "VERSION" else (None, found)


def _expression(node: dict[str, Any]) -> tuple[str, str]:
    """Return an expression over the parameter `$1`, and the text of the literal that is its value."""
    casts = []
    while node["type"] == "OPERATOR_CAST":
        kind = node["type_expr"]
        name = ".".join(kind["qualified_name"]["path"]).upper()
        if name not in _TYPES or kind["children"]:
            raise InvalidArgumentError(_ADVICE)
        casts.append(name)
        node = node["child"]
    if node["type"] != "VALUE_CONSTANT" or node["literal"]["kind"] == "NULL_LITERAL":
        raise InvalidArgumentError(_ADVICE)
    expression = "CAST($1 AS VARCHAR)"
    for name in reversed(casts):
        expression = f"CAST({expression} AS {name})"
    return expression, node["literal"]["text"]


def clause_span(sql: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Return the byte positions of the AT clause in a table reference, None when it has none.

    `start` stands behind the table's name. An alias, its columns and a sample clause may stand there
    too; `AT` is a reserved word, so the first that is not quoted or nested begins the clause.
    """
    began, depth = None, 0
    while start < end and (token := _TOKEN.match(sql, start, end)):
        text = token[0]
        if began is None and depth == 0 and (token["word"] or b"").upper() == b"AT":
            began = start
        depth += (text == b"(") - (text == b")")
        start = token.end()
        if began is not None and depth == 0 and text == b")":
            return began, start
    return None
