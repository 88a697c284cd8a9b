"""What a dataset's Arrow schema holds beside names and types: identities, defaults, comments, constraints.

They are metadata of the schema and its fields, so they are versioned with it. NOT NULL is `nullable=False`.

A column is known by its id, which is its folded name unless metadata say otherwise: a renamed column keeps
its id, and one that is added under a name used before gets another. Objects keep the schema that they were
written with; a column of a dataset is the one of an object that has the same id.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from flight_server.errors import InvalidArgumentError, NotFoundError

DEFAULT = b"lakehouse:default"
"""Of a field: its default, an expression in SQL."""

INITIAL = b"lakehouse:initial"
"""Of a field that was added: what older objects have for it, a constant in SQL; without it NULL."""

COMMENT = b"lakehouse:comment"
"""Of a field or a schema."""

CONSTRAINTS = b"lakehouse:constraints"
"""Of a schema: a JSON list of constraints."""

SORT_KEY = b"lakehouse:sort_key"
"""Of a dataset's schema: a JSON list of the ids of the columns by which compaction sorts."""

SORTED_BY = b"lakehouse:sorted_by"
"""Of an object's schema: the sort key by which its rows are sorted."""

ID = b"lakehouse:id"
_RETIRED = b"lakehouse:retired"

PRIMARY_KEY, UNIQUE, CHECK, FOREIGN_KEY = "primary_key", "unique", "check", "foreign_key"

Field: TypeAlias = "pa.Field[Any]"
Holder: TypeAlias = "pa.Schema | pa.Field[Any]"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What rows of a dataset promise.

    `kind` is primary_key, unique, check or foreign_key; `expression` is a check's, in SQL; `referenced` is
    the full path of the table that a foreign key names, with the columns there.
    """

    kind: str
    name: str
    columns: tuple[str, ...]
    expression: str | None = None
    referenced: tuple[str, ...] = ()
    referenced_columns: tuple[str, ...] = ()

    def is_seen_from(self, namespaces: Collection[str]) -> bool:
        """Tell whether it names no table of another namespace than these."""
        return not self.referenced or (len(self.referenced) > 1 and self.referenced[-2] in namespaces)


def read(message: bytes) -> pa.Schema:
    """Return the schema of an encapsulated IPC message."""
    return pa.ipc.read_schema(pa.py_buffer(message))


def constraints(schema: pa.Schema) -> tuple[Constraint, ...]:
    """Return the constraints of a dataset's schema."""
    written: list[dict[str, Any]] = json.loads((schema.metadata or {}).get(CONSTRAINTS, b"[]"))
    return tuple(
        Constraint(
            item["kind"],
            item["name"],
            tuple(item["columns"]),
            item.get("expression"),
            tuple(item.get("referenced", ())),
            tuple(item.get("referenced_columns", ())),
        )
        for item in written
    )


def with_constraints(schema: pa.Schema, declared: Sequence[Constraint]) -> pa.Schema:
    """Return a schema with these constraints and no others."""
    written = json.dumps([asdict(item) for item in declared]).encode() if declared else None
    return _with_metadata(schema, CONSTRAINTS, written)


def seen_from(message: bytes, namespaces: Collection[str]) -> bytes:
    """Return a dataset's schema without the foreign keys that name tables of other namespaces than these."""
    if FOREIGN_KEY.encode() not in message:
        return message
    schema = read(message)
    seen = [item for item in constraints(schema) if item.is_seen_from(namespaces)]
    return with_constraints(schema, seen).serialize().to_pybytes()


def keys(schema: pa.Schema) -> list[Constraint]:
    """Return the constraints that let no two rows be alike in some columns."""
    return [item for item in constraints(schema) if item.kind in (PRIMARY_KEY, UNIQUE)]


def comment(holder: Holder) -> str | None:
    """Return the comment of a dataset or a column."""
    return text(holder, COMMENT)


def text(holder: Holder, name: bytes) -> str | None:
    """Return a text of the metadata, None where it is not there."""
    written = (holder.metadata or {}).get(name)
    return None if written is None else written.decode()


def with_text(field: Field, name: bytes, value: str | None) -> Field:
    """Return a field with a text of its metadata changed; None takes it away."""
    metadata: dict[Any, Any] = {key: held for key, held in (field.metadata or {}).items() if key != name}
    if value is not None:
        metadata[name] = value.encode()
    return field.with_metadata(metadata)


