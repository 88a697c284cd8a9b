"""Which functions a client's SQL may call."""

TABLE_FUNCTIONS = frozenset(
    {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "test_all_types", "unnest"}
)
"""The only table functions that are let through."""

REFUSED_FUNCTIONS = frozenset(
    {
        "current_query",
        "current_setting",
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
