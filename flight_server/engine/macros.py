"""Macros that stand before DuckDB's own metadata functions and tell clients what is theirs.

DuckDB finds the functions inside `information_schema`, `pg_catalog`, SHOW and its other views through the
search path, where `lakehouse.main` comes first: so these answer for all of them. What they tell comes from
tables that `introspection` registers on a statement's own cursor; nothing of a caller stays in the instance.
"""

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

# ruff: noqa: S608 - all that these texts are made of is constant
from flight_server.domain.dataset import CATALOG
from flight_server.domain.session import DUCKDB_SETTINGS
from flight_server.engine.functions import REFUSED_FUNCTIONS, TABLE_FUNCTIONS

SESSION = "_session"
NAMESPACES = "_namespaces"
RELATIONS = "_relations"
COLUMNS = "_columns"
TYPES = "_types"
CONSTRAINTS = "_constraints"
EXTENSIONS = "_v._extensions"


def _schema(columns: Mapping[str, Any]) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


SCHEMAS: Mapping[str, pa.Schema] = {
    SESSION: _schema(
        {"principal": pa.utf8(), "current_schema": pa.utf8(), "search_path": pa.list_(pa.utf8())}
        | {"options": pa.map_(pa.utf8(), pa.utf8())}
    ),
    NAMESPACES: _schema({"database_name": pa.utf8(), "schema_name": pa.utf8()}),
    RELATIONS: _schema(
        {
            "database_name": pa.utf8(),
            "schema_name": pa.utf8(),
            "name": pa.utf8(),
            "id": pa.utf8(),
            "is_view": pa.bool_(),
            "is_visible": pa.bool_(),
            "comment": pa.utf8(),
            "rows": pa.int64(),
            "shape": pa.int64(),
            "column_count": pa.int64(),
            "definition": pa.utf8(),
            "has_primary_key": pa.bool_(),
            "check_count": pa.int64(),
        }
    ),
    COLUMNS: _schema(
        {
            "shape": pa.int64(),
            "column_index": pa.int32(),
            "column_name": pa.utf8(),
            "type": pa.int64(),
            "column_default": pa.utf8(),
            "is_nullable": pa.bool_(),
            "comment": pa.utf8(),
            "is_key": pa.bool_(),
        }
    ),
    CONSTRAINTS: _schema(
        {
            "shape": pa.int64(),
            "constraint_index": pa.int64(),
            "constraint_type": pa.utf8(),
            "constraint_text": pa.utf8(),
            "expression": pa.utf8(),
            "constraint_column_indexes": pa.list_(pa.int64()),
            "constraint_column_names": pa.list_(pa.utf8()),
            "constraint_name": pa.utf8(),
            "referenced_table": pa.utf8(),
            "referenced_column_names": pa.list_(pa.utf8()),
        }
    ),
    TYPES: _schema(
        {
            "type": pa.int64(),
            "data_type": pa.utf8(),
            "data_type_id": pa.int64(),
            "numeric_precision": pa.int32(),
            "numeric_precision_radix": pa.int32(),
            "numeric_scale": pa.int32(),
        }
    ),
}
"""The tables behind the macros; a `shape` is a list of columns, shared by the relations that have it.

`id` is what a relation's OID is made from; `is_visible` is whether its bare name means it.
"""

_TAGS = "MAP{}::MAP(VARCHAR, VARCHAR)"


def _oid(*parts: str) -> str:
    """Return the expression of an OID: always the same, and small enough for pg_constraint's sums."""
    return f"(hash({', '.join(parts)}) >> 22)::BIGINT"


_PLACE = (
    "r.database_name, {database} AS database_oid, r.schema_name, {schema} AS schema_oid, "
    "r.name AS {kind}_name, {relation} AS {kind}_oid"
)


def _place(kind: str) -> str:
    return _PLACE.format(
        kind=kind,
        database=_oid("r.database_name"),
        schema=_oid("r.database_name", "r.schema_name"),
        relation=_oid("r.id"),
    )


def _nothing(function: str) -> str:
    return f"SELECT * FROM system.main.{function}() WHERE false"


_SETTINGS = frozenset(DUCKDB_SETTINGS)


def _among(column: str, names: frozenset[str]) -> str:
    return f"{column} IN ({', '.join(repr(name) for name in sorted(names))})"


_RELATION_COLUMNS = f"""
    SELECT r.database_name, r.schema_name, r.name, r.is_visible, r.id, c.*, t.*
    FROM temp.main.{RELATIONS} r
    JOIN temp.main.{COLUMNS} c USING (shape)
    JOIN temp.main.{TYPES} t USING (type)
"""

_WRITTEN = "replace(lower(wanted), '\"', '')"

