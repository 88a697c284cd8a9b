"""Columns of vectors that the server computes: what statements and uploads may not do with them.

Vectors that are NULL are computed when rows are written. So a statement that changes rows has to hand over
NULL for rows whose text is new, and the vector for rows whose text is as it was.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa

from flight_server.domain.embedding import EmbeddedField, embedded_fields
from flight_server.engine import quote
from flight_server.engine.alterations import DropColumn, SetDefault, SetNotNull, SetType
from flight_server.errors import InvalidArgumentError


def kept_vectors(schema: pa.Schema, table: str, loaded: str | None) -> str:
    """Return a query of a table's rows, with NULL for vectors whose texts are others than in `loaded`.

    `loaded` is a query of the rows as they were, None for none. The query fails at a vector that is not
    from there.
    """
    columns = embedded_fields(schema)
    if not columns:
        return f"FROM {table}"
    values = ", ".join(_kept(column, loaded) for column in columns)
    return f"SELECT own.* REPLACE ({values}) FROM {table} AS own"  # noqa: S608 - quoted


def _kept(column: EmbeddedField, loaded: str | None) -> str:
    text, vector = quote.identifier(column.source.name), quote.identifier(column.field.name)
    cases = [f"WHEN own.{vector} IS NULL THEN NULL"]
    if loaded is not None:
        # Vectors are told apart by hashes: to compare them whole takes longer than to write all rows.
        kept = f"SELECT {text}, hash({vector}) FROM ({loaded})"  # noqa: S608 - quoted
        known = f"SELECT hash({vector}) FROM ({loaded})"  # noqa: S608 - quoted
        cases += [
            f"WHEN (own.{text}, hash(own.{vector})) IN ({kept}) THEN own.{vector}",
            f"WHEN hash(own.{vector}) IN ({known}) THEN NULL",
        ]
    return f"CASE {' '.join(cases)} ELSE error({quote.text(refusal(column))}) END AS {vector}"


def refusal(column: EmbeddedField) -> str:
    """Say why a client's own vectors are not taken."""
    return (
        f"column {column.field.name} is computed by the server from {column.source.name}: "
        "leave it out, or write NULL"
    )


def check_upload(schema: pa.Schema, batch: pa.RecordBatch) -> None:
    """Refuse vectors of a client in columns that are computed. Raises InvalidArgumentError."""
    for column in embedded_fields(schema):
        vectors = batch.column(schema.get_field_index(column.field.name))
        if vectors.null_count < len(vectors):
            raise InvalidArgumentError(refusal(column))


def check_alteration(schema: pa.Schema, action: object) -> None:
    """Refuse what would part a computed column from its texts. Raises InvalidArgumentError."""
    rule = _RULES.get(type(action))
    if rule is None:
        return
    name = str(getattr(action, "name", "")).lower()
    for column in embedded_fields(schema):
        if name in rule(column):
            raise InvalidArgumentError(
                f"column {column.field.name} is computed from {column.source.name}: drop column "
                f"{column.field.name} first"
            )


def _source(column: EmbeddedField) -> tuple[str, ...]:
    return (column.source.name.lower(),)


def _vectors(column: EmbeddedField) -> tuple[str, ...]:
    return (column.field.name.lower(),)


def _both(column: EmbeddedField) -> tuple[str, ...]:
    return (*_source(column), *_vectors(column))


_RULES: Mapping[type, Callable[[EmbeddedField], tuple[str, ...]]] = {
    DropColumn: _source,
    SetType: _both,
    SetDefault: _vectors,
    SetNotNull: _vectors,
}
"""Alteration → the columns of which it is refused."""
