"""What is kept in memory of a column of vectors: blocks, each with all the rows of some objects."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.vector import Filter
from flight_server.errors import InvalidArgumentError
from flight_server.vectors.exact import Matrix, bounded, matrix
from flight_server.vectors.queries import VectorField, to_matrix
from flight_server.vectors.source import OBJECT, ROW, Check, Floats, Ints, Mask, Source

EXACT_ROWS = 131_072
"""Up to so many rows an exact search in memory is as good as an index."""

_PAYLOAD_ROW_BYTES = 512
_PAYLOAD_BYTES = 64 * 1024 * 1024
_ROW_BITS = 40
"""An object has fewer rows than 2 to the power of this."""


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Small columns of a block's rows, as a dataset's schema of this fingerprint reads them.

    Rows of the objects that it `lacks` are NULL in it: they were gone already when it was read.
    """

    fingerprint: bytes
    table: pa.Table
    lacks: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The vectors of all rows of the objects that it `covers`, but of those without a usable one."""

    matrix: Matrix
    objects: Ints
    rows: Ints
    covers: frozenset[int]
    payload: Payload | None = None

    @property
    def bytes(self) -> int:
        """Bytes of memory that it takes."""
        own = self.matrix.bytes + self.objects.nbytes + self.rows.nbytes
        return own + (self.payload.table.nbytes if self.payload else 0)


def fingerprint(schema: pa.Schema) -> bytes:
    """Return what tells a schema from others by which the same objects read differently."""
    return sha256(schema.serialize().to_pybytes()).digest()


def small_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that are kept beside vectors, as far as their values turn out to be short."""
    return [field.name for field in schema if not pat.is_nested(field.type)]


def read_block(source: Source, field: VectorField, objects: Collection[int], check: Check) -> Block:
    """Read the vectors of some objects and the small columns beside them. Raises InvalidArgumentError."""
    reading = _Reading(field, small_columns(source.schema))
    for batch in source.scan(objects, [field.name, *reading.columns]):
        check()
        reading.take(batch)
    return reading.block(frozenset(objects), fingerprint(source.schema))


