"""The requests that the gateway makes of an engine process, and what each is answered with.

| request | fields | payload | answers |
|---|---|---|---|
| configure | buckets, pattern, embedders, has_vectors, and bounds (`ProcessOptions`) | | ready |
| ping | | | ready |
| plan | sql, relations, caller, runs, expected | parameter messages in parts | planned, done or several |
| execute | sql, relations, caller, query, compression | parameter messages in parts | data…, end (rows) |
| settle | session, commit | | settled (holdings) |
| forget | session | | forgotten |
| progress | query | | measured (done: 0 to 1, or null) |
| upload | bucket, dataset_id, evolves, is_digested, room | a schema | stored (objects, digest; schema) |
| compact | bucket, dataset_id, relations, sort_by, object_bytes | schemas | progress (rows)…, stored |
| digest | | | digested (digest) |
| inspect | objects | | inspected (rows, bytes; schemas) |
| types | | a schema | typed (DuckDB's names of the types; the schema that SQL gives) |
| facts | | | facts (keywords, functions and casts of DuckDB) |
| list | bucket, key | | page (objects: key, bytes, age in seconds)…, end |
| missing | bucket, keys | | lacking (keys) |
| delete | bucket, keys | | deleted |
| clear | bucket | | cleared |

A `planned` statement was bound (sql, names, digest, is_update, is_shared; row schema, parameter schema);
one with effects was `done`, if the request `runs` it (count, verb, holdings, changes; rows as messages and
schemas of changes in parts). Where it brings `changes` the engine process then waits for `keep` or `discard`.
A text that holds `several` statements was not run: its `texts` are to be sent one by one.
A `query` is the id of a statement whose progress is measured; others have none.
The gateway answers `stored` with `keep` or `discard`. While a plan or an execute is under way the engine
process may ask questions: `resolve` (names → relations), `qualify` (names → full paths), `describe`
(relations → objects and schemas, of views the query), `rows` (a system table or one of `LISTED`, page by
page: `after` is null or the `next` of the page before), `target` (the dataset or view of a path, to be
changed; with `creates` the place for a new one) and `namespace` (a schema that is to be made or dropped).
Any answer may be `error`. What is said of changes is in `changes.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flight_server.domain.session import Holding, StatementSession, Verb
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


SESSION_MARK = "~"
"""What the names of hidden tables begin with that a session keeps in its engine process."""


def is_session(relation: str) -> bool:
    """Tell whether a relation is a table that a session keeps."""
    return relation.startswith(SESSION_MARK)


VIEW_MARK = "view:"
"""What the relations of views begin with; `describe` tells their query."""


def is_view(relation: str) -> bool:
    """Tell whether a relation is a view of the catalog, to be expanded into its query."""
    return relation.startswith(VIEW_MARK)


def is_version(relation: str) -> bool:
    """Tell whether a relation is a dataset's: these are `<dataset id>@<version>`."""
    return "@" in relation and not is_view(relation)


def is_system(relation: str) -> bool:
    """Tell whether a relation is a system table."""
    return not is_version(relation) and not is_session(relation) and not is_view(relation)


LISTED_SESSION, LISTED_NAMES, LISTED_TABLES = "listed.session", "listed.names", "listed.tables"
LISTED = frozenset({LISTED_SESSION, LISTED_NAMES, LISTED_TABLES})
"""What `rows` gives beside system tables: what the caller may see, for `information_schema` and the like."""


@dataclass(frozen=True, slots=True)
class ObjectGroup:
    """Objects written with one Arrow schema (an encapsulated IPC message), as (bucket, key)."""

    schema: bytes
    objects: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A dataset version as an engine process reads it: its columns and its objects by schema.

    A view has a `definition` instead, a query whose tables have full names; its schema may be empty.
    """

    schema: bytes
    groups: tuple[ObjectGroup, ...]
    definition: str | None = None


@dataclass(frozen=True, slots=True)
class SystemPage:
    """Rows of a system table as an Arrow IPC stream; `following` names the next page, None after the last."""

    stream: bytes
    following: int | None


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What DuckDB says about itself; `conversions` are numbers of the enum SqlSupportsConvert."""

    keywords: tuple[str, ...]
    numeric_functions: tuple[str, ...]
    string_functions: tuple[str, ...]
    system_functions: tuple[str, ...]
    datetime_functions: tuple[str, ...]
    conversions: Mapping[int, tuple[int, ...]]


def encode_facts(facts: EngineFacts) -> Frame:
    """Answer `facts`."""
    fields = asdict(facts) | {"conversions": list(facts.conversions.items())}
    return Frame("facts", fields)


def decode_facts(frame: Frame) -> EngineFacts:
    """Read the answer to `facts`."""
    conversions = {source: tuple(targets) for source, targets in frame.fields["conversions"]}
    lists = {name: tuple(value) for name, value in frame.fields.items() if name != "conversions"}
    return EngineFacts(**lists, conversions=conversions)


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
            "definition": relation.definition,
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
            described["definition"],
        )
        for name, described in frame.fields["relations"].items()
    }


def statement_fields(
    sql: str, relations: Mapping[TableName, str], session: StatementSession
) -> dict[str, Any]:
    """Return the fields of a `plan` or `execute` request; `relations` are names that were resolved ahead."""
    pairs = [[*encode_names([name]), relation] for name, relation in relations.items()]
    caller = {
        "session": session.id,
        "settings": dict(session.settings),
        "transaction": session.transaction,
        "has_state": session.has_state,
        "profile": session.profile,
    }
    return {"sql": sql, "relations": pairs, "caller": caller}


def encode_holdings(holdings: Iterable[Holding]) -> list[Any]:
    """Return what a session keeps as the JSON of a frame."""
    return [[held.kind, held.name] for held in holdings]


def decode_holdings(encoded: Iterable[Any]) -> tuple[Holding, ...]:
    """Read what a session keeps."""
    return tuple(Holding(kind, name) for kind, name in encoded)


def decode_verb(encoded: Mapping[str, Any] | None) -> Verb | None:
    """Read what a statement asks of its session."""
    if encoded is None:
        return None
    paths = tuple(tuple(path) for path in encoded["paths"])
    return Verb(encoded["verb"], encoded["name"], encoded["value"], paths)


def relations_ahead(frame: Frame) -> dict[TableName, str]:
    """Return the names that a `plan` or `execute` request brings resolved."""
    return {decode_names([name])[0]: relation for name, relation in frame.fields["relations"]}
