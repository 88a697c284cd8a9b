"""SHOW and PRAGMA statements that stand for a query, and the text of that query."""

from collections.abc import Callable, Mapping
from typing import Any

from flight_server.domain.session import DUCKDB_SETTINGS, SHOWN_OPTIONS
from flight_server.engine import quote
from flight_server.engine.tokens import Reader
from flight_server.errors import UnimplementedError

_SESSION = {
    "catalog": "current_database()",
    "schema": "current_schema()",
    "search_path": "array_to_string(current_schemas(true), ',')",
    **{name: f"session_option({quote.text(name)})" for name in SHOWN_OPTIONS},
}
"""What SHOW tells of a session beside DuckDB's settings → the expression that gives it."""

_TABLES_OF = """
SELECT table_name AS name FROM information_schema.tables WHERE CASE
    WHEN EXISTS (FROM information_schema.schemata s WHERE lower(s.schema_name) = lower({schema}))
    THEN lower(table_schema) = lower({schema})
    ELSE error('no schema ' || {schema} || '; SHOW SCHEMAS lists those there are') END
ORDER BY name
"""

_TABLE_INFO = """
SELECT CAST(row_number() OVER () - 1 AS INTEGER) AS cid, column_name AS name, column_type AS type,
    "null" = 'NO' AS "notnull", "default" AS dflt_value, "key" IS NOT DISTINCT FROM 'PRI' AS pk
FROM (DESCRIBE {table}
)
"""


def stands_for(tree: Mapping[str, Any]) -> str | None:
    """Return the query that a SHOW stands for, given what the parse made of a text; None for all others."""
    if tree["error"] or len(tree["statements"]) != 1:
        return None
    source = tree["statements"][0]["node"].get("from_table") or {}
    if source.get("show_type") not in _SHOWS or is_described(source):
        return None
    return _SHOWS[source["show_type"]](source)


def is_described(source: Mapping[str, Any]) -> bool:
    """Tell whether a SHOW is DuckDB's other word for DESCRIBE (`SHOW TABLE t`, `SHOW SELECT 1`)."""
    return source["show_type"] == "SHOW" and not source["qualified_name"]["path"]


def _show(source: Mapping[str, Any]) -> str | None:
    path = source["qualified_name"]["path"]
    name = path[-1].lower()
    if len(path) == 1 and name in DUCKDB_SETTINGS:
        return None
    if len(path) == 1 and name in _SESSION:
        return f"SELECT {_SESSION[name]} AS {quote.identifier(name)}"
    return f"DESCRIBE {quote.path(path)}"


def _show_from(source: Mapping[str, Any]) -> str:
    schema = [part for part in source["qualified_name"]["path"] if part][-1]
    return _TABLES_OF.format(schema=quote.text(schema))


_SHOWS: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {"SHOW": _show, "SHOW_FROM": _show_from}


def pragma_query(reader: Reader) -> str:
    """Return the query that a PRAGMA stands for. Raises UnimplementedError when it stands for none."""
    reader.take("PRAGMA")
    name = reader.name()[-1].lower()
    if name in _PRAGMAS and reader.token is None:
        return _PRAGMAS[name]
    if name in _PRAGMAS_OF_TABLES and reader.token is not None and reader.token.text == "(":
        written = Reader(reader.brackets())
        table = quote.path(
            Reader(written.tokens[0].value).name() if len(written.tokens) == 1 else written.name()
        )
        return _PRAGMAS_OF_TABLES[name].format(table=table)
    raise UnimplementedError(f"PRAGMA {name} is not served; those that are: {', '.join(sorted(_KNOWN))}")


_PRAGMAS: Mapping[str, str] = {
    "collations": "FROM pragma_collations()",
    "database_list": "FROM pragma_database_list",
    "platform": "FROM pragma_platform()",
    "show_databases": "SHOW DATABASES",
    "show_tables": "SHOW TABLES",
    "show_tables_expanded": "SHOW ALL TABLES",
    "version": "FROM pragma_version()",
}

_PRAGMAS_OF_TABLES: Mapping[str, str] = {"show": "DESCRIBE {table}", "table_info": _TABLE_INFO}

_KNOWN = {*_PRAGMAS, *(f"{name}('table')" for name in _PRAGMAS_OF_TABLES)}
