"""The requests that the gateway makes of an engine process, and what each is answered with.

| request | fields | payload | answers |
|---|---|---|---|
| configure | buckets, memory_bytes, temp_bytes, threads | | ready |
| ping | | | ready |
| plan | sql, relations | parameter messages in parts | planned (names; row schema, parameter schema) |
| execute | sql, relations | parameter messages in parts | data…, end |
| upload | bucket, dataset_id, evolves, is_digested | dataset's schema | stored (objects, digest; schema) |
| digest | | | digested (digest) |
| inspect | objects | | inspected (rows, bytes; schemas) |
| types | | a schema | typed (DuckDB's names of the types; the schema that SQL gives) |
| list | bucket, key | | page (objects: key, bytes, age in seconds)…, end |
| delete | bucket, keys | | deleted |

The gateway answers `stored` with `keep` or `discard`. While a plan or an execute is under way the engine
process may ask three questions: `resolve` (names → relations), `describe` (relations → objects and schemas)
and `rows` (a system table, page by page: `after` is null or the `next` of the page before). Any answer may
be `error`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flight_server.frames.frame import Frame, with_parts


@dataclass(frozen=True, slots=True)
class TableName:
    """A table as a statement names it: its path and, in time travel, a version or a moment.

    `at` is in microseconds since 1970 UTC; without it and without `version` the newest is meant.
    """

    path: tuple[str, ...]
    version: int | None = None
    at: int | None = None


def encode_names(names: Iterable[TableName]) -> list[Any]:
    """Return names as the JSON of a frame."""
    return [[name.path, name.version, name.at] for name in names]


def decode_names(encoded: Iterable[Any]) -> list[TableName]:
    """Read names from the JSON of a frame."""
    return [TableName(tuple(path), version, at) for path, version, at in encoded]


def is_system(relation: str) -> bool:
    """Tell whether a relation is a system table; those of datasets are `<dataset id>@<version>`."""
    return "@" not in relation


@dataclass(frozen=True, slots=True)
class ObjectGroup:
    """Objects written with one Arrow schema (an encapsulated IPC message), as (bucket, key)."""

    schema: bytes
    objects: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A dataset version as an engine process reads it: its columns and its objects by schema."""

    schema: bytes
    groups: tuple[ObjectGroup, ...]


@dataclass(frozen=True, slots=True)
class SystemPage:
    """Rows of a system table as an Arrow IPC stream; `following` names the next page, None after the last."""

    stream: bytes
    following: int | None


def encode_relations(relations: Mapping[str, Relation]) -> Frame:
    """Answer `describe`; each distinct schema travels once."""
    schemas: dict[bytes, int] = {}

    def number(schema: bytes) -> int:
        return schemas.setdefault(schema, len(schemas))

    described: dict[str, Any] = {
        name: {
            "schema": number(relation.schema),
            "groups": [
                {"schema": number(group.schema), "objects": group.objects} for group in relation.groups
            ],
        }
        for name, relation in relations.items()
    }
    return with_parts("described", {"relations": described}, schemas)


def decode_relations(frame: Frame) -> dict[str, Relation]:
    """Read the answer to `describe`."""
    schemas = frame.parts()
    return {
        name: Relation(
            schemas[described["schema"]],
            tuple(
                ObjectGroup(
                    schemas[group["schema"]], tuple((bucket, key) for bucket, key in group["objects"])
                )
                for group in described["groups"]
            ),
        )
        for name, described in frame.fields["relations"].items()
    }


def statement_frame(
    kind: str, sql: str, relations: Mapping[TableName, str], parameters: Sequence[bytes]
) -> Frame:
    """Build a `plan` or `execute` request; `relations` are names that were resolved ahead."""
    pairs = [[*encode_names([name]), relation] for name, relation in relations.items()]
    return with_parts(kind, {"sql": sql, "relations": pairs}, parameters)


def relations_ahead(frame: Frame) -> dict[TableName, str]:
    """Return the names that a `plan` or `execute` request brings resolved."""
    return {decode_names([name])[0]: relation for name, relation in frame.fields["relations"]}
