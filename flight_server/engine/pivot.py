"""Dynamic PIVOT: its columns are the values that its rows hold, so these are read first.

`PIVOT t ON x` becomes `PIVOT t ON (x) IN ('a', 'b')`, which the parse of queries takes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from flight_server.engine import quote
from flight_server.engine.kinds import Pivot
from flight_server.engine.preparation import Preparation
from flight_server.engine.statement import Statement
from flight_server.engine.tokens import Reader, Token
from flight_server.errors import InvalidArgumentError

_MAX_COLUMNS = 10_000
_MAX_PIVOTS = 16
_PIVOTS = frozenset({"PIVOT", "PIVOT_WIDER"})
_ENDS_OF_ON = frozenset(
    {"USING", "GROUP", "ORDER", "LIMIT", "OFFSET", "WHERE", "UNION", "EXCEPT", "INTERSECT"}
)
_STARTS_OF_BODY = frozenset({"SELECT", "FROM", "VALUES", "TABLE", *_PIVOTS})


@dataclass(frozen=True, slots=True)
class _OpenPivot:
    """A PIVOT whose columns are not known: its place among the tokens, its source, and where the
    expressions stand that have no values yet.
    """

    at: int
    depth: int
    source: str
    expressions: tuple[tuple[int, int], ...]


def with_values(
    cursor: duckdb.DuckDBPyConnection, sql: str, statement: Statement, preparation: Preparation
) -> str:
    """Return the text of a query with the values of each pivoted expression written into it."""
    for _ in range(_MAX_PIVOTS):
        reader = Reader(sql)
        # The innermost comes first: it may be the source of the others.
        found = max(_open_pivots(reader), key=lambda pivot: (pivot.depth, -pivot.at), default=None)
        if found is None:
            break
        sql = _edited(sql, list(_edits(cursor, reader, found, statement, preparation)))
    if isinstance(preparation.read(cursor, sql), Pivot):  # it may stand in EXPLAIN or CREATE TABLE too
        raise InvalidArgumentError(
            "the values that PIVOT makes columns of cannot be read here: leave out IN, or list them, as in "
            "ON x IN ('a', 'b')"
        )
    return sql


def _edits(
    cursor: duckdb.DuckDBPyConnection,
    reader: Reader,
    pivot: _OpenPivot,
    statement: Statement,
    preparation: Preparation,
) -> Iterator[tuple[int, int, str]]:
    definitions = _definitions(reader, pivot.at)
    for start, end in pivot.expressions:
        expression = reader.text(start, end)
        query = (
            f"{definitions} SELECT DISTINCT CAST(({expression}\n) AS VARCHAR) FROM {pivot.source} "  # noqa: S608 - parsed
            "ORDER BY ALL"
        )
        values = ", ".join(map(quote.text, _values(cursor, query, statement, preparation)))
        yield start, end, f"({expression}) IN ({values})"


def _values(
    cursor: duckdb.DuckDBPyConnection, query: str, statement: Statement, preparation: Preparation
) -> list[str]:
    ready = preparation.query(cursor, statement, query)
    with (
        cursor.cursor() as apart,
        statement.running.aside(apart),
        preparation.available(apart, statement, ready, with_rows=True) as fill,
    ):
        fill(None)
        found = apart.execute(ready.sql).fetchmany(_MAX_COLUMNS + 1)
    values = [value for (value,) in found if value is not None]
    if len(values) > _MAX_COLUMNS:
        raise InvalidArgumentError(
            f"PIVOT would make more than {_MAX_COLUMNS} columns: filter its rows first"
        )
    if not values:
        raise InvalidArgumentError("PIVOT finds no values to make columns of: its source has no rows")
    return values


def _definitions(reader: Reader, at: int) -> str:
    """Return the WITH clause at the beginning of a query, as far as a token sees it."""
    if not reader.tokens or reader.tokens[0].word != "WITH":
        return ""
    tokens = reader.tokens
    first = 2 if tokens[1].word == "RECURSIVE" else 1
    ends = [
        place
        for place in range(first, at)
        if tokens[place].depth == 0 and tokens[place].text == ")" and tokens[place + 1].word != "AS"
    ]
    # A definition ends with the bracket before a comma, or before the query itself.
    closed = [
        place for place in ends if tokens[place + 1].text == "," or place + 1 == at or _is_body(tokens, place)
    ]
    return reader.text(tokens[0].start, tokens[closed[-1]].end) if closed else ""


def _is_body(tokens: Sequence[Token], place: int) -> bool:
    return tokens[place + 1].word in _STARTS_OF_BODY or tokens[place + 1].text == "("


def _open_pivots(reader: Reader) -> Iterator[_OpenPivot]:
    for at, token in enumerate(reader.tokens):
        if token.word not in _PIVOTS or not _is_statement(reader.tokens, at):
            continue
        inside = _of_depth(reader.tokens[at + 1 :], token.depth)
        on = next((place for place, found in enumerate(inside) if found.word == "ON"), None)
        if not on:
            continue
        source = reader.text(inside[0].start, _end_before(reader, inside[on]))
        expressions = tuple(_open_expressions(reader, inside[on + 1 :]))
        if expressions:
            yield _OpenPivot(at, token.depth, source, expressions)


def _is_statement(tokens: Sequence[Token], at: int) -> bool:
    """Tell whether a PIVOT is a query of its own, not the suffix `t PIVOT (… FOR …)` of a table."""
    if at + 1 >= len(tokens) or tokens[at + 1].text != "(":
        return at + 1 < len(tokens)
    inside = _of_depth(tokens[at + 2 :], tokens[at].depth + 1)
    return not any(token.word == "FOR" for token in inside)


def _of_depth(following: Sequence[Token], depth: int) -> list[Token]:
    """Return the tokens up to the bracket that closes around a depth, those inside brackets left out."""
    found = []
    for token in following:
        if token.depth < depth or (token.depth == depth - 1 and token.text == ")"):
            break
        if token.depth == depth:
            found.append(token)
    return found


def _open_expressions(reader: Reader, inside: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Yield where the expressions after ON begin and end that name no values (`x IN (…)`)."""
    part: list[Token] = []
    ended = next((token for token in inside if token.word in _ENDS_OF_ON), None)
    clause = [token for token in inside if ended is None or token.start < ended.start]
    for token in [*clause, None]:
        if token is not None and token.text != ",":
            part.append(token)
            continue
        if part and not any(found.word == "IN" for found in part):
            after = token or ended
            end = _end_of(reader, part[-1]) if after is None else _end_before(reader, after)
            yield part[0].start, end
        part = []


def _end_before(reader: Reader, token: Token) -> int:
    """Return the end of the token before one."""
    return reader.tokens[reader.tokens.index(token) - 1].end


def _end_of(reader: Reader, token: Token) -> int:
    """Return the end of the brackets around what follows a token, or of the text."""
    following = reader.tokens[reader.tokens.index(token) :]
    end = token.end
    for found in following:
        if found.depth < token.depth:
            break
        end = found.end
    return end


def _edited(sql: str, edits: Sequence[tuple[int, int, str]]) -> str:
    data, at, out = sql.encode(), 0, []
    for start, end, replacement in sorted(edits):
        out += [data[at:start], replacement.encode()]
        at = end
    return b"".join([*out, data[at:]]).decode()
