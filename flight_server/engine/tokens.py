"""The tokens of a statement, as DuckDB's own tokenizer finds them, and a reader that walks over them.

Positions are bytes of the UTF-8 text. Comments are left out.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import duckdb

from flight_server.errors import InvalidArgumentError

_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_QUOTES = "\"'"
_COMMENT, _OPERATOR = duckdb.token_type.comment, duckdb.token_type.operator
_VERBATIM = (_COMMENT, duckdb.token_type.string_const)
_UNICODE_SPACES = re.compile("[\u00a0\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]")
"""What DuckDB's parser takes for a space, but its tokenizer for a letter."""


class Token(NamedTuple):
    """One token: its text, where it stands, and how many brackets are open around it."""

    text: str
    start: int
    end: int
    depth: int

    @property
    def word(self) -> str:
        """The token in upper case, for comparing with keywords; empty for quoted names and strings."""
        return "" if self.text[0] in _QUOTES else self.text.upper()

    @property
    def value(self) -> str:
        """What a name or a string stands for."""
        mark = self.text[0]
        if mark in _QUOTES and self.text.endswith(mark) and len(self.text) > 1:
            return self.text[1:-1].replace(mark * 2, mark)
        return self.text


def tokens(sql: str) -> list[Token]:
    """Return the tokens of a text, without semicolons at its end."""
    result: list[Token] = []
    depth = 0
    for start, kind, text in _tokenized(sql):
        whole = text.rstrip()
        if kind == _COMMENT or not whole:
            continue
        is_several = len(whole) > 1 and kind == _OPERATOR
        for piece_start, piece in _pieces(whole, start) if is_several else [(start, whole)]:
            opened = _BRACKETS.get(piece, 0)
            depth += min(opened, 0)
            result.append(Token(piece, piece_start, piece_start + len(piece.encode()), depth))
            depth += max(opened, 0)
    while result and result[-1].text == ";":
        result.pop()
    return result


def plain_spaces(sql: str) -> str:
    """Replace the spaces of other scripts by as many plain ones as they have bytes.

    Those in quotes and comments stay. Positions in the text are then the same to everybody who reads it.
    """
    if not _UNICODE_SPACES.search(sql):
        return sql
    pieces = [
        text if kind in _VERBATIM or text[0] in _QUOTES else _UNICODE_SPACES.sub(_blank, text)
        for _, kind, text in _tokenized(sql)
    ]
    before = len(sql.encode()) - sum(len(piece.encode()) for piece in pieces)
    return " " * before + "".join(pieces)


def _blank(spaces: re.Match[str]) -> str:
    return " " * len(spaces[0].encode())


def _tokenized(sql: str) -> Iterator[tuple[int, duckdb.token_type, str]]:
    """Yield where tokens begin, their kinds, and their texts with what follows them."""
    data = sql.encode()
    found = duckdb.tokenize(sql)
    ends = [*(start for start, _ in found), len(data)][1:]
    for (start, kind), end in zip(found, ends, strict=True):
        if start == end:  # of a `$` that names no parameter it tells twice
            continue
        yield start, kind, data[start:end].decode(errors="replace")


def _pieces(text: str, start: int) -> Iterator[tuple[int, str]]:
    """Split what the tokenizer gives as one where a bracket stands beside an operator (ASCII, both)."""
    if not set(text) & set(_BRACKETS):
        yield start, text
        return
    for at, character in enumerate(text):
        if not character.isspace():
            yield start + at, character


class Reader:
    """Walks over the tokens of a statement; `take` goes on only where the next words are those asked for."""

    def __init__(self, sql: str) -> None:
        self._data = sql.encode()
        self.tokens = tokens(sql)
        self.at = 0

    @property
    def token(self) -> Token | None:
        """The next token, None at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    @property
    def word(self) -> str:
        """The next token as a keyword, empty at the end."""
        return self.token.word if self.token else ""

    def take(self, *words: str) -> bool:
        """Step over these words when they come next, in this order; else stay."""
        coming = [token.word for token in self.tokens[self.at : self.at + len(words)]]
        if coming != list(words):
            return False
        self.at += len(words)
        return True

    def take_any(self, *words: str) -> str:
        """Step over one of these words when it comes next, and return it; else an empty text."""
        found = self.word if self.word in words else ""
        self.at += bool(found)
        return found

    def name(self) -> tuple[str, ...]:
        """Step over a name, perhaps of several parts. Raises InvalidArgumentError when there is none."""
        parts = [self._name_part()]
        while self.take("."):
            parts.append(self._name_part())
        return tuple(parts)

    def _name_part(self) -> str:
        token = self.token
        if token is None or not (token.text[0] in _QUOTES or token.text[0].isalpha() or token.text[0] == "_"):
            raise self.unexpected("a name")
        self.at += 1
        return token.value

    def brackets(self) -> str:
        """Step over brackets and return what stands between them. Raises InvalidArgumentError."""
        opening = self.token
        if opening is None or opening.text != "(":
            raise self.unexpected("'('")
        for at in range(self.at + 1, len(self.tokens)):
            if self.tokens[at].depth == opening.depth and self.tokens[at].text == ")":
                self.at = at + 1
                return self.text(opening.end, self.tokens[at].start)
        raise self.unexpected("')'")

    def text(self, start: int, end: int) -> str:
        """Return the text between two positions."""
        return self._data[start:end].decode()

    def rest(self) -> str:
        """Return the text from the next token to the end of the last one, and step over it."""
        start = self.token.start if self.token else len(self._data)
        self.at = len(self.tokens)
        return self.text(start, self.tokens[-1].end) if self.tokens else ""

    def end(self) -> None:
        """Check that nothing follows. Raises InvalidArgumentError."""
        if self.token is not None:
            raise self.unexpected("the end of the statement")

    def unexpected(self, wanted: str) -> InvalidArgumentError:
        """Return the error that says what was expected here."""
        found = repr(self.token.text[:40]) if self.token else "the end of the statement"
        return InvalidArgumentError(f"expected {wanted}, found {found}")
