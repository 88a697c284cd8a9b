"""What the server says about itself: SqlInfo code → value, a plain table.

Source: enum SqlInfo of FlightSql.proto. The Python type of a value chooses its union member:
str, bool, `Bigint`, `Int32` (plain numbers and bitmasks; bit n stands for enum value n), a tuple of
names, or a mapping of conversions. All codes are present because older JDBC drivers fail on a
missing one. A limit of 0 means that there is none or that it is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Int32:
    """A value of the member `int32_bitmask`."""

    value: int


@dataclass(frozen=True, slots=True)
class Bigint:
    """A value of the member `bigint_value`."""

    value: int


SqlInfoValue: TypeAlias = str | bool | Bigint | Int32 | tuple[str, ...] | Mapping[int, tuple[int, ...]]

_NO_LIMIT = Bigint(0)
_CASE_INSENSITIVE = Int32(1)
_NULLS_SORTED_AT_END = Int32(3)
_FORWARD_ONLY = Int32(1 << 1)
_READ_ONLY = Int32(1 << 1)
_NOT_SUPPORTED = Int32(0)

# enum SqlSupportsConvert
_NUMBERS = (0, 2, 5, 6, 7, 12, 13, 14, 17)
_TEXTS = (3, 11, 19)
_BINARIES = (1, 10, 18)
_INTERVALS = (8, 9)
_DATE, _TIME, _TIMESTAMP = 4, 15, 16


def _conversions() -> dict[int, tuple[int, ...]]:
    everything = tuple(range(20))
    targets: dict[int, tuple[int, ...]] = dict.fromkeys(_TEXTS, everything)
    targets |= dict.fromkeys(_NUMBERS, _NUMBERS + _TEXTS)
    targets |= dict.fromkeys(_BINARIES, _BINARIES + _TEXTS)
    targets |= dict.fromkeys(_INTERVALS, _INTERVALS + _TEXTS)
    targets[_DATE] = (_DATE, _TIMESTAMP, *_TEXTS)
    targets[_TIME] = (_TIME, *_TEXTS)
    targets[_TIMESTAMP] = (_DATE, _TIME, _TIMESTAMP, *_TEXTS)
    return {source: tuple(sorted(found)) for source, found in sorted(targets.items())}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NUMERIC_FUNCTIONS = _words(
    "abs acos asin atan atan2 ceiling cos cot degrees exp floor ln log log10 mod pi pow radians random "
    "round sign sin sqrt tan trunc"
)
STRING_FUNCTIONS = _words(
    "ascii bit_length chr concat contains instr lcase left length lower lpad ltrim md5 printf replace "
    "regexp_replace repeat reverse right rpad rtrim split strlen substring translate trim ucase upper"
)
SYSTEM_FUNCTIONS = _words("current_database current_schema version")
DATETIME_FUNCTIONS = _words(
    "age date_diff date_part date_trunc day dayname dayofmonth dayofweek dayofyear hour last_day minute "
    "month monthname now quarter second strftime strptime today week year"
)

_SERVER: Mapping[int, SqlInfoValue] = {
    0: "flight-server",
    1: f"duckdb v{version('duckdb')}",  # DuckDB's family of clients refuses anything but `duckdb …`
    2: version("pyarrow"),
    3: False,  # read only
    4: True,  # SQL
    5: False,  # Substrait
    6: "",
    7: "",
    8: Int32(1),  # transactions, no savepoints
    9: True,  # cancel
    10: True,  # bulk ingestion
    11: True,  # ... in transactions
    100: Int32(0),
    101: Int32(0),
}

_SYNTAX: Mapping[int, SqlInfoValue] = {
    500: False,  # CREATE CATALOG
    501: False,  # CREATE SCHEMA
    502: False,  # CREATE TABLE: bulk ingest creates tables
    503: _CASE_INSENSITIVE,
    504: '"',
    505: _CASE_INSENSITIVE,
    506: True,
    507: _NULLS_SORTED_AT_END,
    508: (),
    509: NUMERIC_FUNCTIONS,
    510: STRING_FUNCTIONS,
    511: SYSTEM_FUNCTIONS,
    512: DATETIME_FUNCTIONS,
    513: "\\",
    514: "",
    515: True,  # column aliases
    516: True,  # NULL + x is NULL
    517: _conversions(),
    518: True,
    519: False,
    520: True,
    521: True,
    522: Int32(0b11),  # GROUP BY
    523: True,
    524: True,
    525: Int32(0b111),  # minimum, core and extended grammar
    526: Int32(0b1),  # ANSI 92 entry level
    527: False,
    528: Int32(2),  # full outer joins
    529: "schema",
    530: "procedure",
    531: "catalog",
    532: True,
    533: _NOT_SUPPORTED,  # schemas in calls, index and privilege definitions
    534: _NOT_SUPPORTED,  # catalogs there
    535: _NOT_SUPPORTED,
    536: False,
    537: False,
    538: Int32(0b1111),  # subqueries of every kind
    539: True,
    540: Int32(0b11),  # UNION, UNION ALL
}

_LIMITS: Mapping[int, SqlInfoValue] = dict.fromkeys(range(541, 562), _NO_LIMIT) | {556: False}

_BEHAVIOUR: Mapping[int, SqlInfoValue] = {
    # REPEATABLE_READ is the strongest named level that snapshots give; JDBC reads it as a bigint
    562: Bigint(3),
    563: True,
    564: Int32(1 << 3),
    565: False,  # DDL commits
    566: False,  # DDL is ignored in transactions
    567: _FORWARD_ONLY,
    568: _READ_ONLY,
    569: _READ_ONLY,
    570: _NOT_SUPPORTED,
    571: _NOT_SUPPORTED,
    572: False,  # batch updates
    573: False,  # savepoints
    574: False,  # named parameters
    575: False,
    576: False,
}

SQL_INFO: Mapping[int, SqlInfoValue] = {**_SERVER, **_SYNTAX, **_LIMITS, **_BEHAVIOUR}
"""Every code of the enum; codes of our own would break JDBC when all are asked for."""
