"""Turns DuckDB's errors into ours, without the server's paths and hidden names they carry."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from flight_server.engine.types import explained
from flight_server.errors import (
    CallCancelledError,
    ConflictError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    LakehouseError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnimplementedError,
)
from flight_server.frames.requests import SESSION_MARK

_CLASS_BY_PREFIX: dict[str, type[LakehouseError]] = {
    "Parser": InvalidArgumentError,
    "Syntax": InvalidArgumentError,
    "Binder": InvalidArgumentError,
    "Catalog": InvalidArgumentError,
    "Conversion": InvalidArgumentError,
    "Invalid Input": InvalidArgumentError,
    "Invalid type": InvalidArgumentError,
    "Mismatch Type": InvalidArgumentError,
    "Type": InvalidArgumentError,
    "Out of Range": InvalidArgumentError,
    "Constraint": InvalidArgumentError,
    "Expression": InvalidArgumentError,
    "Parameter Not Resolved": InvalidArgumentError,
    "Parameter Not Allowed": InvalidArgumentError,
    "Invalid Configuration": InvalidArgumentError,
    "Not implemented": UnimplementedError,
    "Serialization": UnimplementedError,  # a subquery where DuckDB would have to copy it
    "Missing Extension": UnimplementedError,
    "Permission": PermissionDeniedError,
    "Out of Memory": ResourceExhaustedError,
    "IO": FailedPreconditionError,
    "INTERRUPT": CallCancelledError,
}
"""What DuckDB writes before ` Error:` → our class; anything else is a bug of ours."""

_UNCOMBINED = "Cannot combine types"
"""How DuckDB refuses rows of VALUES whose types differ: as if it might take them one day."""

_PREFIX = re.compile(r"^(?:\w+Exception: )?(?P<prefix>[A-Za-z][A-Za-z ]*?) Error: ")
_EXCERPT = re.compile(r"\n+LINE \d+:.*", re.DOTALL)
_SUGGESTION = re.compile(r"\n+Did you mean .*", re.DOTALL)
_SESSION_TABLE = re.compile(rf'(?:"?_t"?\.)?"{SESSION_MARK}\d+{SESSION_MARK}((?:[^"]|"")*)"')
_GONE_TABLE = re.compile(
    rf"Table with name {SESSION_MARK}\d+{SESSION_MARK}(?P<name>.*?) does not exist!", re.DOTALL
)
"""How DuckDB says that a session's table went between two steps of a statement."""

_GONE_OBJECT = ("No files found that match the pattern", "No such file or directory", "Not a directory")
"""What DuckDB says of an object that was there when its relation was made."""

_HIDDEN = re.compile(r'(?:"?lakehouse"?\.)?"?_[vt]"?\."?[^"\s]+"?')


class Failures:
    """Translates errors of one instance; knows which paths must not be shown."""

    def __init__(self, hidden_paths: Iterable[str]) -> None:
        self._hidden_paths = sorted(hidden_paths, key=len, reverse=True)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise what DuckDB raises as one of our errors."""
        try:
            yield
        except duckdb.Error as error:
            raise self.translate(error) from error
        except (OSError, pa.ArrowException) as error:  # a stream's errors come through Arrow
            raise self.translate(error) from error

    def translate(self, error: Exception) -> LakehouseError:
        """Return our error for one of DuckDB's."""
        text = str(error)
        found = _PREFIX.match(text)
        # What the parser refuses late comes as a plain error, without a class before it.
        unnamed = InvalidArgumentError if type(error) is duckdb.Error else InternalError
        kind = _CLASS_BY_PREFIX.get(found["prefix"], InternalError) if found else unnamed
        if found and text.startswith(_UNCOMBINED, found.end()):
            kind = InvalidArgumentError
        if kind is InternalError:
            return InternalError("the statement failed inside the engine")
        gone = _GONE_TABLE.search(text)
        if gone is not None:
            return ConflictError(
                f"temporary table or variable {gone['name']!r} was changed or dropped by another statement "
                "of the session: try again"
            )
        if kind is FailedPreconditionError and any(said in text for said in _GONE_OBJECT):
            return kind("an object of a dataset is missing from its bucket: bring it back")
        overflow = explained(text)
        if overflow is not None:
            return InvalidArgumentError(overflow)
        return kind(self.clean(text[found.end() :] if found else text))

    def clean(self, message: str) -> str:
        """Return a message without excerpts of rewritten text, hidden names and paths."""
        return self.scrubbed(_SUGGESTION.sub("", _EXCERPT.sub("", message))).strip()

    def scrubbed(self, message: str) -> str:
        """Return a text without hidden names and paths."""
        for path in self._hidden_paths:
            message = message.replace(path, "<bucket>")
        return _HIDDEN.sub("the dataset", _SESSION_TABLE.sub(r"\1", message))
