"""What the server says about itself: SqlInfo code → value, as plain tables.

Source: enum SqlInfo of FlightSql.proto. The Python type of a value chooses its union member:
str, bool, `Bigint`, `Int32` (plain numbers and bitmasks; bit n stands for enum value n), a tuple of
names, or a mapping of conversions. All codes are present because older JDBC drivers fail on a
missing one. A limit of 0 means that there is none of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeAlias

from flight_server.domain import pattern
from flight_server.domain.bucket import MAX_NAME_LENGTH as MAX_BUCKET_NAME_LENGTH
from flight_server.domain.columns import MAX_COLUMNS
from flight_server.frames.requests import EngineFacts
from flight_server.services.handles import LONGEST_SECONDS
from flight_server.services.resolution import MAX_NAME_LENGTH


@dataclass(frozen=True, slots=True)
class Int32:
    """A value of the member `int32_bitmask`."""

    value: int


@dataclass(frozen=True, slots=True)
class Bigint:
    """A value of the member `bigint_value`."""

    value: int


SqlInfoValue: TypeAlias = str | bool | Bigint | Int32 | tuple[str, ...] | Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the configuration says: seconds, bytes and counts, as in the settings."""

    is_read_only: bool
    session_idle: float
    statement_bytes: int
    sessions: int


_MAX_INT32 = 2**31 - 1

_NO_LIMIT = Bigint(0)
_NONE = Int32(0)
_CASE_INSENSITIVE = Int32(1)
_NULLS_SORTED_AT_END = Int32(3)
_FORWARD_ONLY = Int32(1 << 1)
_READ_ONLY = Int32(1 << 1)


def _milliseconds(seconds: float) -> Int32:
    return Int32(min(int(seconds * 1000), _MAX_INT32))


def _server(facts: ServerFacts) -> Mapping[int, SqlInfoValue]:
    return {
        0: "flight-server",
        1: f"duckdb v{version('duckdb')}",  # DuckDB's family of clients refuses anything but `duckdb …`
        2: version("pyarrow"),
        3: facts.is_read_only,
        4: True,  # SQL
        5: False,  # Substrait
        6: "",
        7: "",
        8: Int32(1),  # transactions, no savepoints
        9: True,  # cancel
        10: True,  # bulk ingestion
        11: True,  # ... in transactions
        100: _milliseconds(LONGEST_SECONDS),  # of handles of prepared statements
        101: _milliseconds(facts.session_idle),  # a transaction ends with its session
    }


_SYNTAX: Mapping[int, SqlInfoValue] = {
    500: False,  # CREATE and DROP of catalogs
    501: True,  # ... of schemas
    502: True,  # ... of tables
    503: _CASE_INSENSITIVE,
    504: '"',
    505: _CASE_INSENSITIVE,
    506: True,  # whoever sees a table may select from it
    507: _NULLS_SORTED_AT_END,
    513: pattern.ESCAPE,
    514: "$",  # in names without quotes, beside letters, digits and _
    515: True,  # column aliases
    516: True,  # NULL + x is NULL
    518: True,  # table aliases
    519: False,  # ... which may be the name of the table
    520: True,  # ORDER BY an expression
    521: True,  # ORDER BY what is not selected
    522: Int32(0b11),  # GROUP BY what is not selected, and more than that
    523: True,  # LIKE … ESCAPE
    524: True,  # NOT NULL
    525: Int32(0b111),  # minimum, core and extended grammar
    526: Int32(0b1),  # ANSI 92 entry level: the higher ones ask for cursors and domains
    527: False,  # foreign keys are recorded and not enforced
    528: Int32(2),  # full outer joins
    529: "schema",
    530: "procedure",  # there are none
    531: "catalog",
    532: True,  # catalog.schema.table
    533: _NONE,  # schemas in calls, index and privilege definitions, none of which there is
    534: _NONE,  # catalogs there
    535: _NONE,  # UPDATE and DELETE at a cursor
    536: False,  # SELECT FOR UPDATE
    537: False,  # stored procedures
    538: Int32(0b1111),  # subqueries in comparisons, EXISTS, IN, ANY and ALL
    539: True,  # correlated subqueries
    540: Int32(0b11),  # UNION, UNION ALL
}


def _engine(facts: EngineFacts) -> Mapping[int, SqlInfoValue]:
    return {
        508: facts.keywords,
        509: facts.numeric_functions,
        510: facts.string_functions,
        511: facts.system_functions,
        512: facts.datetime_functions,
        517: facts.conversions,
    }


ENGINE_CODES = frozenset({508, 509, 510, 511, 512, 517})
"""The codes whose values an engine process has to be asked for."""


def _limits(facts: ServerFacts) -> Mapping[int, SqlInfoValue]:
    """Return the limits: DuckDB has none of its own on literals, names, columns of a query or rows."""
    return {
        **dict.fromkeys(range(541, 562), _NO_LIMIT),
        548: Bigint(MAX_COLUMNS),  # in a table
        549: Bigint(facts.sessions),  # connections
        552: Bigint(MAX_BUCKET_NAME_LENGTH),  # of a schema
        556: False,  # whether the limit on rows, which there is not, includes blobs
        557: Bigint(facts.statement_bytes),
        559: Bigint(MAX_NAME_LENGTH),  # of a table
    }


_BEHAVIOUR: Mapping[int, SqlInfoValue] = {
    # REPEATABLE_READ is the strongest named level that snapshots give; JDBC reads it as a bigint
    562: Bigint(3),
    563: True,  # transactions
    564: Int32(1 << 3),
    565: False,  # DDL commits
    566: False,  # DDL is ignored in transactions
    567: _FORWARD_ONLY,
    568: _READ_ONLY,
    569: _READ_ONLY,
    570: _NONE,
    571: _NONE,
    572: True,  # batch updates: several rows of parameters
    573: False,  # savepoints
    574: True,  # named parameters
    575: False,  # locators, of which there are none, change a copy
    576: False,  # stored functions by CALL
}

CODES = frozenset({*range(12), 100, 101, *range(500, 577)})
"""Every code of the enum; codes of our own would break JDBC when all are asked for."""

YOUNGER_CODES = frozenset({10, 11})
"""Codes that the enum did not have from the beginning."""


def sql_info(server: ServerFacts, engine: EngineFacts | None) -> Mapping[int, SqlInfoValue]:
    """Return the values of all codes, without an engine process's facts those that need none."""
    asked = _engine(engine) if engine else {}
    return {**_server(server), **_SYNTAX, **asked, **_limits(server), **_BEHAVIOUR}
