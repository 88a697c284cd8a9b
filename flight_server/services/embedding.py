"""Embedding: a table of a profile gets a column of vectors that the server computes from its texts.

Rows that are there are written anew beside the table, then one commit adds the column and puts them in the
place of the old ones. Rows that others have appended meanwhile follow; whoever writes later computes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pyarrow as pa

from flight_server.dispatch.relay import Upload
from flight_server.dispatch.vectors import EmbedRequest
from flight_server.domain import declarations
from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.domain.dataset import ChangeMode, Dataset, DatasetChange, ObjectRef
from flight_server.domain.declarations import Field
from flight_server.domain.embedding import WORDLLAMA, EmbeddedField, embedded_fields, with_embedding
from flight_server.domain.identity import Identity
from flight_server.errors import AlreadyExistsError, ConflictError, InternalError, InvalidArgumentError
from flight_server.services.aside import AsideEngine
from flight_server.services.commits import Committer
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import MAX_NAME_LENGTH
from flight_server.services.searched import SearchedDatasets, shown

_log = logging.getLogger("flight_server.embedding")

_ATTEMPTS = 5
_DEFAULT_COLUMN = "vector"

Tell: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class AskedColumn:
    """The column that a caller asks for; without its name or an embedder the usual ones."""

    profile: str
    table: str
    text_column: str
    vector_column: str | None
    embedder: str | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A column of vectors of a dataset: it is there, or is to be added."""

    source: Field
    name: str
    embedder: str
    known: "pa.Field[Any] | None"


@dataclass(frozen=True, slots=True)
class EmbeddingService:
    """Adds columns of vectors; `embedders` are the names of those that are configured."""

    datasets: SearchedDatasets
    committer: Committer
    reservations: Reservations
    engine: AsideEngine
    embedders: tuple[str, ...]

    async def embed(self, identity: Identity, asked: AskedColumn, tell: Tell) -> dict[str, Any]:
        """Add the column and compute it for all rows; where it is there, for those that have none.

        Nothing is changed when it fails. Raises NotFoundError, PermissionDeniedError, InvalidArgumentError,
        AlreadyExistsError, FailedPreconditionError, UnavailableError, or ConflictError when others keep
        changing the table.
        """
        began, rows = time.monotonic(), 0
        bucket = self.datasets.writable_profile(identity, asked.profile)
        for attempt in range(_ATTEMPTS):
            dataset = self.datasets.table(identity, bucket, asked.table)
            wanted = self._wanted(dataset, asked)
            lacking = _lacking(self.datasets.catalog.list_objects(dataset.id, dataset.version), wanted)
            if wanted.known is not None and not lacking:
                return _report(dataset, wanted, rows, time.monotonic() - began)
            try:
                rows += await self._add(identity, dataset, wanted, lacking, tell)
            except ConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
                _log.info("%s changed while a column was embedded: it is tried again", shown(dataset))
        raise ConflictError(f"{shown(dataset)} is changed all the time: embed the column when it is quieter")

    def _wanted(self, dataset: Dataset, asked: AskedColumn) -> _Wanted:
        schema = declarations.read(dataset.schema or pa.schema([]).serialize().to_pybytes())
        source = schema.field(declarations.position(schema, asked.text_column))
        if not pa.types.is_string(source.type):
            raise InvalidArgumentError(f"column {source.name!r} is {source.type}: vectors are made of texts")
        embedder = asked.embedder or (self.embedders[0] if len(self.embedders) == 1 else WORDLLAMA)
        known = sorted({*self.embedders, WORDLLAMA})
        if embedder not in known:
            there = ", ".join(known)
            raise InvalidArgumentError(f"there is no embedder {embedder!r:.80}; there are: {there}")
        for column in embedded_fields(schema):
            if _is_meant(column, source, asked):
                if column.embedder != embedder and asked.embedder is not None:
                    raise AlreadyExistsError(
                        f"column {column.field.name} is made of {source.name} by {column.embedder}: drop it "
                        "first, or name another vector_column"
                    )
                return _Wanted(source, column.field.name, column.embedder, column.field)
        return _Wanted(source, _free_name(schema, source.name, asked.vector_column), embedder, None)

    async def _add(
        self, identity: Identity, dataset: Dataset, wanted: _Wanted, lacking: Sequence[ObjectRef], tell: Tell
    ) -> int:
        """Write the objects anew that lack the column, and commit; return their rows."""
        searched = self.datasets.searched(identity, dataset)
        groups = tuple(each for each in searched.relation.groups if _lacks(each.schema, wanted))
        request = EmbedRequest(
            replace(searched, relation=replace(searched.relation, groups=groups)),
            wanted.source.name,
            wanted.name,
            wanted.embedder,
        )
        total = sum(ref.rows or 0 for ref in lacking)

        def told(progress: dict[str, Any]) -> None:
            tell({"table": dataset.name, "rows": progress["rows"], "of": total})

        async with self.engine.working() as dispatcher:
            with self.reservations.hold(dataset.id):
                async with dispatcher.over(*searched.buckets).vectors.embed(request, told) as upload:
                    changes = _changes(dataset, searched.bucket, wanted, lacking, upload)
                    summary = f"embed {shown(dataset)}.{wanted.source.name}: {total} rows"
                    await self.committer.commit(changes, identity.name, summary)
        return total


