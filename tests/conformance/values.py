"""Arrow values and types as case files write them: JSON for rows, `name: type` for columns."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import time
from typing import Any

import pyarrow as pa
import pyarrow.types as pat


def columns(schema: pa.Schema) -> list[str]:
    """Write a schema as `name: type` or `name: type not null`, names inside lists and maps left out."""
    return [_field(field) for field in schema]


def _field(field: "pa.Field[Any]") -> str:
    return f"{field.name}: {_type(field.type)}{'' if field.nullable else ' not null'}"


def _item(field: "pa.Field[Any]") -> str:
    return _type(field.type) + ("" if field.nullable else " not null")


_TYPES: list[tuple[Callable[[pa.DataType], bool], Callable[[Any], str]]] = [
    (pat.is_fixed_size_list, lambda kind: f"list<{_item(kind.value_field)}>[{kind.list_size}]"),
    (pat.is_list, lambda kind: f"list<{_item(kind.value_field)}>"),
    (pat.is_map, lambda kind: f"map<{_type(kind.key_type)}, {_item(kind.item_field)}>"),
    (pat.is_struct, lambda kind: f"struct<{', '.join(_field(field) for field in kind)}>"),
    (pat.is_union, lambda kind: f"{kind.mode}_union<{', '.join(_field(field) for field in kind)}>"),
    (pat.is_dictionary, lambda kind: f"dictionary<{_type(kind.value_type)}>"),
]
"""Nested type → how it is written; the others as Arrow writes them."""


def _type(kind: pa.DataType) -> str:
    return next((write(kind) for is_one, write in _TYPES if is_one(kind)), str(kind))


def rows(table: pa.Table) -> list[str]:
    """Write each row as one line of JSON."""
    return [written([plain(column[at]) for column in table.columns]) for at in range(table.num_rows)]


def expected(text: str) -> list[str]:
    """Write the rows that a case file expects, a JSON list of lists, as `rows` does."""
    return [written(row) for row in json.loads(text)]


def written(value: Any) -> str:
    """Write a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def table(fields: Iterable[str], text: str) -> pa.Table:
    """Make a table of columns (`name: type`) and rows (a JSON list of lists), to bind or to ingest."""
    named: Any = pa.type_for_alias  # the stubs take literals only
    pairs = [field.split(": ", 1) for field in fields]
    schema = pa.schema([(name, _FROM_TEXT.get(kind) or named(kind)) for name, kind in pairs])
    found = json.loads(text)
    arrays = [_array([row[at] for row in found], kind) for at, kind in enumerate(schema.types)]
    return pa.Table.from_arrays(arrays, schema=schema)


_FROM_TEXT: Mapping[str, pa.DataType] = {
    "decimal128(10, 2)": pa.decimal128(10, 2),
    "list<int32>": pa.list_(pa.int32()),
    "struct<a: int32>": pa.struct({"a": pa.int32()}),
    "dictionary<string>": pa.dictionary(pa.int32(), pa.utf8()),
}
"""Types of values that cases send, beside those that have a name of one word."""


def _array(values: list[Any], kind: pa.DataType) -> "pa.Array[Any]":
    """Make an array; what JSON has no literal for is cast from its text."""
    if pat.is_binary(kind):
        return pa.array([value and bytes.fromhex(value) for value in values], kind)
    if pat.is_time(kind):
        return pa.array([value and time.fromisoformat(value) for value in values], kind)
    if pat.is_temporal(kind) or pat.is_decimal(kind):
        return pa.array(values, pa.utf8()).cast(kind)
    return pa.array(values, kind)


def plain(scalar: Any) -> Any:
    """Return a value as JSON has it.

    Decimals, dates, times and timestamps are strings, blobs hexadecimal, intervals [months, days,
    nanoseconds], maps lists of pairs, unions objects of one key.
    """
    if not scalar.is_valid:
        return None
    for is_one, write in _VALUES:
        if is_one(scalar.type):
            return write(scalar)
    return scalar.as_py()


def _float(scalar: Any) -> Any:
    value = scalar.as_py()
    return value if math.isfinite(value) else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")


def _pairs(scalar: Any) -> list[list[Any]]:
    return [[plain(pair["key"]), plain(pair["value"])] for pair in scalar.values]


def _member(scalar: Any) -> dict[str, Any]:
    codes = {code: field.name for code, field in zip(scalar.type.type_codes, scalar.type, strict=True)}
    return {codes[scalar.type_code]: plain(scalar.value)}


_VALUES: list[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]]] = [
    (pat.is_floating, lambda scalar: _float(scalar)),
    (pat.is_decimal, lambda scalar: format(scalar.as_py(), "f")),
    (pat.is_interval, lambda scalar: list(scalar.as_py())),
    (pat.is_temporal, lambda scalar: scalar.cast(pa.utf8()).as_py()),
    (pat.is_binary, lambda scalar: scalar.as_py().hex()),
    (pat.is_map, lambda scalar: _pairs(scalar)),
    (pat.is_struct, lambda scalar: {name: plain(scalar[name]) for name in scalar}),
    (pat.is_union, lambda scalar: _member(scalar)),
    (pat.is_dictionary, lambda scalar: plain(scalar.value)),
    (
        lambda kind: pat.is_list(kind) or pat.is_fixed_size_list(kind),
        lambda scalar: [plain(item) for item in scalar.values],
    ),
]
"""Type → how a value of it is written; the others are as JSON has them."""
