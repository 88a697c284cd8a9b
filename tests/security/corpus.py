"""Hostile statements: for each function, kind of statement and system relation that DuckDB or the server has.

They reach for `vault.ledger`, for canary files, for a listener on loopback and for the environment.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from flight_server.engine.functions import SEARCH_FUNCTIONS, SYSTEM_VIEWS
from flight_server.services.system_tables import SYSTEM_TABLES


@dataclass(frozen=True, slots=True)
class Places:
    """Where the canaries are: files to be read, a file that must not be made, a port nobody calls."""

    files: tuple[Path, ...]
    made: Path
    port: int

    def fill(self, statement: str) -> Iterator[str]:
        """Yield a statement for each file that it may be about."""
        for file in self.files if "{file}" in statement else self.files[:1]:
            filled = statement.replace("{file}", str(file)).replace("{folder}", str(file.parent))
            yield filled.replace("{made}", str(self.made)).replace("{port}", str(self.port))


BY_KIND: Mapping[str, tuple[str, ...]] = {
    "SELECT": (
        "SELECT * FROM vault.ledger",
        "FROM lakehouse.vault.ledger",
        'FROM "VAULT"."Ledger"',
        'FROM "vault.ledger"',
        'FROM vault."ledger@1"',
        "FROM vault.ledger AT (VERSION => 1)",
        "FROM vault.ledger AT (TIMESTAMP => now())",
        "SELECT (SELECT max(note) FROM vault.ledger)",
        "WITH x AS (FROM vault.ledger) FROM x",
        "WITH x AS MATERIALIZED (SELECT 1 AS i UNION ALL SELECT id FROM vault.ledger) FROM x",
        "WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT id FROM vault.ledger, x WHERE id > i) FROM x",
        "FROM shared.people JOIN vault.ledger USING (id)",
        "FROM shared.people WHERE id IN (SELECT amount FROM vault.ledger)",
        "SELECT * FROM shared.people p, LATERAL (SELECT * FROM vault.ledger l WHERE l.id = p.id)",
        "SELECT 1 ORDER BY (SELECT note FROM vault.ledger LIMIT 1)",
        "SELECT count(*) FILTER (id IN (SELECT id FROM vault.ledger)) FROM shared.people",
        "VALUES ((SELECT note FROM vault.ledger LIMIT 1))",
        "TABLE vault.ledger",
        "FROM (PIVOT vault.ledger ON id USING max(note))",
        "PIVOT vault.ledger ON note USING count(*)",
        "UNPIVOT vault.ledger ON note, amount",
        "FROM '{file}'",
        'FROM "{file}"',
        "FROM 'file://{file}'",
        "FROM '{folder}/**'",
        "FROM 'http://127.0.0.1:{port}/a.csv'",
        "FROM 's3://127.0.0.1:{port}/a.parquet'",
        "FROM 'data/canary.csv'",
        'FROM _v."ledger@1"',
        'FROM lakehouse._v."ledger@1"',
        "FROM system.main.duckdb_tables()",
        "FROM system.main.read_csv('{file}')",
        "FROM system.information_schema.tables",
        "FROM temp.information_schema.tables",
        "FROM memory.main.duckdb_tables",
        "SELECT * FROM COLUMNS('note')",
        "SELECT COLUMNS(*) FROM vault.ledger",
        "SELECT getvariable('vault_variable')",
        "FROM lakehouse.main.sqlite_master",
        "/* {# FROM vault.ledger #} */ SELECT 1",
        "SELECT 1 /*/**/ FROM vault.ledger /**/*/",
        "SELECT vault.ledger.note",
        "SELECT 'x' AS \"{# #}\" FROM vault.ledger -- {#",
        "SELECT * FROM vault . ledger",
        "SELECT * FROM U&'vault'.ledger",
        "FROM \x00vault.ledger",
        "FROM vault\u200b.ledger",
        "SELECT (1$)\u200bFROM vault.ledger",
        "FROM \uff56ault.ledger",
        "SELECT current_query(), current_database(), current_schemas(true)",
        "SELECT query FROM sys.queries WHERE principal <> current_user",
        "SELECT * FROM query('FROM vault.ledger')",
        "SELECT * FROM query_table('vault.ledger')",
        'FROM "profile:selfer".docs',
        "SELECT * FROM range((SELECT max(amount) FROM vault.ledger))",
        "SELECT row_number() OVER (ORDER BY (SELECT max(note) FROM vault.ledger))",
        "SELECT list_transform([1], lambda x: (SELECT max(note) FROM vault.ledger))",
        "FROM read_text('/proc/self/environ')",
        "FROM '/proc/self/environ'",
        "FROM read_blob('/proc/self/cmdline')",
        "FROM '/etc/passwd'",
    ),
    "INSERT": (
        "INSERT INTO vault.ledger VALUES (99, 1, 'x', 1)",
        "INSERT INTO shared.people SELECT id, note FROM vault.ledger",
        "INSERT INTO vault.ledger SELECT * FROM vault.ledger RETURNING *",
        "INSERT INTO shared.people VALUES (7, (SELECT max(note) FROM vault.ledger)) RETURNING *",
        "INSERT INTO shared.people SELECT 1, content FROM read_text('{file}')",
        "INSERT INTO sys.buckets VALUES ('x')",
        "WITH x AS (INSERT INTO vault.ledger VALUES (1, 1, 'x', 1) RETURNING *) FROM x",
    ),
    "UPDATE": (
        "UPDATE vault.ledger SET note = 'x' RETURNING *",
        "UPDATE shared.people SET name = (SELECT max(note) FROM vault.ledger) RETURNING *",
        "UPDATE shared.people SET name = l.note FROM vault.ledger l WHERE l.id = people.id RETURNING *",
        "UPDATE sys.sessions SET principal = 'boss'",
    ),
    "DELETE": (
        "DELETE FROM vault.ledger RETURNING *",
        "DELETE FROM shared.people USING vault.ledger l WHERE l.id = people.id RETURNING *, l.note",
        "TRUNCATE vault.ledger",
        'DELETE FROM "profile:selfer".docs WHERE id IN (SELECT id FROM vault.ledger)',
    ),
    "MERGE_INTO": (
        "MERGE INTO vault.ledger t USING (SELECT 1 AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
        "MERGE INTO shared.people t USING vault.ledger s ON t.id = s.id WHEN MATCHED THEN UPDATE SET "
        "name = s.note RETURNING *",
    ),
    "CREATE": (
        "CREATE TABLE vault.mine AS SELECT 1",
        "CREATE OR REPLACE TABLE vault.ledger AS SELECT 1 AS i",
        "CREATE TABLE IF NOT EXISTS vault.ledger (i INTEGER)",
        "CREATE TEMP TABLE mine AS FROM vault.ledger",
        "CREATE TEMP VIEW mine AS FROM vault.ledger",
        "CREATE VIEW shared.mine AS FROM vault.ledger",
        "CREATE TABLE shared.mine (id BIGINT REFERENCES vault.ledger (id))",
        "CREATE TABLE shared.mine (id BIGINT CHECK (id < (SELECT max(amount) FROM vault.ledger)))",
        "CREATE TABLE shared.mine (id BIGINT DEFAULT (getenv('CANARY_VARIABLE')))",
        "CREATE TABLE shared.mine AS SELECT * FROM read_csv('{file}')",
        "CREATE SCHEMA vault",
        "CREATE SCHEMA IF NOT EXISTS vault",
        'CREATE SCHEMA "profile:somebody"',
        "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
        "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
        "CREATE SEQUENCE shared.s",
        "CREATE TYPE t AS ENUM (SELECT note FROM vault.ledger)",
        "CREATE INDEX i ON vault.ledger (id)",
        "CREATE TRIGGER t AFTER INSERT ON shared.people EXECUTE 'FROM vault.ledger'",
    ),
    "CREATE_FUNC": (
        "CREATE MACRO m() AS TABLE FROM vault.ledger",
        "CREATE TEMP MACRO m() AS (SELECT max(note) FROM vault.ledger)",
        "CREATE OR REPLACE FUNCTION read_csv(x) AS TABLE FROM '{file}'",
        "CREATE OR REPLACE MACRO duckdb_tables() AS TABLE FROM system.main.duckdb_tables()",
    ),
    "DROP": (
        "DROP TABLE vault.ledger",
        "DROP TABLE IF EXISTS vault.ledger CASCADE",
        "DROP SCHEMA vault CASCADE",
        "DROP SCHEMA IF EXISTS vault CASCADE",
        "DROP MACRO duckdb_tables",
        "DROP SECRET s",
        "DROP TRIGGER t ON vault.ledger",
    ),
    "ALTER": (
        "ALTER TABLE vault.ledger ADD COLUMN x INTEGER",
        "ALTER TABLE vault.ledger RENAME TO mine",
        "ALTER TABLE shared.people RENAME TO vault.people",
        "ALTER TABLE shared.people SET SCHEMA vault",
        "ALTER TABLE shared.people ADD COLUMN x VARCHAR DEFAULT (SELECT max(note) FROM vault.ledger)",
        "ALTER TABLE shared.people ALTER name TYPE VARCHAR USING (SELECT max(note) FROM vault.ledger)",
        "COMMENT ON TABLE vault.ledger IS 'x'",
        "COMMENT ON COLUMN vault.ledger.note IS 'x'",
        "ALTER DATABASE lakehouse SET ALIAS TO x",
    ),
    "COPY": (
        "COPY vault.ledger TO '{made}'",
        "COPY (SELECT 1) TO '{made}'",
        "COPY (FROM vault.ledger) TO '{made}' (FORMAT parquet)",
        "COPY shared.people FROM '{file}'",
        "COPY (SELECT 1) TO PROGRAM 'touch {made}'",
        "COPY (SELECT 1) TO 'http://127.0.0.1:{port}/x.csv'",
        "COPY (SELECT 1) TO '/dev/stdout'",
        "WITH x AS (COPY (FROM vault.ledger) TO '{made}') SELECT 1",
    ),
    "COPY_DATABASE": ("COPY FROM DATABASE lakehouse TO memory", "COPY FROM DATABASE system TO lakehouse"),
    "EXPORT": (
        "EXPORT DATABASE '{made}'",
        "EXPORT DATABASE '{made}' (FORMAT parquet)",
        "IMPORT DATABASE '{folder}'",
    ),
    "ATTACH": (
        "ATTACH '{made}' AS x",
        "ATTACH '{folder}/catalog.db' AS x (TYPE sqlite, READ_ONLY)",
        "ATTACH ':memory:' AS x",
        "ATTACH 'http://127.0.0.1:{port}/x.db' AS x",
        "ATTACH IF NOT EXISTS 'vault' AS vault",
    ),
    "DETACH": ("DETACH lakehouse", "DETACH DATABASE IF EXISTS temp", "DETACH system"),
    "LOAD": (
        "LOAD '{file}'",
        "LOAD httpfs",
        "INSTALL httpfs",
        "FORCE INSTALL httpfs FROM 'http://127.0.0.1:{port}'",
        "LOAD 'http://127.0.0.1:{port}/x.duckdb_extension'",
    ),
    "EXTENSION": ("UPDATE EXTENSIONS", "UPDATE EXTENSIONS (httpfs)"),
    "PRAGMA": (
        "PRAGMA database_list",
        "PRAGMA storage_info('vault.ledger')",
        "PRAGMA table_info('vault.ledger')",
        "PRAGMA show('vault.ledger')",
        "PRAGMA enable_profiling = 'json'",
        "PRAGMA profiling_output = '{made}'",
        "PRAGMA log_query_path = '{made}'",
        "PRAGMA memory_limit = '1TB'",
        "PRAGMA temp_directory = '{folder}'",
        "PRAGMA import_database('{folder}')",
    ),
    "CALL": (
        "CALL pragma_table_info('vault.ledger')",
        "CALL enable_logging('QueryLog', storage => 'file', storage_path => '{made}')",
        "CALL duckdb_secrets()",
        "CALL force_checkpoint()",
        "CALL query('FROM vault.ledger')",
        "CALL read_text('{file}')",
    ),
    "SET": (
        "SET enable_external_access = true",
        "SET GLOBAL enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET allowed_paths = ['{file}']",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "SET temp_directory = '{folder}'",
        "SET home_directory = '{folder}'",
        "SET file_search_path = '{folder}'",
        "SET secret_directory = '{folder}'",
        "SET extension_directory = '{folder}'",
        "SET custom_extension_repository = 'http://127.0.0.1:{port}'",
        "SET http_proxy = '127.0.0.1:{port}'",
        "SET log_query_path = '{made}'",
        "SET profiling_output = '{made}'",
        "SET autoinstall_known_extensions = true",
        "SET allow_unsigned_extensions = true",
        "SET python_enable_replacements = true",
        "SET threads = 1000",
        "SET memory_limit = '1TB'",
        "SET bucket = 'vault'",
        "SET schema = 'vault'",
        "SET search_path = 'vault,shared'",
        "SET profile = 'somebody'",
        "USE vault",
        "USE lakehouse.vault",
        "USE system",
        "SET statement_timeout = 0",
        "SET TimeZone = (SELECT max(note) FROM vault.ledger)",
        "SET TimeZone = '{file}'",
        "SET Calendar = 'x'",
    ),
    "VARIABLE_SET": (
        "SET VARIABLE mine = (SELECT max(note) FROM vault.ledger)",
        "SET VARIABLE mine = (SELECT content FROM read_text('{file}'))",
        "SET VARIABLE mine = getenv('CANARY_VARIABLE')",
        "RESET VARIABLE mine",
    ),
    "PREPARE": (
        "PREPARE p AS FROM vault.ledger",
        "PREPARE p AS SELECT * FROM read_csv(?)",
        "PREPARE p AS COPY (SELECT 1) TO '{made}'",
        "PREPARE p AS SELECT * FROM query(?)",
    ),
    "EXECUTE": ("EXECUTE p('{file}')", "EXECUTE p((SELECT max(note) FROM vault.ledger))", "DEALLOCATE p"),
    "EXPLAIN": (
        "EXPLAIN FROM vault.ledger",
        "EXPLAIN ANALYZE FROM vault.ledger",
        "EXPLAIN (FORMAT json) FROM shared.people JOIN vault.ledger USING (id)",
        "EXPLAIN FROM shared.peek",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{made}'",
        "EXPLAIN ANALYZE DELETE FROM vault.ledger",
        "EXPLAIN FROM '{file}'",
    ),
    "RELATION": (
        "DESCRIBE vault.ledger",
        "DESCRIBE shared.peek",
        "DESCRIBE FROM '{file}'",
        "SUMMARIZE vault.ledger",
        "SUMMARIZE '{file}'",
        "SHOW vault.ledger",
        "SHOW TABLE vault.ledger",
        "SHOW FROM vault.ledger",
        "FROM (SHOW SELECT * FROM vault.ledger)",
        "SHOW TABLES FROM vault",
        "SHOW TABLES FROM lakehouse.vault",
        "SHOW ALL TABLES",
        "SHOW TABLES",
        "SHOW SCHEMAS",
        "SHOW DATABASES",
        "SHOW VARIABLES",
        "SHOW bucket",
        "SHOW ALL",
        "SHOW search_path",
        "SHOW temp_directory",
        "SHOW allowed_directories",
        "SHOW secret_directory",
        "SHOW CREATE TABLE vault.ledger",
    ),
    "TRANSACTION": ("BEGIN", "COMMIT", "ROLLBACK", "BEGIN TRANSACTION READ ONLY", "ABORT"),
    "ANALYZE": ("ANALYZE", "ANALYZE vault.ledger"),
    "VACUUM": ("VACUUM", "VACUUM vault.ledger", "CHECKPOINT", "FORCE CHECKPOINT lakehouse"),
    "MULTI": (
        "SELECT 1; SELECT * FROM vault.ledger",
        "CREATE TEMP TABLE two AS SELECT 1; INSERT INTO two SELECT id FROM vault.ledger",
        "BEGIN; SET bucket = 'vault'; FROM ledger; COMMIT",
        "SET bucket = 'shared'; ATTACH '{made}'",
    ),
    "LOGICAL_PLAN": (
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM vault.ledger'))",
        "SELECT json_serialize_plan('FROM vault.ledger')",
        "SELECT json_deserialize_sql(json_serialize_sql('FROM vault.ledger'))",
        "FROM from_substrait('x'::BLOB)",
    ),
    "INVALID": ("", ";", "SELEC 1", "\x00", "SELECT '", 'SELECT "', "SELECT 1 FROM", "(" * 300),
}
"""DuckDB's name of a statement's type → statements of that type, or that pass for it."""


def by_function() -> Iterator[str]:
    """Yield calls of every function that DuckDB has, with arguments of the types that it takes."""
    for kind, name, types in _functions():
        arguments = ", ".join(_argument(each, at) for at, each in enumerate(types))
        called = f'"{name}"({arguments})'
        if kind in ("table", "table_macro"):
            yield f"SELECT * FROM {called}"
            if types:
                yield f"SELECT * FROM \"{name}\"('vault.ledger')"
        elif kind == "pragma":
            yield f"PRAGMA {name}" + (f"({arguments})" if types else "")
            yield f"CALL {name}({arguments})"
        else:
            yield f"SELECT {called}" + (" OVER ()" if kind == "window" else "")
    for name in SEARCH_FUNCTIONS:
        yield f"FROM {name}('docs', 'one', profile => 'somebody')"
        yield f"FROM {name}('vault.ledger', [0.0, 1.0])"
        yield f"FROM {name}('docs', [0.0, 1.0], filter => 'id IN (SELECT id FROM vault.ledger)')"


@cache
def _functions() -> list[tuple[str, str, list[str]]]:
    """Return kind, name and types of arguments of each function, one of each name."""
    with duckdb.connect() as connection:
        return connection.execute(
            "SELECT function_type, function_name, arg_min(parameter_types, len(parameter_types)) "
            "FROM duckdb_functions() WHERE function_name ~ '^[a-z_0-9]+$' GROUP BY ALL ORDER BY ALL"
        ).fetchall()


_ARGUMENTS: Mapping[str, str] = {
    "BOOLEAN": "true",
    "DATE": "DATE '2020-01-01'",
    "DOUBLE": "1.5",
    "TIMESTAMP": "TIMESTAMP '2020-01-01'",
    "BLOB": "'x'::BLOB",
    "INTERVAL": "INTERVAL 1 DAY",
    "TABLE": "(FROM vault.ledger)",
    "ANY": "'{file}'",
    "VARCHAR": "'{file}'",
}


def _argument(kind: str | None, at: int) -> str:
    """Return an argument of a type: the first text names a file, the second a relation."""
    if kind == "VARCHAR" and at:
        return "'vault.ledger'"
    if kind is not None and kind.endswith("[]"):
        return f"[{_argument(kind[:-2], at)}]"
    return _ARGUMENTS.get(kind or "ANY", "1")


def by_relation() -> Iterator[str]:
    """Yield reads of all that describes the server, by each name that it has."""
    for table in SYSTEM_TABLES:
        yield f"SELECT * FROM {table}"
        yield f"SELECT * FROM {table} AT (VERSION => 1)"
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT schema_name, view_name FROM duckdb_views() WHERE internal"
        ).fetchall()
    known = {(schema, view) for schema, views in SYSTEM_VIEWS.items() for view in views}
    for schema, view in sorted({*found, *known}):
        yield f"SELECT * FROM {schema}.{view}"
        yield f"SELECT * FROM system.{schema}.{view}"


def by_kind() -> Iterator[str]:
    """Yield the statements of every kind."""
    for statements in BY_KIND.values():
        yield from statements


def filled(statements: Iterable[str], places: Places) -> list[str]:
    """Return statements for each canary file that they may be about."""
    return [text for statement in statements for text in places.fill(statement)]
