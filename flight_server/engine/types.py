"""Which of DuckDB's types travel as they are, and to what the others are cast in the statement itself.

Arrow, or a driver, loses part of some types: HUGEINT becomes a decimal that is too narrow, TIMETZ loses
its offset, BIT, BIGNUM and VARIANT become bytes that only DuckDB can read. They are cast around the
client's query, by position, so that names that occur twice and the order of rows stay.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from flight_server.engine import quote
from flight_server.engine.merge import is_merge
from flight_server.engine.tokens import Reader, tokens
from flight_server.errors import InvalidArgumentError

SqlType: TypeAlias = Any
"""A `DuckDBPyType`, whose `children` the stubs do not know."""

Casts: TypeAlias = Mapping[str, str]
"""Type → what it is cast to, alone and inside nested types."""

_DIGITS = "DECIMAL(38,0)"

DICTIONARY_CASTS: Casts = {
    "hugeint": _DIGITS,
    "uhugeint": _DIGITS,
    "bit": "VARCHAR",
    "time with time zone": "VARCHAR",
    "bignum": "VARCHAR",
    "variant": "JSON",
    "type": "VARCHAR",
    "null": "VARCHAR",
}
"""Casts for clients that asked for dictionaries: ENUM travels as one."""

CASTS: Casts = {**DICTIONARY_CASTS, "enum": "VARCHAR"}
"""Casts for the others: JDBC drivers show the numbers of a dictionary in the place of its texts."""

_COLUMN = "_carried_"

_OVERFLOW = re.compile(rf"Could not cast value (-?\d+) to DECIMAL\(38,0\).*{_COLUMN}", re.DOTALL)
"""How DuckDB complains of a value that does not fit a cast made here."""

_MAX_HOURS = 2_562_046
"""Arrow counts an interval's time in nanoseconds of 64 bits: 292 years."""


def _fields(children: Sequence[tuple[str, SqlType]], casts: Casts) -> str:
    return ", ".join(f"{quote.identifier(name)} {travelling(child, casts)}" for name, child in children)


def _items(children: Sequence[tuple[str, SqlType]], casts: Casts) -> str:
    return ", ".join(travelling(child, casts) for _, child in children)


_NESTED: Mapping[str, Callable[[Any, Casts], str]] = {
    "list": lambda children, casts: f"{_items(children, casts)}[]",
    "array": lambda children, casts: f"{_items(children[:1], casts)}[{children[1][1]}]",
    "map": lambda children, casts: f"MAP({_items(children, casts)})",
    "tuple": lambda children, casts: f"TUPLE({_items(children, casts)})",
    "struct": lambda children, casts: f"STRUCT({_fields(children, casts)})" if children else "STRUCT",
    "union": lambda children, casts: f"UNION({_fields(children[1:], casts)})",  # the first is the tag
}
"""Nested type → how it is written with the types in it that travel."""


def travelling(kind: SqlType, casts: Casts = CASTS) -> str:
    """Return, as SQL, the type in which values of a type travel."""
    write = _NESTED.get(kind.id)
    return write(kind.children, casts) if write else casts.get(kind.id, str(kind))


def _travels(kind: SqlType, casts: Casts) -> bool:
    """Tell whether a type travels as it is."""
    if kind.id in _NESTED:
        # What is no type is the size of an array.
        return all(_travels(child, casts) for _, child in kind.children if hasattr(child, "id"))
    return kind.id not in casts


def _expression(column: str, kind: SqlType, casts: Casts) -> str:
    if kind.id == "interval":
        message = f"an INTERVAL of more than {_MAX_HOURS} hours does not fit Arrow: cast it to VARCHAR"
        return (
            f"CASE WHEN abs(date_part('hour', {column})) > {_MAX_HOURS} "
            f"THEN error({quote.text(message)}) ELSE {column} END"
        )
    return column if _travels(kind, casts) else f"CAST({column} AS {travelling(kind, casts)})"


def carried(sql: str, kinds: Sequence[SqlType], is_query: bool, casts: Casts) -> str:
    """Return a statement whose columns, of these types, can all travel: the same text where they can already.

    One that is no query has its columns from RETURNING. Casts of values that do not fit (a HUGEINT of
    more than 38 digits) fail when the statement runs.
    """
    columns = [f"{_COLUMN}{at}" for at in range(len(kinds))]
    expressions = [_expression(column, kind, casts) for column, kind in zip(columns, kinds, strict=True)]
    if expressions == columns:
        return sql
    if is_merge(Reader(sql)):
        lossy = next(
            at for at, (name, own) in enumerate(zip(expressions, columns, strict=True)) if name != own
        )
        raise InvalidArgumentError(
            f"column {lossy + 1} of RETURNING is {kinds[lossy]}, which does not travel as it is: "
            f"cast it to {travelling(kinds[lossy], casts)}"
        )
    end = max((token.end for token in tokens(sql)), default=0)
    inner, chosen, names = sql.encode()[:end].decode(), ", ".join(expressions), ", ".join(columns)
    if is_query:
        return f"SELECT {chosen} FROM (\n{inner}\n) AS _({names})"  # noqa: S608 - the statement was parsed
    return f"WITH _({names}) AS (\n{inner}\n) SELECT {chosen} FROM _"  # noqa: S608


def explained(message: str) -> str | None:
    """Return what to say in the place of DuckDB's complaint of a cast made here, None for any other."""
    found = _OVERFLOW.search(message)
    return found and (
        f"{found[1]} has more than the 38 digits in which HUGEINT and UHUGEINT travel: "
        "cast the column to VARCHAR or DOUBLE"
    )
