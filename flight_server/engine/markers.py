"""Where the parameters of a statement stand in its text: `?`, `$1`, `?1`, `$name`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flight_server.engine.tokens import tokens


@dataclass(frozen=True, slots=True)
class Marker:
    """One place of a parameter, in bytes of the text; `name` is as DuckDB gives it, a number or a name."""

    name: str
    start: int
    end: int


def markers(sql: str) -> Iterator[Marker]:
    """Yield the parameters of a text in its order; each `?` without a number is the next one."""
    # Of a long list of VALUES the tokens take seconds.
    found = tokens(sql) if "?" in sql or "$" in sql else []
    count = 0
    for at, token in enumerate(found):
        if token.text not in ("?", "$"):
            continue
        after = found[at + 1] if at + 1 < len(found) else None
        is_named = after is not None and after.start == token.end
        if after is not None and is_named and (token.text == "$" or after.text.isdigit()):
            yield Marker(after.value, token.start, after.end)
        elif token.text == "?":
            count += 1
            yield Marker(str(count), token.start, token.end)


def replaced(sql: str, texts: Mapping[str, str]) -> str:
    """Put texts in the places of the parameters that they are given for; names as in DuckDB, without case."""
    folded = {name.lower(): text for name, text in texts.items()}
    data, at, out = sql.encode(), 0, []
    for marker in markers(sql):
        text = folded.get(marker.name.lower())
        if text is not None:
            out += [data[at : marker.start], text.encode()]
            at = marker.end
    return b"".join([*out, data[at:]]).decode()