def _is_meant(column: EmbeddedField, source: Field, asked: AskedColumn) -> bool:
    """Tell whether a column is the one that a caller asks for."""
    if declarations.column_id(column.source) != declarations.column_id(source):
        return False
    return asked.vector_column is None or asked.vector_column.lower() == column.field.name.lower()


def _free_name(schema: pa.Schema, source: str, asked: str | None) -> str:
    taken = {name.lower() for name in schema.names}
    if asked is not None and (len(asked) > MAX_NAME_LENGTH or not asked.isprintable()):
        raise InvalidArgumentError(
            f"{asked[:80]!r} is not the name of a column: 1 to {MAX_NAME_LENGTH} printable characters"
        )
    offered = (asked,) if asked is not None else (_DEFAULT_COLUMN, f"{source}_{_DEFAULT_COLUMN}")
    for name in offered:
        if name.lower() not in taken:
            return name
    raise AlreadyExistsError(f"column {offered[-1]!r} exists already: name another vector_column")


def _lacking(refs: Sequence[ObjectRef], wanted: _Wanted) -> list[ObjectRef]:
    return [ref for ref in refs if _lacks(ref.schema, wanted)]


def _lacks(schema: bytes | None, wanted: _Wanted) -> bool:
    """Tell whether objects of a schema were written before their vectors were computed."""
    if wanted.known is None or schema is None:
        return True
    return declarations.column_id(wanted.known) not in declarations.by_id(declarations.read(schema))


def _changes(
    dataset: Dataset, bucket: str, wanted: _Wanted, lacking: Sequence[ObjectRef], upload: Upload
) -> list[DatasetChange]:
    """Return the change of the columns, if there is one, and that of the rows."""
    schema = declarations.read(dataset.schema or b"")
    if wanted.known is None:
        schema = declarations.added(schema, [_new_field(wanted, upload)])
    rewrite = DatasetChange(
        namespace=dataset.namespace,
        name=dataset.name,
        bucket=bucket,
        mode=ChangeMode.REWRITE,
        dataset_id=dataset.id,
        base_version=dataset.version,
        schema=schema.remove_metadata().serialize().to_pybytes(),
        objects=upload.objects,
        removed=tuple((ref.bucket, ref.key) for ref in lacking),
    )
    if wanted.known is not None:
        return [rewrite]
    message = schema.serialize().to_pybytes()
    alter = replace(rewrite, mode=ChangeMode.ALTER, schema=message, objects=(), removed=())
    return [alter, rewrite] if lacking else [alter]


def _new_field(wanted: _Wanted, upload: Upload) -> Field:
    """Return the new column; only its type is taken from what the engine process says."""
    said = declarations.read(upload.schema)
    kind: Any = said.field(said.names.index(wanted.name)).type if wanted.name in said.names else None
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_float32(kind.value_type):
        raise InternalError("the engine process has not made a column of vectors")
    return with_embedding(pa.field(wanted.name, kind), wanted.source, wanted.embedder)


def _report(dataset: Dataset, wanted: _Wanted, rows: int, seconds: float) -> dict[str, Any]:
    kind: Any = wanted.known.type if wanted.known is not None else None
    return {
        "profile": dataset.namespace.removeprefix(PROFILE_PREFIX),
        "table": dataset.name,
        "text_column": wanted.source.name,
        "vector_column": wanted.name,
        "embedder": wanted.embedder,
        "dim": kind.list_size,
        "rows": rows,
        "version": dataset.version,
        "seconds": round(seconds, 3),
        "done": True,
    }
