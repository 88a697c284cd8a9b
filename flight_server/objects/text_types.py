"""Columns of UUID and JSON: Arrow's extension types, which Parquet and SQL know too, and their texts."""

import json
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from flight_server.domain.columns import Kind
from flight_server.errors import InvalidArgumentError

UUID, JSON = pa.uuid(), pa.json_(pa.utf8())

_DIGITS = 32


def is_text_type(kind: Kind) -> bool:
    """Tell whether a type is stored as itself and travels as text."""
    return isinstance(kind, pa.UuidType | pa.JsonType)


def from_text(column: Any, kind: Kind, *, is_trusted: bool) -> Any:
    """Return an array of texts as one of UUID or JSON; what is trusted is such texts by DuckDB's word.

    Raises InvalidArgumentError for a text that is neither.
    """
    if isinstance(column.type, pa.UuidType):
        return column
    text = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    text = text.cast(pa.utf8())
    if isinstance(kind, pa.UuidType):
        return pa.ExtensionArray.from_storage(UUID, _uuids(text))
    if not is_trusted:
        _check_json(text)
    return pa.ExtensionArray.from_storage(JSON, text)


def _uuids(text: Any) -> Any:
    digits = pc.fill_null(pc.replace_substring(text, "-", ""), "0" * _DIGITS)
    try:
        if pc.unique(pc.binary_length(digits)).to_pylist() not in ([], [_DIGITS]):
            raise ValueError
        data = pa.py_buffer(bytes.fromhex("".join(digits.to_pylist())))
    except ValueError as error:
        raise InvalidArgumentError("a text is no UUID: write 32 hexadecimal digits") from error
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(text), [None, data])
    return pc.if_else(text.is_valid(), values, pa.scalar(None, pa.binary(16)))


def _check_json(text: Any) -> None:
    try:
        for value in text.to_pylist():
            if value is not None:
                json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"a text is no JSON: {error}") from error


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
