"""DuckDB's types as drivers describe them: sizes, literals, and the metadata of columns.

Numbers of types and subcodes are those of the enums XdbcDataType and XdbcDatetimeSubcode of
FlightSql.proto. Sizes are decimal digits for numbers and characters for all else (JDBC reads them
so, whatever the radix); those of times are for years of four digits. None: there is no limit, or
the word does not apply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_UNKNOWN, _DECIMAL, _INTEGER, _SMALLINT, _REAL, _DOUBLE = 0, 3, 4, 5, 7, 8
_DATETIME, _INTERVAL, _VARCHAR, _DATE, _TIME, _TIMESTAMP = 9, 10, 12, 91, 92, 93
_VARBINARY, _BIGINT, _TINYINT, _BIT = -3, -5, -6, -7

_KEY_PREFIX = "ARROW:FLIGHT:SQL:"


@dataclass(frozen=True, slots=True)
class SqlType:
    """What drivers know of a type.

    `is_text` says that its values compare as text and LIKE takes them. `scales` are the smallest
    and the largest number of fractional digits. `is_unsigned` is None for what is no number.
    `datetime_subcode` marks dates and times.
    """

    data_type: int
    size: int | None = None
    literal: tuple[str | None, str | None] = (None, None)
    parameters: tuple[str, ...] = ()
    is_text: bool = False
    scales: tuple[int, int] | None = None
    is_unsigned: bool | None = None
    datetime_subcode: int | None = None

    @property
    def sql_data_type(self) -> int:
        """The type's number without its subcode: all dates and times have one."""
        return self.data_type if self.datetime_subcode is None else _DATETIME


def _quoted(word: str = "") -> tuple[str, str]:
    return f"{word} '".lstrip(), "'"


def _number(data_type: int, digits: int, *, is_unsigned: bool = False) -> SqlType:
    return SqlType(data_type, digits, scales=(0, 0), is_unsigned=is_unsigned)


def _moment(data_type: int, subcode: int, word: str, size: int, fraction: int | None = None) -> SqlType:
    scales = None if fraction is None else (fraction, fraction)
    return SqlType(data_type, size, _quoted(word), scales=scales, datetime_subcode=subcode)


def _text(word: str = "") -> SqlType:
    return SqlType(_VARCHAR, literal=_quoted(word), is_text=True)


SQL_TYPES: Mapping[str, SqlType] = {
    "BOOLEAN": SqlType(_BIT, 1),
    "TINYINT": _number(_TINYINT, 3),
    "SMALLINT": _number(_SMALLINT, 5),
    "INTEGER": _number(_INTEGER, 10),
    "BIGINT": _number(_BIGINT, 19),
    # Of their 39 digits Arrow's decimals carry 38.
    "HUGEINT": _number(_DECIMAL, 38),
    "UHUGEINT": _number(_DECIMAL, 38, is_unsigned=True),
    "UTINYINT": _number(_TINYINT, 3, is_unsigned=True),
    "USMALLINT": _number(_SMALLINT, 5, is_unsigned=True),
    "UINTEGER": _number(_INTEGER, 10, is_unsigned=True),
    "UBIGINT": _number(_BIGINT, 20, is_unsigned=True),
    # ODBC's sizes: the digits that survive.
    "FLOAT": SqlType(_REAL, 7, is_unsigned=False),
    "DOUBLE": SqlType(_DOUBLE, 15, is_unsigned=False),
    "DECIMAL": SqlType(_DECIMAL, 38, parameters=("width", "scale"), scales=(0, 38), is_unsigned=False),
    # Too many digits for any number of Arrow: it arrives as text.
    "BIGNUM": SqlType(_VARCHAR, literal=_quoted("BIGNUM"), scales=(0, 0), is_unsigned=False),
    "VARCHAR": _text(),
    "JSON": _text("JSON"),
    "ENUM": SqlType(_VARCHAR, literal=_quoted(), parameters=("values",), is_text=True),
    "VARIANT": SqlType(_VARCHAR),
    "UUID": SqlType(_VARCHAR, 36, _quoted("UUID")),
    "BIT": SqlType(_VARCHAR, literal=_quoted("BIT")),
    "BLOB": SqlType(_VARBINARY, literal=("X'", "'")),
    "GEOMETRY": SqlType(_VARBINARY, literal=_quoted("GEOMETRY"), parameters=("crs",)),
    "DATE": _moment(_DATE, 1, "DATE", 10),
    "TIME": _moment(_TIME, 2, "TIME", 15, 6),
    "TIME_NS": _moment(_TIME, 2, "TIME_NS", 18, 9),
    "TIME WITH TIME ZONE": _moment(_TIME, 4, "TIMETZ", 24, 6),
    "TIMESTAMP": _moment(_TIMESTAMP, 3, "TIMESTAMP", 26, 6),
    "TIMESTAMP_S": _moment(_TIMESTAMP, 3, "TIMESTAMP_S", 19, 0),
    "TIMESTAMP_MS": _moment(_TIMESTAMP, 3, "TIMESTAMP_MS", 23, 3),
    "TIMESTAMP_NS": _moment(_TIMESTAMP, 3, "TIMESTAMP_NS", 29, 9),
    "TIMESTAMP WITH TIME ZONE": _moment(_TIMESTAMP, 5, "TIMESTAMPTZ", 32, 6),
    "TIMESTAMPTZ_NS": _moment(_TIMESTAMP, 5, "TIMESTAMPTZ_NS", 35, 9),
    # Months, days and microseconds at once, for which the enum has no subcode.
    "INTERVAL": SqlType(_INTERVAL, literal=_quoted("INTERVAL")),
    "LIST": SqlType(_UNKNOWN, literal=("[", "]"), parameters=("child",)),
    "ARRAY": SqlType(_UNKNOWN, parameters=("child", "size")),
    "STRUCT": SqlType(_UNKNOWN, literal=("{", "}"), parameters=("fields",)),
    "MAP": SqlType(_UNKNOWN, literal=("MAP {", "}"), parameters=("key", "value")),
    "UNION": SqlType(_UNKNOWN, parameters=("members",)),
}
"""Name, as DuckDB writes it without parameters, → what drivers know of the type."""


