"""LIKE patterns, as SQL writes them."""

import re
from collections.abc import Callable

from flight_server.errors import InvalidArgumentError

ESCAPE = "\\"
"""The character that takes the meaning of the `%`, `_` or `\\` behind it (SqlInfo 513)."""

MAX_LENGTH = 1_000
"""Characters of the longest pattern; names have at most 255."""

_TOKEN = re.compile(r"\\(?P<escaped>.)|(?P<many>%+)|(?P<one>_)|(?P<plain>.)", re.DOTALL)


def like(pattern: str) -> Callable[[str], bool]:
    r"""Return a test for `name LIKE pattern ESCAPE '\'`; upper and lower case differ.

    Raises InvalidArgumentError when the escape character ends the pattern, or it is too long.
    """
    if len(pattern) > MAX_LENGTH:
        raise InvalidArgumentError(
            f"the pattern has {len(pattern)} characters, at most {MAX_LENGTH} are read"
        )
    parts = [""]
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        assert token is not None  # noqa: S101 - the last alternative matches any character
        at = token.end()
        if token["many"]:
            parts.append("")
        elif token["one"]:
            parts[-1] += "."
        elif token["plain"] == ESCAPE:
            raise InvalidArgumentError(f"the pattern {pattern[:80]!r} ends with its escape character")
        else:
            parts[-1] += re.escape(token["escaped"] or token["plain"])
    first, *middle, last = parts if len(parts) > 1 else (parts[0], "")
    # Each part is taken where it first fits and never tried elsewhere: time stays linear in the name.
    text = first + "".join(f"(?>.*?{part})" for part in middle) + (f".*{last}" if len(parts) > 1 else "")
    compiled = re.compile(text, re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None