def with_comment(schema: pa.Schema, value: str | None) -> pa.Schema:
    """Return the schema of a dataset with its comment changed; None takes it away."""
    return _with_metadata(schema, COMMENT, None if value is None else value.encode())


def sort_key(schema: pa.Schema) -> tuple[str, ...]:
    """Return the ids of the columns by which compaction sorts a dataset, those that it still has."""
    return _key(schema, SORT_KEY)


def sorted_by(schema: pa.Schema) -> tuple[str, ...]:
    """Return the sort key by which an object of a schema is sorted."""
    return _key(schema, SORTED_BY)


def _key(schema: pa.Schema, name: bytes) -> tuple[str, ...]:
    known = by_id(schema)
    ids: list[str] = json.loads((schema.metadata or {}).get(name, b"[]"))
    return tuple(each for each in ids if each in known)


def with_sort_key(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Return a dataset's schema with another sort key; no columns are none. Raises NotFoundError."""
    ids = [column_id(schema.field(position(schema, column))) for column in columns]
    return _with_metadata(schema, SORT_KEY, json.dumps(ids).encode() if ids else None)


def of_sorted_objects(schema: pa.Schema) -> pa.Schema:
    """Return the schema of objects that are sorted by a dataset's key: its columns and that key."""
    ids = sort_key(schema)
    plain = schema.remove_metadata()
    return plain.with_metadata({SORTED_BY: json.dumps(ids).encode()}) if ids else plain


def column_id(field: Field) -> str:
    """Return what a column is known by."""
    return text(field, ID) or field.name.lower()


def by_id(schema: pa.Schema) -> dict[str, Field]:
    """Return the columns of a schema under their ids."""
    return {column_id(field): field for field in schema}


def added(schema: pa.Schema, further: Iterable[Field]) -> pa.Schema:
    """Return a schema with further columns, each with an id that no column has or had."""
    for field in further:
        used = {column_id(known) for known in schema} | set(_retired(schema))
        own, count = field.name.lower(), 1
        while own in used:
            count += 1
            own = f"{field.name.lower()}#{count}"
        schema = schema.append(with_text(field, ID, None if own == field.name.lower() else own))
    return schema


def renamed(schema: pa.Schema, column: str, new_name: str) -> pa.Schema:
    """Return a schema in which a column has another name, in constraints too. Raises NotFoundError."""
    at = position(schema, column)
    field = schema.field(at)
    if new_name.lower() != field.name.lower() and new_name.lower() in {name.lower() for name in schema.names}:
        raise InvalidArgumentError(f"column {new_name!r} exists already: choose another name")
    renamed_field = with_text(field.with_name(new_name), ID, column_id(field))
    changed = schema.set(at, renamed_field)
    names = {column.lower(): new_name}
    declared = [_with_names(item, names) for item in constraints(schema)]
    return with_constraints(changed, declared) if declared else changed


def without(schema: pa.Schema, column: str) -> pa.Schema:
    """Return a schema without a column, whose id is never used again. Raises NotFoundError."""
    at = position(schema, column)
    retired = [*_retired(schema), column_id(schema.field(at))]
    return _with_metadata(schema.remove(at), _RETIRED, json.dumps(retired).encode())


def position(schema: pa.Schema, column: str) -> int:
    """Return where a column is. Raises NotFoundError with the columns there are."""
    folded = [name.lower() for name in schema.names]
    if column.lower() not in folded:
        raise NotFoundError(f"no column {column!r}; the columns are: {', '.join(schema.names)}")
    return folded.index(column.lower())


def _with_names(constraint: Constraint, names: Mapping[str, str]) -> Constraint:
    return Constraint(
        constraint.kind,
        constraint.name,
        tuple(names.get(name.lower(), name) for name in constraint.columns),
        constraint.expression,
        constraint.referenced,
        constraint.referenced_columns,
    )


def _retired(schema: pa.Schema) -> list[str]:
    found: list[str] = json.loads((schema.metadata or {}).get(_RETIRED, b"[]"))
    return found


def _with_metadata(schema: pa.Schema, name: bytes, value: bytes | None) -> pa.Schema:
    metadata: dict[Any, Any] = {key: held for key, held in (schema.metadata or {}).items() if key != name}
    if value is not None:
        metadata[name] = value
    return schema.with_metadata(metadata) if metadata else schema.remove_metadata()