def base_name(type_name: str) -> str:
    """Return a type's name without parameters: `DECIMAL(9,2)` → `DECIMAL`, `INTEGER[3]` → `ARRAY`."""
    if type_name.endswith("]"):
        return "LIST" if type_name.endswith("[]") else "ARRAY"
    return type_name.partition("(")[0]


def column_metadata(type_name: str) -> dict[str, str]:
    """Return what Flight SQL says of a column of a type, as DuckDB writes it; booleans are 0 and 1.

    PRECISION and SCALE are there where the type has them.
    """
    base = base_name(type_name)
    sql_type = SQL_TYPES.get(base, SqlType(_UNKNOWN))
    size, scale = sql_type.size, sql_type.scales and sql_type.scales[0]
    if base == "DECIMAL" and "(" in type_name:
        size, scale = map(int, type_name[len("DECIMAL(") : -1].split(","))
    found = {
        "TYPE_NAME": type_name,
        "PRECISION": size,
        "SCALE": scale,
        "IS_AUTO_INCREMENT": 0,
        "IS_CASE_SENSITIVE": int(sql_type.is_text),
        "IS_SEARCHABLE": 1,
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def encoded(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return metadata of a column under the keys that Flight SQL gives it."""
    return {f"{_KEY_PREFIX}{key}".encode(): value.encode() for key, value in metadata.items()}


def with_type_names(schema: pa.Schema, type_names: Sequence[str]) -> pa.Schema:
    """Return the schema of a result with what drivers read of each column's type.

    `type_names` are DuckDB's, in the order of the columns. A flag that is not there means no to
    drivers; as it would travel with every answer, only those that say yes are written.
    """
    metadata: dict[str, Any] = {
        name: pa.KeyValueMetadata(encoded(_of_result(name))) for name in set(type_names)
    }
    fields = zip(schema, type_names, strict=True)
    return pa.schema([field.with_metadata(metadata[type_name]) for field, type_name in fields])


def type_name(field: "pa.Field[Any]") -> str:
    """Return DuckDB's name of the type of a result's column, empty where none is said."""
    return (field.metadata or {}).get(f"{_KEY_PREFIX}TYPE_NAME".encode(), b"").decode()


def _of_result(type_name: str) -> dict[str, str]:
    found = {**column_metadata(type_name), "IS_READ_ONLY": "1"}
    return {key: value for key, value in found.items() if not (key.startswith("IS_") and value == "0")}
