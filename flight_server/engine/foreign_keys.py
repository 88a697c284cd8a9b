"""Takes foreign keys out of definitions of columns: they are recorded and not enforced."""

from collections.abc import Sequence
from dataclasses import dataclass

from flight_server.engine.tokens import Reader, Token


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key as it is written; without `referenced_columns` the key of that table is meant."""

    name: str | None
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    referenced_columns: tuple[str, ...]


def separated(definitions: str) -> tuple[str, list[ForeignKey]]:
    """Return the definitions without foreign keys, and these. Raises InvalidArgumentError."""
    reader = Reader(definitions)
    kept: list[str] = []
    found: list[ForeignKey] = []
    for part in _parts(reader.tokens):
        if not part:
            raise reader.unexpected("a column or a constraint")
        text = reader.text(part[0].start, part[-1].end)
        own = Reader(text)
        constraint = own.name()[0] if own.take("CONSTRAINT") else None
        if own.take("FOREIGN", "KEY"):
            columns = _names(own)
            found.append(_reference(own, constraint, columns))
        else:
            kept.append(_column(text, found))
    return ", ".join(kept), found


def _parts(tokens: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "," and token.depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _column(text: str, found: list[ForeignKey]) -> str:
    """Return a column's definition without REFERENCES, which is added to what was found."""
    reader = Reader(text)
    words = [token.word if token.depth == 0 else "" for token in reader.tokens]
    if "REFERENCES" not in words[1:]:
        return text
    at = words.index("REFERENCES", 1)
    reader.at = at
    found.append(_reference(reader, None, (reader.tokens[0].value,)))
    rest = reader.rest() if reader.token else ""
    return f"{reader.text(0, reader.tokens[at].start)} {rest}"


def _reference(reader: Reader, name: str | None, columns: tuple[str, ...]) -> ForeignKey:
    if not reader.take("REFERENCES"):
        raise reader.unexpected("REFERENCES")
    referenced = reader.name()
    there = _names(reader) if reader.word == "(" else ()
    while reader.take("ON"):
        reader.take_any("DELETE", "UPDATE")
        if not (reader.take("NO", "ACTION") or reader.take_any("RESTRICT")):
            raise reader.unexpected("NO ACTION or RESTRICT, foreign keys change no rows")
    return ForeignKey(name, columns, referenced, there)


def _names(reader: Reader) -> tuple[str, ...]:
    inner = Reader(reader.brackets())
    names = [inner.name()[0]]
    while inner.take(","):
        names.append(inner.name()[0])
    inner.end()
    return tuple(names)
