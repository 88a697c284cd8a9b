"""Hive partitions: columns whose values stand in the folders of an object's key, `year=2024/…`."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

import pyarrow as pa

from flight_server.domain.columns import Field, Kind

_NULL = "__HIVE_DEFAULT_PARTITION__"
_MARK = b"lakehouse.partition"

_TYPES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"-?[0-9]{1,18}"), pa.int64()),
    (re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"), pa.date32()),
)


def values(key: str) -> dict[str, str | None]:
    """Return the partition columns of a key with their values, in the order of its folders."""
    pairs = (part.split("=", 1) for part in key.split("/")[:-1] if part.find("=") > 0)
    return {unquote(name): None if value == _NULL else unquote(value) for name, value in pairs}


def fields(keys: Iterable[Sequence[str | None]], names: Sequence[str]) -> list[Field]:
    """Return a marked column for each name; `keys` holds each object's values in the names' order.

    Whole numbers are bigint, days are date, everything else is varchar.
    """
    columns = zip(*keys, strict=True)
    return [
        pa.field(name, _type(column), metadata={_MARK: b"hive"})
        for name, column in zip(names, columns, strict=True)
    ]


def _type(column: Iterable[str | None]) -> Kind:
    written = [value for value in column if value is not None]
    for pattern, kind in _TYPES:
        if written and all(pattern.fullmatch(value) for value in written):
            return kind
    return pa.utf8()


def marked(field: Field) -> bool:
    """Tell whether a column of an object's schema stands in its key."""
    return field.metadata is not None and _MARK in field.metadata


def unmarked(schema: pa.Schema) -> pa.Schema:
    """Return a schema as its dataset shows it."""
    return pa.schema([field.remove_metadata() for field in schema])