class _Reading:
    """A block that is being read; columns whose values turn out to be long are left out of it."""

    def __init__(self, field: VectorField, columns: list[str]) -> None:
        self.columns = columns
        self._kept: list[str] | None = None
        self._vectors: list[Floats] = []
        self._places: list[tuple[Ints, Ints]] = []
        self._payload: list[Any] = []
        self._bytes = 0
        self._field = field

    def take(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch that have a vector."""
        if not batch.num_rows:
            return
        batch, vectors = usable(batch, self._field)
        self._vectors.append(vectors)
        self._places.append(places(batch))
        if self._kept is None:
            self._kept = [name for name in self.columns if _is_short(batch, name)]
        if self._bytes <= _PAYLOAD_BYTES:
            part = batch.select(self._kept)
            self._bytes += part.nbytes
            self._payload.append(part)

    def block(self, covers: frozenset[int], mark: bytes) -> Block:
        """Return what was read. Raises InvalidArgumentError when vectors differ in length."""
        vectors = [part for part in self._vectors if len(part)]
        if len({part.shape[1] for part in vectors}) > 1:
            raise InvalidArgumentError(f"column {self._field.name!r} holds lists of different lengths")
        whole = np.concatenate(vectors) if vectors else np.empty((0, self._field.dim or 0), np.float32)
        objects, rows = _joined(self._places)
        payload = None
        if self._payload and self._kept and self._bytes <= _PAYLOAD_BYTES:
            payload = Payload(mark, pa.Table.from_batches(self._payload).combine_chunks())
        return Block(bounded(matrix(whole)), objects, rows, covers, payload)


def _is_short(batch: pa.RecordBatch, name: str) -> bool:
    return batch.column(name).nbytes <= _PAYLOAD_ROW_BYTES * batch.num_rows


def usable(batch: pa.RecordBatch, field: VectorField) -> tuple[pa.RecordBatch, Floats]:
    """Return the rows of a batch that have a vector of finite length, and those vectors."""
    column: Any = batch.column(field.name)
    if column.null_count:
        batch = batch.filter(column.is_valid())
        column = batch.column(field.name)
    vectors = to_matrix(column, f"values of column {field.name!r}")
    if not len(vectors):
        return batch, np.empty((0, field.dim or 0), np.float32)
    finite = np.isfinite(matrix(vectors).norms)
    if finite.all():
        return batch, vectors
    return batch.filter(pa.array(finite)), vectors[finite]


def places(batch: Any) -> tuple[Ints, Ints]:
    """Return the objects and row numbers of a scan's rows."""
    return batch.column(OBJECT).to_numpy(), batch.column(ROW).to_numpy()


def _joined(parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def of_use(blocks: Iterable[Block], live: AbstractSet[int]) -> list[Block]:
    """Return the blocks that have live objects, without the rows of those that are gone where most are."""
    kept = [block for block in blocks if not live.isdisjoint(block.covers)]
    return [
        merged([block], live) if 2 * live_count([block], live) < len(block.rows) else block for block in kept
    ]


def live_count(blocks: Iterable[Block], live: Collection[int]) -> int:
    """Return how many rows of blocks are of live objects."""
    masks = ((block, live_rows(block, live)) for block in blocks)
    return sum(len(block.rows) if mask is None else int(mask.sum()) for block, mask in masks)


def merged_by_dim(blocks: Iterable[Block], live: Collection[int]) -> list[Block]:
    """Return one block for each length of vectors; versions of a column of lists may differ in it."""
    groups: dict[int, list[Block]] = {}
    for block in blocks:
        groups.setdefault(block.matrix.vectors.shape[1], []).append(block)
    return [merged(group, live) for group in groups.values()]


def merged(blocks: Sequence[Block], live: Collection[int]) -> Block:
    """Return one block with the rows of several of one dimension whose objects are still live."""
    kept = [(block, live_rows(block, live)) for block in blocks if len(block.rows)] or [(blocks[0], None)]
    vectors = np.concatenate([_chosen(block.matrix.vectors, mask) for block, mask in kept])
    norms = np.concatenate([_chosen(block.matrix.norms, mask) for block, mask in kept])
    objects = np.concatenate([_chosen(block.objects, mask) for block, mask in kept])
    rows = np.concatenate([_chosen(block.rows, mask) for block, mask in kept])
    covers = frozenset(number for block in blocks for number in block.covers if number in live)
    return Block(bounded(Matrix(vectors, norms)), objects, rows, covers, _merged_payload(kept))


def _chosen(values: Any, mask: Mask | None) -> Any:
    return values if mask is None else values[mask]


def _merged_payload(kept: Sequence[tuple[Block, Mask | None]]) -> Payload | None:
    payloads = [block.payload for block, _ in kept if block.payload is not None]
    marks = {payload.fingerprint for payload in payloads}
    if len(payloads) < len(kept) or len(marks) != 1:
        return None
    names = [
        name
        for name in payloads[0].table.column_names
        if all(name in payload.table.column_names for payload in payloads)
    ]
    tables = [
        payload.table.select(names) if mask is None else payload.table.select(names).filter(pa.array(mask))
        for payload, (_, mask) in zip(payloads, kept, strict=True)
    ]
    lacks = frozenset().union(*(payload.lacks for payload in payloads))
    return Payload(marks.pop(), pa.concat_tables(tables).combine_chunks(), lacks)


def live_rows(block: Block, live: Collection[int]) -> Mask | None:
    """Return which rows of a block are of live objects, None when all are."""
    gone = [number for number in block.covers if number not in live]
    return ~np.isin(block.objects, np.array(gone, np.int64)) if gone else None


def with_payload(block: Block, source: Source, check: Check) -> Block:
    """Return a block with the small columns of its rows, read from the objects that are live."""
    columns = small_columns(source.schema)
    objects = [number for number in block.covers if number in source.objects]
    batches = []
    for batch in source.scan(objects, columns) if columns else ():
        check()
        columns = [name for name in columns if not batch.num_rows or _is_short(batch, name)]
        batches.append(batch)
    if not batches or not columns:
        return block
    whole = pa.Table.from_batches(batches)
    payload = whole.select(columns).take(_positions(block, *places(whole))).combine_chunks()
    if payload.nbytes > _PAYLOAD_BYTES:
        return block
    lacks = block.covers - source.objects.keys()
    return replace(block, payload=Payload(fingerprint(source.schema), payload, frozenset(lacks)))


def _positions(block: Block, objects: Ints, rows: Ints) -> "pa.Array[Any]":
    """Return where in a scan each row of a block is, NULL for those that are not in it."""
    if np.array_equal(objects, block.objects) and np.array_equal(rows, block.rows):
        return pa.array(np.arange(len(rows)))
    codes = place_codes(block.covers, objects, rows)
    wanted = place_codes(block.covers, block.objects, block.rows)
    order = np.argsort(codes, kind="stable")
    at = order[np.minimum(np.searchsorted(codes, wanted, sorter=order), max(0, len(codes) - 1))]
    return pa.array(at, mask=codes[at] != wanted)


def place_codes(known: Iterable[int], objects: Ints, rows: Ints) -> Ints:
    """Return one number for each place whose object is known, -1 for others."""
    own = np.array(sorted(known), np.int64)
    at = np.minimum(np.searchsorted(own, objects), max(0, len(own) - 1))
    codes: Ints = (at.astype(np.int64) << _ROW_BITS) | rows
    if len(own):
        codes[own[at] != objects] = -1
    return codes


def at_places(block: Block, found: Iterator[pa.RecordBatch]) -> Mask:
    """Return which rows of a block are among those of a scan."""
    objects, rows = _joined([places(batch) for batch in found])
    return np.isin(
        place_codes(block.covers, block.objects, block.rows), place_codes(block.covers, objects, rows)
    )


def passing(block: Block, source: Source, where: Filter) -> Mask:
    """Return which rows of a block a filter lets through: by the columns in memory, else by the objects."""
    payload = readable_payload(block, source)
    if payload is not None and set(where.columns) <= set(payload.column_names):
        return source.mask(payload, where)
    objects = [number for number in block.covers if number in source.objects]
    return at_places(block, source.scan(objects, [], where))


def readable_payload(block: Block, source: Source) -> pa.Table | None:
    """Return the small columns of a block if they are those of a dataset version."""
    payload = block.payload
    if payload is None or payload.fingerprint != fingerprint(source.schema):
        return None
    return payload.table if payload.lacks.isdisjoint(source.objects) else None
