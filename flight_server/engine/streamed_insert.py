"""INSERT of what a query returns, straight into objects: where no row has to be compared with others.

It takes the memory of a few row groups, whatever the number of rows. Keys, checks, RETURNING, conflicts
and parameters need the hidden table of `dataset_writes`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.dataset import StoredObject
from flight_server.domain.declarations import DEFAULT, FOREIGN_KEY
from flight_server.domain.embedding import embedded_fields
from flight_server.engine import quote
from flight_server.engine.binding import bind, sql_types
from flight_server.engine.dataset_objects import DatasetObjects
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.tokens import Reader


def may_stream(parsed: ParsedStatement, schema: pa.Schema) -> bool:
    """Tell whether a statement is such an INSERT into a dataset with a schema."""
    node = parsed.write_node
    if node is None or node["type"] != "INSERT_QUERY_NODE" or parsed.returns_rows or parsed.parameters:
        return False
    if embedded_fields(schema):
        return False  # whose vectors are computed, and a client's own refused
    compares = any(item.kind != FOREIGN_KEY for item in declarations.constraints(schema))
    source: dict[str, Any] = (node.get("select_statement") or {}).get("node") or {}
    # VALUES may hold DEFAULT, which no query does.
    is_query = bool(source) and (source.get("from_table") or {}).get("type") != "EXPRESSION_LIST"
    has_ctes = bool((node.get("cte_map") or {}).get("map"))
    return is_query and not (compares or has_ctes or node.get("on_conflict_info"))


def stream(
    cursor: duckdb.DuckDBPyConnection,
    sql: str,
    parsed: ParsedStatement,
    objects: DatasetObjects,
    place: tuple[str, str],
    schema: pa.Schema,
) -> list[StoredObject]:
    """Write the rows of an INSERT over hidden relations, which has been bound, as objects of the dataset.

    `place` is the bucket and the dataset's id. Raises InvalidArgumentError for NULL where there must be none.
    """
    node = parsed.write_node or {}
    query = _source(sql, has_columns=bool(node["columns"]))
    found = bind(cursor, query).schema.names
    is_by_name = node["column_order"] == "INSERT_BY_NAME"
    given = found if is_by_name else node["columns"] or schema.names
    columns = ", ".join(map(quote.identifier, given))
    chosen = ", ".join(_chosen(cursor, schema, given))
    binding = bind(cursor, f"SELECT {chosen} FROM (\n{query}\n) AS _({columns})")  # noqa: S608 - gated
    return objects.write(cursor, (binding.sql, None, binding.schema), place, schema)


def _source(sql: str, *, has_columns: bool) -> str:
    """Return the query of an INSERT."""
    reader = Reader(sql)
    reader.take("INSERT")
    reader.take("INTO")
    reader.name()
    if reader.take("AS"):
        reader.name()
    if has_columns:
        reader.brackets()
    _ = reader.take("BY", "NAME") or reader.take("BY", "POSITION")
    return reader.rest()


def _chosen(cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, given: Sequence[str]) -> Iterator[str]:
    """Yield the expression of each column of a dataset: what is given for it, else its default."""
    known = {name.lower() for name in given}
    for field, kind in zip(schema, sql_types(cursor, schema)[1], strict=True):
        name = quote.identifier(field.name)
        value = name if field.name.lower() in known else f"({declarations.text(field, DEFAULT) or 'NULL'})"
        yield f"CAST({value} AS {kind}) AS {name}"
