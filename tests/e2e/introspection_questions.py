"""What clients ask SQL about the catalog, in words of our own: ibis, dbt, SQLAlchemy, Superset, DBeaver.

Each question has a name, the SQL, and the rows that answer it on the server of `test_introspection`.
"""

from typing import Any

TYPES = ["BIGINT", "VARCHAR", "FLOAT[2]", "TIMESTAMP WITH TIME ZONE", "DECIMAL(9,2)"]
"""Types of the columns of `people` and `notes`: id, name, vector, at, price."""

_NAMES = ["id", "name", "vector", "at", "price"]
_DESCRIBED = [(name, kind, "YES", None, None, None) for name, kind in zip(_NAMES, TYPES, strict=True)]
_INFO = [(at, *column, False, None, False) for at, column in enumerate(zip(_NAMES, TYPES, strict=True))]

QUESTIONS: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    (
        "database",
        "SELECT current_database()",
        [("lakehouse",)],
    ),
    (
        "schema",
        "SELECT current_schema()",
        [("primary",)],
    ),
    (
        "catalogs",
        "SELECT DISTINCT catalog_name FROM information_schema.schemata",
        [("lakehouse",)],
    ),
    (
        "tables",
        """
        SELECT DISTINCT table_name FROM information_schema.tables WHERE table_catalog IN
        ('lakehouse', 'temp') AND table_schema = 'profile:user'
        """,
        [("notes",)],
    ),
    (
        "extensions",
        """
        SELECT unnest(list_intersect(list_append(aliases, extension_name), ['icu', 'parquet'])) AS
        e, installed, loaded FROM duckdb_extensions() ORDER BY 1
        """,
        [("icu", True, True), ("parquet", True, True)],
    ),
    (
        "schema of a table",
        'DESCRIBE "lakehouse"."testing"."people"',
        _DESCRIBED,
    ),
    (
        "schema of a query",
        "DESCRIBE SELECT * FROM testing.people",
        _DESCRIBED,
    ),
    (
        "kind of database",
        "SELECT type FROM duckdb_databases() WHERE lower(database_name) = 'lakehouse'",
        [("duckdb",)],
    ),
    (
        "schemas",
        """
        SELECT schema_name FROM system.information_schema.schemata WHERE lower(catalog_name) =
        'lakehouse' ORDER BY 1
        """,
        [("primary",), ("profile:user",), ("sys",), ("testing",)],
    ),
    (
        "relations",
        """
        SELECT table_name, CASE table_type WHEN 'BASE TABLE' THEN 'table' WHEN 'VIEW' THEN 'view'
        END FROM system.information_schema.tables WHERE lower(table_schema) = 'testing' AND
        lower(table_catalog) = 'lakehouse'
        """,
        [("people", "table")],
    ),
    (
        "columns",
        """
        SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale
        FROM system.information_schema.columns WHERE table_name = 'people' AND lower(table_schema) =
        'testing' AND numeric_scale IS NOT NULL ORDER BY ordinal_position
        """,
        [("id", "BIGINT", None, 64, 0), ("price", "DECIMAL(9,2)", None, 9, 2)],
    ),
    (
        "columns of a relation",
        'SELECT column_type FROM (DESCRIBE "lakehouse"."testing"."people")',
        [(kind,) for kind in TYPES],
    ),
    (
        "catalog",
        """
        WITH tables AS (SELECT * FROM (SELECT t.database_name AS d, t.schema_name AS s, t.table_name
        AS n, 'BASE TABLE' AS k, t.comment AS c FROM duckdb_tables() t UNION ALL SELECT
        v.database_name, v.schema_name, v.view_name, 'VIEW', v.comment FROM duckdb_views() v) x
        WHERE upper(s) = 'TESTING'), columns AS (SELECT c.database_name AS d, c.schema_name AS s,
        c.table_name AS n, c.column_name, c.column_index, c.data_type FROM duckdb_columns() c)
        SELECT k, column_name, data_type FROM tables JOIN columns USING (d, s, n) ORDER BY
        column_index LIMIT 2
        """,
        [("BASE TABLE", "id", "BIGINT"), ("BASE TABLE", "name", "VARCHAR")],
    ),
    (
        "indexes",
        "SELECT index_name FROM duckdb_indexes() WHERE table_name = 'people'",
        [],
    ),
    (
        "schema names",
        """
        SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_catalog =
        current_catalog() ORDER BY 1
        """,
        [("primary",), ("profile:user",), ("sys",), ("testing",)],
    ),
    (
        "keys",
        """
        SELECT constraint_name, unnest(constraint_column_names), referenced_table FROM
        duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' AND table_name = 'people'
        """,
        [],
    ),
    (
        "table by its oid",
        """
        SELECT o.table_name FROM (SELECT table_oid AS oid, table_name, schema_name FROM
        duckdb_tables() UNION ALL BY NAME SELECT view_oid AS oid, view_name AS table_name,
        schema_name FROM duckdb_views()) o JOIN pg_catalog.pg_class c ON c.oid = o.oid WHERE
        o.schema_name = 'testing'
        """,
        [("people",)],
    ),
    (
        "names that are visible",
        """
        SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON
        n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND
        pg_catalog.pg_table_is_visible(c.oid) AND n.nspname <> 'pg_catalog' ORDER BY 1, 2
        """,
        [("primary", "people"), ("profile:user", "notes")],
    ),
    (
        "attributes",
        """
        SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, (SELECT
        pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid =
        a.attrelid AND d.adnum = a.attnum AND a.atthasdef) AS dflt, pgd.description FROM
        pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN
        pg_catalog.pg_attribute a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped LEFT
        JOIN pg_catalog.pg_description pgd ON pgd.objoid = a.attrelid AND pgd.objsubid = a.attnum
        WHERE n.nspname = 'testing' AND c.relname = 'people' ORDER BY a.attnum LIMIT 2
        """,
        [("id", "int8", False, None, None), ("name", "varchar", False, None, None)],
    ),
    (
        "constraints",
        """
        SELECT r.conname, pg_catalog.pg_get_constraintdef(r.oid, true), i.indisunique FROM
        pg_catalog.pg_constraint r LEFT JOIN pg_catalog.pg_index i ON i.indrelid = r.conrelid WHERE
        r.contype IN ('p', 'f')
        """,
        [],
    ),
    (
        "enums",
        """
        SELECT t.typname, e.enumlabel FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid =
        e.enumtypid
        """,
        [],
    ),
    (
        "view",
        "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname = 'buckets'",
        [(None,)],
    ),
    (
        "reserved",
        "SELECT count(*) > 50 FROM duckdb_keywords() WHERE keyword_category = 'reserved'",
        [(True,)],
    ),
    (
        "session",
        "SELECT current_schema, current_schema(), session_user, current_user, user",
        [("primary", "primary", "local", "local", "local")],
    ),
    (
        "search path",
        "SELECT current_schemas(true), current_catalog",
        [(["primary", "testing", "profile:user"], "lakehouse")],
    ),
    (
        "databases",
        "SELECT datname FROM pg_catalog.pg_database",
        [("lakehouse",)],
    ),
    (
        "tables of pg",
        "SELECT schemaname, tablename FROM pg_catalog.pg_tables WHERE tablename = 'notes'",
        [("profile:user", "notes")],
    ),
    (
        "three parts",
        """
        SELECT t.table_name FROM lakehouse.information_schema.tables t WHERE t.table_schema =
        'testing'
        """,
        [("people",)],
    ),
    (
        "own columns",
        """
        SELECT information_schema.tables.table_name FROM information_schema.tables WHERE table_name
        = 'notes'
        """,
        [("notes",)],
    ),
    (
        "size",
        "SELECT estimated_size, column_count, sql FROM duckdb_tables() WHERE table_name = 'notes'",
        [
            (
                2,
                5,
                'CREATE TABLE "profile:user"."notes"("id" BIGINT, "name" VARCHAR, "vector" FLOAT[2], '
                '"at" TIMESTAMP WITH TIME ZONE, "price" DECIMAL(9,2));',
            )
        ],
    ),
    (
        "functions",
        """
        SELECT count(*) FROM duckdb_functions() WHERE function_name IN ('read_parquet', 'getenv',
        'duckdb_secrets')
        """,
        [(0,)],
    ),
    (
        "a name of one's own",
        "WITH duckdb_tables AS (SELECT 7 AS x) FROM duckdb_tables",
        [(7,)],
    ),
    (
        "SHOW TABLES",
        "SHOW TABLES",
        [("people",)],
    ),
    (
        "SHOW TABLES FROM",
        'SHOW TABLES FROM "profile:user"',
        [("notes",)],
    ),
    (
        "SHOW SCHEMAS",
        "SELECT schema_name, current FROM (SHOW SCHEMAS) WHERE current",
        [("primary", True)],
    ),
    (
        "SHOW DATABASES",
        "SHOW DATABASES",
        [("lakehouse",)],
    ),
    (
        "SHOW ALL TABLES",
        "SELECT schema, name, column_types FROM (SHOW ALL TABLES) WHERE name = 'notes'",
        [("profile:user", "notes", TYPES)],
    ),
    (
        "DESCRIBE",
        "SELECT name FROM (DESCRIBE) WHERE schema = 'testing'",
        [("people",)],
    ),
    (
        "SHOW table",
        "SHOW testing.people",
        _DESCRIBED,
    ),
    (
        "SHOW TABLE",
        "SHOW TABLE testing.people",
        _DESCRIBED,
    ),
    (
        "SHOW of a query",
        "FROM (SHOW FROM testing.people)",
        _DESCRIBED,
    ),
    (
        "SHOW schema",
        "SHOW schema",
        [("primary",)],
    ),
    (
        "SHOW search_path",
        "SHOW search_path",
        [("primary,testing,profile:user",)],
    ),
    (
        "SHOW VARIABLES",
        "SHOW VARIABLES",
        [],
    ),
    (
        "SUMMARIZE",
        "SELECT column_name, min, max FROM (SUMMARIZE testing.people) LIMIT 1",
        [("id", "1", "2")],
    ),
    (
        "table_info",
        "PRAGMA table_info('people')",
        _INFO,
    ),
    (
        "table_info of",
        'PRAGMA table_info("testing.people");',
        _INFO,
    ),
    (
        "pragma_table_info",
        "FROM pragma_table_info('testing.people')",
        _INFO,
    ),
    (
        "show_tables",
        "PRAGMA show_tables",
        [("people",)],
    ),
    (
        "database_list",
        "SELECT name, file FROM pragma_database_list",
        [("lakehouse", None)],
    ),
]
