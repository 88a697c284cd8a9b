"""Reads a JSON text piece by piece, so that a list of any length needs the memory of one item."""

import json
from collections.abc import Iterator
from typing import Any, TextIO

_CHARACTERS = 256 * 1024
_SPACE = " \t\n\r"


class JsonStream:
    """A place in a JSON text; whoever reads a list or an object reads it to its end.

    Raises ValueError where the text is not JSON.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._passed = 0
        self._is_ended = False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the first character of what follows, "" at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def value(self) -> Any:
        """Read one value as a whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._fill():
                    continue
                raise ValueError(f"{error.msg} at character {self._passed + error.pos}") from error
            # A number at the end of what was read may go on.
            if end < len(self._buffer) or not self._fill():
                self._at = end
                return value

    def items(self) -> Iterator[None]:
        """Stand before each item of a list in turn."""
        yield from self._parts("[", "]")

    def members(self) -> Iterator[str]:
        """Yield each name of an object and stand before its value."""
        for _ in self._parts("{", "}"):
            name = self.value() if self.peek() == '"' else self._fail("a name in quotes")
            self._take(":")
            yield name

    def end(self) -> None:
        """Be at the end of the text."""
        if self.peek():
            self._fail("the end")

    def _parts(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() != closing:
            yield
            while self.peek() == ",":
                self._take(",")
                yield
        self._take(closing)

    def _take(self, wanted: str) -> None:
        if self.peek() != wanted:
            self._fail(f"{wanted!r}")
        self._at += 1

    def _fail(self, wanted: str) -> Any:
        raise ValueError(f"expected {wanted} at character {self._passed + self._at}")

    def _fill(self) -> bool:
        """Read on, twice as much each time that a value is not complete yet."""
        if self._is_ended:
            return False
        rest = self._buffer[self._at :]
        more = self._text.read(max(_CHARACTERS, len(rest)))
        self._passed += self._at
        self._buffer, self._at, self._is_ended = rest + more, 0, not more
        return bool(more)
