"""What a dataset's Arrow schema says of a column of vectors that the server computes from texts.

It is metadata of the column's field, so it is versioned with the schema.
"""

import json
from dataclasses import asdict, dataclass

import pyarrow as pa

from flight_server.domain.declarations import Field, by_id, column_id, text, with_text

EMBEDDING = b"lakehouse:embedding"

WORDLLAMA = "wordllama"
"""The embedder that needs no configuration: it comes with the extra `text`."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """How a column of vectors is made: `source` is the id of the column of texts."""

    source: str
    embedder: str


def embedding(field: Field) -> Embedding | None:
    """Return how a column is computed, None where clients write it."""
    written = text(field, EMBEDDING)
    return None if written is None else Embedding(**json.loads(written))


@dataclass(frozen=True, slots=True)
class EmbeddedField:
    """A column of vectors with the column of texts that it is computed from."""

    field: Field
    source: Field
    embedder: str


def embedded_fields(schema: pa.Schema) -> list[EmbeddedField]:
    """Return the columns of a dataset that are computed."""
    if not any((field.metadata or {}).get(EMBEDDING) for field in schema):
        return []
    known = by_id(schema)
    described = ((field, embedding(field)) for field in schema)
    return [
        EmbeddedField(field, known[found.source], found.embedder)
        for field, found in described
        if found is not None and found.source in known
    ]


def with_embedding(field: Field, source: Field, embedder: str) -> Field:
    """Return a column of vectors that is computed from a column of texts."""
    return with_text(field, EMBEDDING, json.dumps(asdict(Embedding(column_id(source), embedder))))
