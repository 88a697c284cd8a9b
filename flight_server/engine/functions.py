"""Which functions and views of DuckDB a client's SQL may use, and what of the catalog they show."""

from collections.abc import Mapping, Sequence
from enum import IntEnum

from flight_server.errors import NotFoundError


class Need(IntEnum):
    """How much a statement must be told about what there is; each level holds those before it."""

    NOTHING = 0
    SESSION = 1
    NAMES = 2
    COLUMNS = 3


METADATA_FUNCTIONS: Mapping[str, Need] = {
    "duckdb_columns": Need.COLUMNS,
    "duckdb_constraints": Need.COLUMNS,
    "duckdb_databases": Need.SESSION,
    "duckdb_dependencies": Need.NOTHING,
    "duckdb_extensions": Need.NOTHING,
    "duckdb_functions": Need.NOTHING,
    "duckdb_indexes": Need.NOTHING,
    "duckdb_keywords": Need.NOTHING,
    "duckdb_schemas": Need.SESSION,
    "duckdb_sequences": Need.NOTHING,
    "duckdb_settings": Need.NOTHING,
    "duckdb_tables": Need.COLUMNS,
    "duckdb_types": Need.SESSION,
    "duckdb_variables": Need.NOTHING,
    "duckdb_views": Need.COLUMNS,
    "pg_timezone_names": Need.NOTHING,
    "pragma_collations": Need.NOTHING,
    "pragma_platform": Need.NOTHING,
    "pragma_table_info": Need.COLUMNS,
    "pragma_version": Need.NOTHING,
}
"""Table functions that describe what there is; most are macros of ours (`macros`)."""

SEARCH_FUNCTIONS = ("vector_search", "text_search", "hybrid_search")
"""Table functions of ours that search a dataset; a hidden relation takes their place."""

TABLE_FUNCTIONS = frozenset(
    {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "test_all_types", "unnest"}
) | frozenset(METADATA_FUNCTIONS)
"""The only table functions that are let through."""

SCALAR_NEEDS: Mapping[str, Need] = {
    "current_role": Need.SESSION,
    "current_schema": Need.SESSION,
    "current_schemas": Need.SESSION,
    "current_user": Need.SESSION,
    "in_search_path": Need.SESSION,
    "pg_get_viewdef": Need.COLUMNS,
    "pg_table_is_visible": Need.NAMES,
    "session_option": Need.SESSION,
    "session_user": Need.SESSION,
    "user": Need.SESSION,
}
"""Functions that tell of the session or of what there is; some are called without brackets too."""

SYSTEM_VIEWS: Mapping[str, Mapping[str, Need]] = {
    "information_schema": {
        "character_sets": Need.NOTHING,
        "check_constraints": Need.COLUMNS,
        "columns": Need.COLUMNS,
        "constraint_column_usage": Need.COLUMNS,
        "constraint_table_usage": Need.COLUMNS,
        "key_column_usage": Need.COLUMNS,
        "referential_constraints": Need.COLUMNS,
        "schemata": Need.SESSION,
        "table_constraints": Need.COLUMNS,
        "tables": Need.NAMES,
        "views": Need.COLUMNS,
    },
    "pg_catalog": {
        "pg_am": Need.NOTHING,
        "pg_attrdef": Need.COLUMNS,
        "pg_attribute": Need.COLUMNS,
        "pg_class": Need.COLUMNS,
        "pg_collation": Need.NOTHING,
        "pg_constraint": Need.COLUMNS,
        "pg_database": Need.SESSION,
        "pg_depend": Need.NOTHING,
        "pg_description": Need.COLUMNS,
        "pg_enum": Need.NOTHING,
        "pg_index": Need.NOTHING,
        "pg_indexes": Need.NOTHING,
        "pg_namespace": Need.SESSION,
        "pg_proc": Need.SESSION,
        "pg_sequence": Need.NOTHING,
        "pg_sequences": Need.NOTHING,
        "pg_settings": Need.NOTHING,
        "pg_tables": Need.NAMES,
        "pg_tablespace": Need.NOTHING,
        "pg_type": Need.SESSION,
        "pg_views": Need.COLUMNS,
    },
    "main": {
        "duckdb_columns": Need.COLUMNS,
        "duckdb_constraints": Need.COLUMNS,
        "duckdb_databases": Need.SESSION,
        "duckdb_indexes": Need.NOTHING,
        "duckdb_schemas": Need.SESSION,
        "duckdb_tables": Need.COLUMNS,
        "duckdb_types": Need.SESSION,
        "duckdb_views": Need.COLUMNS,
        "pragma_database_list": Need.SESSION,
        "sqlite_master": Need.COLUMNS,
        "sqlite_schema": Need.COLUMNS,
    },
}
"""Views of DuckDB that clients may read, by schema; those of `main` and `pg_catalog` need no schema."""

SHOWN: Mapping[str, Need] = {
    '"databases"': Need.SESSION,
    '"schemas"': Need.SESSION,
    '"tables"': Need.NAMES,
    '"variables"': Need.NOTHING,
    "__show_tables_expanded": Need.COLUMNS,
}
"""What SHOW shows beside tables and settings, as the parse names it."""


def system_view(path: Sequence[str]) -> Need | None:
    """Return what a view of DuckDB's own must be told, None when the path is none's.

    Raises NotFoundError for other names in its schemas.
    """
    *outer, name = (part.lower() for part in path)
    if not outer:
        return SYSTEM_VIEWS["main"].get(name, SYSTEM_VIEWS["pg_catalog"].get(name))
    views = SYSTEM_VIEWS.get(outer[-1]) if outer[-1] != "main" and outer[:-1] in _CATALOGS else None
    if views is None:
        return None
    if name not in views:
        raise NotFoundError(f"no table {name!r} in {outer[-1]}; there are {', '.join(views)}")
    return views[name]


_CATALOGS: Sequence[Sequence[str]] = ([], ["system"], ["lakehouse"])

REFUSED_FUNCTIONS = frozenset(
    {
        "current_query",
        "currval",
        "getenv",
        "json_deserialize_sql",
        "json_execute_serialized_sql",
        "json_serialize_plan",
        "nextval",
        "pg_sleep",
        "query",
        "query_table",
        "sleep_ms",
        "write_log",
    }
)
"""Scalar functions that show the engine's own state, wait, or write."""

SYSTEM_SCHEMAS = frozenset({"_v", "information_schema", "lakehouse", "main", "pg_catalog", "system", "temp"})
"""Schemas that hold functions; another word before a function's name is a column (method call)."""
