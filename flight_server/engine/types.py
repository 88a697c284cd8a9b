"""Which of DuckDB's types travel as they are, and to what the others are cast in the statement itself.

Arrow, or a driver, loses part of some types: HUGEINT becomes a decimal that is too narrow, TIMETZ loses
its offset, BIT, BIGNUM and VARIANT become bytes that only DuckDB can read. They are cast around the
client's query, by position, so that names that occur twice and the order of rows stay.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from flight_server.engine import quote
from flight_server.engine.tokens import tokens

SqlType: TypeAlias = Any
"""A `DuckDBPyType`, whose `children` the stubs do not know."""

_DIGITS = "DECIMAL(38,0)"

_CAST_TO: Mapping[str, str] = {
    "hugeint": _DIGITS,
    "uhugeint": _DIGITS,
    "bit": "VARCHAR",
    "time with time zone": "VARCHAR",
    "bignum": "VARCHAR",
    "variant": "JSON",
    "type": "VARCHAR",
    "null": "VARCHAR",
}
"""Type → what it is cast to, alone and inside nested types."""

_COLUMN = "_carried_"

_MAX_HOURS = 2_562_046
"""Arrow counts an interval's time in nanoseconds of 64 bits: 292 years."""


def _struct(kind: SqlType) -> str:
    fields = [f"{quote.identifier(name)} {travelling(child)}" for name, child in kind.children]
    return f"STRUCT({', '.join(fields)})" if fields else str(kind)


def _union(kind: SqlType) -> str:
    members = [f"{quote.identifier(name)} {travelling(child)}" for name, child in kind.children[1:]]
    return f"UNION({', '.join(members)})"  # the first child is the tag


_NESTED: Mapping[str, Callable[[SqlType], str]] = {
    "list": lambda kind: f"{travelling(kind.children[0][1])}[]",
    "array": lambda kind: f"{travelling(kind.children[0][1])}[{kind.children[1][1]}]",
    "map": lambda kind: f"MAP({', '.join(travelling(child) for _, child in kind.children)})",
    "tuple": lambda kind: f"TUPLE({', '.join(travelling(child) for _, child in kind.children)})",
    "struct": _struct,
    "union": _union,
}


def travelling(kind: SqlType) -> str:
    """Return, as SQL, the type in which values of a type travel."""
    build = _NESTED.get(kind.id)
    return build(kind) if build else _CAST_TO.get(kind.id, str(kind))


def _travels(kind: SqlType) -> bool:
    """Tell whether a type travels as it is."""
    if kind.id in _NESTED:
        # What is no type is the size of an array.
        return all(_travels(child) for _, child in kind.children if hasattr(child, "id"))
    return kind.id not in _CAST_TO


def _expression(column: str, kind: SqlType) -> str:
    if kind.id == "interval":
        message = f"an INTERVAL of more than {_MAX_HOURS} hours does not fit Arrow: cast it to VARCHAR"
        return (
            f"CASE WHEN abs(date_part('hour', {column})) > {_MAX_HOURS} "
            f"THEN error({quote.text(message)}) ELSE {column} END"
        )
    return column if _travels(kind) else f"CAST({column} AS {travelling(kind)})"


def carried(sql: str, kinds: Sequence[SqlType], is_query: bool) -> str:
    """Return a statement whose columns, of these types, can all travel: the same text where they can already.

    One that is no query has its columns from RETURNING. Casts of values that do not fit (a HUGEINT of
    more than 38 digits) fail when the statement runs.
    """
    columns = [f"{_COLUMN}{at}" for at in range(len(kinds))]
    expressions = [_expression(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    if expressions == columns:
        return sql
    end = max((token.end for token in tokens(sql)), default=0)
    inner, chosen, names = sql.encode()[:end].decode(), ", ".join(expressions), ", ".join(columns)
    if is_query:
        return f"SELECT {chosen} FROM (\n{inner}\n) AS _({names})"  # noqa: S608 - the statement was parsed
    return f"WITH _({names}) AS (\n{inner}\n) SELECT {chosen} FROM _"  # noqa: S608
