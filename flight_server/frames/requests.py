"""The requests that the gateway makes of an engine process, and what each is answered with.

| request | fields | payload | answers |
|---|---|---|---|
| configure | buckets, memory_bytes, temp_bytes, threads | | ready |
| plan | sql, relations | parameter messages in parts | planned (names; row schema, parameter schema) |
| execute | sql, relations | parameter messages in parts | data…, end |
| upload | bucket, dataset_id | schema of the dataset, if any | stored (objects; schema); then discard? |
| inspect | objects | | inspected (rows, bytes; schemas) |
| delete | bucket, keys | | deleted |

While a plan or an execute is under way the engine process may ask two questions: `resolve`
(names → relations) and `describe` (relations → objects and schemas). Any answer may be `error`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flight_server.frames.frame import Frame, with_parts

QualifiedName = tuple[str, ...]


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
    kind: str, sql: str, relations: Mapping[QualifiedName, str], parameters: Sequence[bytes]
) -> Frame:
    """Build a `plan` or `execute` request; `relations` are names that were resolved ahead."""
    pairs = [[list(name), relation] for name, relation in relations.items()]
    return with_parts(kind, {"sql": sql, "relations": pairs}, parameters)


def relations_ahead(frame: Frame) -> dict[QualifiedName, str]:
    """Return the names that a `plan` or `execute` request brings resolved."""
    return {tuple(name): relation for name, relation in frame.fields["relations"]}
