"""Texts of several statements, as dbt sends them: each of them changes something and returns no rows.

A query stands alone, so that what a text returns is never a matter of its last line.
"""

from collections.abc import Callable

from flight_server.engine.kinds import Explain, Kind, Pivot, Shown
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.tokens import tokens
from flight_server.errors import InvalidArgumentError

MAX_STATEMENTS = 1_000

_QUERIES = (ParsedStatement, Explain, Pivot, Shown)


def split(sql: str) -> list[str]:
    """Return the texts of the statements that a text holds; those that are empty are left out."""
    if ";" not in sql:
        return [sql]
    data, found = sql.encode(), tokens(sql)
    ends = [token.start for token in found if token.text == ";" and token.depth == 0]
    if not ends:
        return [sql]
    bounds = zip([0, *(end + 1 for end in ends)], [*ends, len(data)], strict=True)
    texts = [data[start:end].decode() for start, end in bounds]
    return [text for text in texts if tokens(text)]


def check(texts: list[str], read: Callable[[str], ParsedStatement | Kind]) -> None:
    """Check, before the first of several statements runs, that each can be read and stand with others.

    Raises InvalidArgumentError.
    """
    if len(texts) > MAX_STATEMENTS:
        raise InvalidArgumentError(
            f"at most {MAX_STATEMENTS} statements at a time: this text holds {len(texts)}"
        )
    if any(isinstance(read(text), _QUERIES) for text in texts):
        raise InvalidArgumentError(
            f"one statement at a time: this text holds {len(texts)}, and a query among them; "
            "only statements that change something may stand together"
        )
