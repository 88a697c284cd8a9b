"""Reads a JSON text value by value, so that a list of any length needs the memory of one item."""

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

_END = ("", None)
_OPENING = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


class JsonStream:
    """A place in a JSON text; whoever reads a list or an object reads it to its end.

    Raises ValueError where the text is not JSON.
    """

    def __init__(self, text: BinaryIO) -> None:
        self._events = ijson.basic_parse(text, use_float=True)
        self._event: tuple[str, Any] = _END
        self._next()

    @property
    def is_object(self) -> bool:
        """Whether an object follows."""
        return self._event[0] == "start_map"

    @property
    def is_list(self) -> bool:
        """Whether a list follows."""
        return self._event[0] == "start_array"

    def value(self, most: float = math.inf) -> Any:
        """Read one value as a whole. Raises ValueError when more than `most` tokens make it up."""
        builder = ObjectBuilder()
        depth = tokens = 0
        while True:
            kind, value = self._event
            tokens += 1
            if tokens > most:
                raise ValueError(f"one value in it has more than {most} parts")
            builder.event(kind, value)
            depth += _OPENING.get(kind, 0)
            self._next()
            if depth == 0:
                return builder.value

    def items(self) -> Iterator[None]:
        """Stand before each item of a list in turn."""
        self._next()
        while self._event[0] != "end_array":
            yield
        self._next()

    def members(self) -> Iterator[str]:
        """Yield each name of an object and stand before its value."""
        self._next()
        while self._event[0] != "end_map":
            name = self._event[1]
            self._next()
            yield name
        self._next()

    def _next(self) -> None:
        try:
            self._event = next(self._events, _END)
        except ijson.JSONError as error:
            reason = error.args[0]
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise ValueError(text.split("\n", 1)[0]) from error
