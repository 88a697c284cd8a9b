"""What DuckDB says about itself for CommandGetSqlInfo: its keywords, functions and casts."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from flight_server.domain.sql_types import SQL_TYPES
from flight_server.engine.functions import REFUSED_FUNCTIONS
from flight_server.frames.requests import EngineFacts

_NAME = "[a-z][a-z0-9_]*"

_STRING_CATEGORIES = frozenset({"string", "regex", "text_similarity"})
"""DuckDB's own words for its functions on texts; numbers, dates and times have none."""

_NUMBERS = frozenset(name for name, kind in SQL_TYPES.items() if kind.is_unsigned is not None)
_TIMES = frozenset(
    [name for name, kind in SQL_TYPES.items() if kind.datetime_subcode is not None] + ["INTERVAL"]
)

_CONVERTED: Mapping[str, tuple[tuple[int, ...], str]] = {
    "BIGINT": ((0,), "1"),
    "BLOB": ((1, 10, 18), "'1'"),
    "BOOLEAN": ((2,), "true"),
    "VARCHAR": ((3, 11, 19), "'1'"),
    "DATE": ((4,), "'2000-01-01'"),
    "DECIMAL": ((5, 12), "1"),
    "DOUBLE": ((6,), "1"),
    "INTEGER": ((7,), "1"),
    # One type for both kinds of interval.
    "INTERVAL": ((8, 9), "'1 day'"),
    "FLOAT": ((13,), "1"),
    "SMALLINT": ((14,), "1"),
    "TIME": ((15,), "'00:00'"),
    "TIMESTAMP": ((16,), "'2000-01-01'"),
    "TINYINT": ((17,), "1"),
}
"""Type → the numbers it has in the enum SqlSupportsConvert, and a literal that can be cast to it."""

_NO_CAST = "Unimplemented type for cast"


@dataclass(frozen=True, slots=True)
class _Overload:
    """One signature of a function; macros have no type that they return."""

    parameters: Sequence[str]
    returned: str | None
    categories: Sequence[str]

    @property
    def is_temporal(self) -> bool:
        """Whether dates or times go in or come out."""
        return not _TIMES.isdisjoint([*self.parameters, self.returned])

    @property
    def is_numeric(self) -> bool:
        """Whether numbers go in and a number comes out, or nothing and a fraction (as with pi)."""
        is_fraction = self.returned == "DOUBLE"
        return _NUMBERS.issuperset([*self.parameters, self.returned]) and bool(self.parameters or is_fraction)

    @property
    def is_string(self) -> bool:
        """Whether DuckDB counts it among its functions on texts."""
        return not _STRING_CATEGORIES.isdisjoint(self.categories)

    @property
    def is_about_the_system(self) -> bool:
        """Whether nothing goes in and a name or an id comes out."""
        return not self.parameters and self.returned in (None, "VARCHAR", "UBIGINT")


_Overloads = Mapping[str, Sequence[_Overload]]


def describe(cursor: duckdb.DuckDBPyConnection) -> EngineFacts:
    """Ask DuckDB for its facts; takes some tenths of a second."""
    keywords = cursor.execute("SELECT DISTINCT keyword_name FROM duckdb_keywords() ORDER BY 1").fetchall()
    overloads = _overloads(cursor)
    return EngineFacts(
        keywords=tuple(word for (word,) in keywords),
        numeric_functions=_named(overloads, lambda found: all(one.is_numeric for one in found)),
        string_functions=_named(overloads, lambda found: any(one.is_string for one in found)),
        system_functions=_named(overloads, lambda found: all(one.is_about_the_system for one in found)),
        datetime_functions=_named(overloads, lambda found: all(one.is_temporal for one in found)),
        conversions=_conversions(cursor),
    )


def _overloads(cursor: duckdb.DuckDBPyConnection) -> _Overloads:
    """Return the functions of rows that clients may call, operators left out."""
    rows = cursor.execute(
        "SELECT function_name, parameter_types, return_type, categories FROM duckdb_functions() "
        "WHERE function_type IN ('scalar', 'macro') AND database_name = 'system' AND schema_name = 'main' "
        "AND regexp_full_match(function_name, $1) ORDER BY function_name",
        [_NAME],
    ).fetchall()
    found: dict[str, list[_Overload]] = defaultdict(list)
    for name, parameters, returned, categories in rows:
        if name not in REFUSED_FUNCTIONS:
            found[name].append(_Overload(parameters, returned, categories))
    return found


def _named(overloads: _Overloads, is_wanted: Callable[[Sequence[_Overload]], bool]) -> tuple[str, ...]:
    return tuple(name for name, found in overloads.items() if is_wanted(found))


def _conversions(cursor: duckdb.DuckDBPyConnection) -> dict[int, tuple[int, ...]]:
    """Return which types can be cast to which, by trying it with one value of each."""
    found: dict[int, tuple[int, ...]] = {}
    for source, (numbers, literal) in _CONVERTED.items():
        targets = [target for target in _CONVERTED if _can_cast(cursor, f"{literal}::{source}", target)]
        reached = sorted(number for target in targets for number in _CONVERTED[target][0])
        found.update(dict.fromkeys(numbers, tuple(reached)))
    return dict(sorted(found.items()))


def _can_cast(cursor: duckdb.DuckDBPyConnection, value: str, target: str) -> bool:
    """Tell whether there is a cast; one that only fails for this very value counts."""
    try:
        cursor.execute(f"SELECT CAST({value} AS {target})").fetchall()
    except duckdb.Error as error:
        return _NO_CAST not in str(error)
    return True