_TABLE_MACROS: Mapping[str, str] = {
    "duckdb_databases()": f"""
        SELECT * REPLACE ({_oid("database_name")} AS database_oid, NULL::VARCHAR AS path)
        FROM system.main.duckdb_databases()
        WHERE database_name IN (SELECT n.database_name FROM temp.main.{NAMESPACES} n)""",
    "duckdb_schemas()": f"""
        SELECT {_oid("database_name", "schema_name")} AS oid, database_name,
            {_oid("database_name")} AS database_oid, schema_name, NULL::VARCHAR AS comment, {_TAGS} AS tags,
            database_name <> '{CATALOG}' AS internal, NULL::VARCHAR AS sql, NULL::VARCHAR AS parent_schema,
            NULL::BIGINT AS parent_schema_oid
        FROM temp.main.{NAMESPACES}""",
    "duckdb_tables()": f"""
        SELECT {_place("table")}, r.comment, {_TAGS} AS tags, false AS internal,
            r.database_name = 'temp' AS temporary,
            r.has_primary_key, r.rows AS estimated_size, r.column_count, 0::BIGINT AS index_count,
            r.check_count AS check_constraint_count, r.definition AS sql
        FROM temp.main.{RELATIONS} r WHERE NOT r.is_view""",
    "duckdb_constraints()": f"""
        SELECT {_place("table")}, k.* EXCLUDE (shape)
        FROM temp.main.{RELATIONS} r JOIN temp.main.{CONSTRAINTS} k USING (shape)""",
    "duckdb_views()": f"""
        SELECT {_place("view")}, r.comment, {_TAGS} AS tags, false AS internal,
            r.database_name = 'temp' AS temporary, r.column_count, r.definition AS sql,
            r.column_count IS NOT NULL AS is_bound
        FROM temp.main.{RELATIONS} r WHERE r.is_view""",
    "duckdb_columns()": f"""
        SELECT {_place("table")}, r.column_name, r.column_index, r.comment,
            false AS internal, r.column_default, r.is_nullable, r.data_type, r.data_type_id,
            NULL::INTEGER AS character_maximum_length, r.numeric_precision, r.numeric_precision_radix,
            r.numeric_scale, {_TAGS} AS tags, false AS is_generated,
            NULL::VARCHAR AS generation_expression
        FROM ({_RELATION_COLUMNS}) r""",
    "pragma_table_info(wanted)": f"""
        SELECT column_index - 1 AS cid, column_name AS name, data_type AS type,
            NOT is_nullable AS "notnull", column_default AS dflt_value, is_key AS pk
        FROM ({_RELATION_COLUMNS})
        WHERE (is_visible AND lower(name) = {_WRITTEN})
            OR lower(schema_name || '.' || name) = {_WRITTEN}
            OR lower(database_name || '.' || schema_name || '.' || name) = {_WRITTEN}
        ORDER BY column_index""",
    "duckdb_settings()": f"""
        SELECT * FROM system.main.duckdb_settings() WHERE {_among("lower(name)", _SETTINGS)}""",
    "duckdb_types()": f"""
        SELECT * REPLACE ('system' AS database_name, 'pg_catalog' AS schema_name,
            {_oid("'system'", "'pg_catalog'")} AS schema_oid)
        FROM system.main.duckdb_types() WHERE internal""",
    "duckdb_functions()": f"""
        SELECT * FROM system.main.duckdb_functions()
        WHERE database_name = 'system' AND function_type <> 'pragma'
            AND NOT {_among("function_name", REFUSED_FUNCTIONS)}
            AND (function_type NOT LIKE 'table%' OR {_among("function_name", TABLE_FUNCTIONS)})""",
    "duckdb_extensions()": f"FROM {CATALOG}.{EXTENSIONS}",
    **{
        f"{function}()": _nothing(function)
        for function in (
            "duckdb_dependencies",
            "duckdb_indexes",
            "duckdb_prepared_statements",
            "duckdb_sequences",
        )
    },
}

_MACROS: Mapping[str, str] = {
    **{
        f"{name}()": f"(SELECT principal FROM temp.main.{SESSION})"
        for name in ("current_role", "current_user", "session_user", "user")
    },
    "current_schema()": f"(SELECT s.current_schema FROM temp.main.{SESSION} s)",
    "current_schemas(include_implicit)": f"(SELECT s.search_path FROM temp.main.{SESSION} s)",
    "session_option(name)": f"(SELECT s.options[name] FROM temp.main.{SESSION} s)",
    "in_search_path(database_name, schema_name)": f"""
        (database_name = 'temp' OR schema_name = (SELECT s.current_schema FROM temp.main.{SESSION} s))""",
    "pg_table_is_visible(relation_oid)": f"""
        relation_oid IN (SELECT {_oid("r.id")} FROM temp.main.{RELATIONS} r WHERE r.is_visible)""",
}


def install(cursor: duckdb.DuckDBPyConnection) -> None:
    """Make the macros in `lakehouse.main`, the schema that comes first wherever a name is looked up."""
    for name, schema in SCHEMAS.items():
        cursor.register(name, schema.empty_table())
    # Asked now: later it may not look into the folder of those that are not built in.
    cursor.execute(
        f"CREATE TABLE {EXTENSIONS} AS SELECT * REPLACE (NULL::VARCHAR AS install_path) "
        "FROM system.main.duckdb_extensions() WHERE loaded"
    )
    for signature, body in _TABLE_MACROS.items():
        cursor.execute(f"CREATE MACRO {signature} AS TABLE {body}")
    for signature, body in _MACROS.items():
        cursor.execute(f"CREATE MACRO {signature} AS {body}")
    for name in SCHEMAS:
        cursor.unregister(name)
