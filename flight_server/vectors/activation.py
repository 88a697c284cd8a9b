"""What of vectors is in memory: one entry for each column that is searched, under a budget of bytes.

When the budget is used up, the bucket whose entries were used least recently goes as a whole: a profile
is of use only with all that it needs.
"""

import ctypes
import gc
import threading
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from flight_server.domain.vector import IndexRecord
from flight_server.vectors import mapped
from flight_server.vectors.blocks import (
    EXACT_ROWS,
    Block,
    live_count,
    merged_by_dim,
    of_use,
    read_block,
    with_payload,
)
from flight_server.vectors.entries import NOTHING, Entry, Event, Held, State, held
from flight_server.vectors.exact import bytes_expected
from flight_server.vectors.lance import Lance
from flight_server.vectors.opened import OpenIndex, OpenIndexes, read_table
from flight_server.vectors.queries import VectorField
from flight_server.vectors.source import Check, Source, dataset_id, patiently

_LOOK_SECONDS = 0.05
_MAX_BLOCKS = 8
_VERDICTS = 64
_BYTES_BESIDE_A_VECTOR = 80
_GUESSED_DIM = 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be in memory: the vectors of some objects of a dataset version, at most so many rows.

    These are all objects, or those that came `after` an index. The index of a `record` may bring the first.
    """

    source: Source
    field: VectorField
    objects: AbstractSet[int]
    after: OpenIndex | None = None
    record: IndexRecord | None = None
    max_rows: int | None = EXACT_ROWS
    check: Check = patiently


@dataclass(slots=True)
class Times:
    """What loading took, in milliseconds, and which buckets had to go for it."""

    open_ms: float = 0.0
    prewarm_ms: float = 0.0
    payload_ms: float = 0.0
    evicted: list[str] = field(default_factory=list)

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add what the block takes to one of the times."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + (time.perf_counter() - started) * 1000)


class Activations:
    """All entries of one engine process. `_lock` guards the entries' state and the budget."""

    def __init__(self, lance: Lance, budget_bytes: int) -> None:
        self.lance = lance
        self.indexes = OpenIndexes(lance)
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._indexed: dict[tuple[str, str], int] = {}
        self._used: dict[str, float] = {}

    def entry(self, source: Source, column: VectorField) -> Entry:
        """Return the entry of a column, which counts as used now."""
        key = (dataset_id(source), column.key)
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                found = self._entries[key] = Entry(key[0], column.name, source.bucket)
            found.hits += 1
            found.used_at = self._used[source.bucket] = time.monotonic()
            return found

    def cover(self, entry: Entry, wanted: Wanted, times: Times | None = None) -> Held | None:
        """Return memory that holds what is wanted, None when it is too large; one thread reads it for all."""
        if wanted.objects <= entry.held.covers:
            return entry.held
        verdict = (wanted.source.relation, wanted.max_rows, wanted.after)
        if verdict in entry.too_large:
            return None
        with patient(entry.loads, wanted.check):
            if wanted.objects <= entry.held.covers:
                return entry.held
            found = self._load(entry, wanted, times or Times())
        if found is None:
            entry.too_large[verdict] = None
            while len(entry.too_large) > _VERDICTS:
                entry.too_large.popitem(last=False)
        return found

    def _load(self, entry: Entry, wanted: Wanted, times: Times) -> Held | None:
        with self._lock:
            entry.move(Event.OUTDATED)
            entry.move(Event.LOAD)
            generation, before = entry.generation, entry.held
        event = Event.FAILED
        try:
            found = self._read(entry, before, wanted, times)
            if found is not None:
                event = Event.LOADED
            return found
        finally:
            with self._lock:
                entry.move(event)
                if event is Event.LOADED and found is not None and entry.generation == generation:
                    entry.held = found
                    if not set(before.blocks) <= set(found.blocks):
                        entry.masks.clear()  # their keys would keep what has gone
                entry.reserved = entry.held.bytes
                if not entry.held.blocks:
                    entry.state = State.COLD

    def _read(self, entry: Entry, before: Held, wanted: Wanted, times: Times) -> Held | None:
        """Return what there was with what is missing, None when that is too large."""
        source, live = wanted.source, self._live(entry, wanted.source)
        blocks = of_use(before.blocks, live)
        record = wanted.record if not blocks else None
        if record is not None and wanted.max_rows is not None and record.rows > wanted.max_rows:
            return None
        if record is not None and self._reserve(entry, NOTHING, record.rows, record.dim, times):
            blocks += self._indexed_block(record, wanted, times)
        missing = set(wanted.objects).difference(*(block.covers for block in blocks))
        if missing:
            rows = source.count(missing)
            if wanted.max_rows is not None and rows + live_count(blocks, live) > wanted.max_rows:
                return None
            if not self._reserve(entry, held(blocks), rows, wanted.field.dim or _GUESSED_DIM, times):
                return None
            with times.measured("open_ms"):
                blocks.append(read_block(source, wanted.field, missing, wanted.check))
        return held(merged_by_dim(blocks, live) if len(blocks) > _MAX_BLOCKS else blocks)

    def _indexed_block(self, record: IndexRecord, wanted: Wanted, times: Times) -> list[Block]:
        """Return the vectors that an index holds, with the small columns beside them."""
        with times.measured("open_ms"):
            block = self._stored_block(record, wanted.field.key)
        if block is None:
            return []
        with times.measured("payload_ms"):
            return [with_payload(block, wanted.source, wanted.check)]

    def _stored_block(self, record: IndexRecord, key: str) -> Block | None:
        folder = self.lance.folder(record.bucket)
        if folder is not None:
            found = mapped.open_block(folder, record.table, record.lance_version, key)
            if found is not None:
                return found
        index = self.indexes.get(record, key)
        try:
            return None if index is None else read_table(index.table)
        except Exception as error:
            self.indexes.lose(record, error)
            return None

    def _live(self, entry: Entry, source: Source) -> AbstractSet[int]:
        """Return the objects that are still of use: those of a version, and of the newest one seen."""
        version = _version(source.relation)
        if version >= entry.newest[0]:
            entry.newest = (version, frozenset(source.objects))
        return entry.newest[1] | source.objects.keys()

    def _reserve(self, entry: Entry, before: Held, rows: int, dim: int, times: Times) -> bool:
        """Make room for more rows of an entry; other buckets go, least recently used ones first."""
        wanted = before.bytes + bytes_expected(rows, dim) + rows * _BYTES_BESIDE_A_VECTOR
        with self._lock:
            while self._taken(entry) + wanted > self._budget:
                victim = self._victim(entry.bucket)
                if victim is None:
                    return False
                self._evict(victim)
                times.evicted.append(victim)
            entry.reserved = wanted
        if times.evicted:
            release_memory()
        return True

    def _taken(self, apart_from: Entry | None) -> int:
        entries = (entry.reserved for entry in self._entries.values() if entry is not apart_from)
        return sum(entries) + sum(self._indexed.values())

    def _victim(self, bucket: str) -> str | None:
        """Return the bucket that was used least recently and can go: one that is loading cannot."""
        loading = {entry.bucket for entry in self._entries.values() if entry.state is State.LOADING}
        holding = {entry.bucket for entry in self._entries.values() if entry.reserved}
        holding |= {place[0] for place in self._indexed}
        candidates = holding - loading - {bucket}
        return min(candidates, key=lambda name: self._used.get(name, 0.0), default=None)

    def _evict(self, bucket: str) -> tuple[int, int]:
        count, size = 0, 0
        for entry in self._entries.values():
            if entry.bucket != bucket:
                continue
            count, size = count + bool(entry.held.blocks), size + entry.held.bytes
            entry.held, entry.reserved = NOTHING, 0
            entry.generation += 1
            entry.masks.clear()
            entry.too_large.clear()
            entry.move(Event.EVICTED)
        for place in [place for place in self._indexed if place[0] == bucket]:
            count, size = count + 1, size + self._indexed.pop(place)
        self.indexes.forget(bucket)
        return count, size

    def index(self, record: IndexRecord, key: str, times: Times | None = None) -> OpenIndex | None:
        """Return an open index, None when it cannot be read; its bytes count from then on."""
        is_new = not self.indexes.is_open(record)
        with (times or Times()).measured("open_ms"):
            found = self.indexes.get(record, key)
        if found is not None and is_new:
            with self._lock:
                self._indexed[record.bucket, record.table] = record.bytes
                self._used[record.bucket] = time.monotonic()
                while self._taken(None) > self._budget and (victim := self._victim(record.bucket)):
                    self._evict(victim)
                    (times or Times()).evicted.append(victim)
        return found

    def fits(self, rows: int, dim: int) -> bool:
        """Tell whether so many vectors could be in memory if nothing else were."""
        return bytes_expected(rows, dim) + rows * _BYTES_BESIDE_A_VECTOR <= self._budget

    def deactivate(self, bucket: str) -> tuple[int, int]:
        """Let go of all that a bucket has in memory; running searches keep what they use.

        Returns how many entries went, and their bytes.
        """
        with self._lock:
            gone = self._evict(bucket)
        release_memory()
        return gone

    def rows(self) -> list[dict[str, Any]]:
        """Return what there is, for `sys.profiles`."""
        now = time.monotonic()
        with self._lock:
            return [
                {
                    "bucket": entry.bucket,
                    "dataset_id": entry.dataset,
                    "column": entry.column,
                    "state": str(entry.state),
                    "tier": str(entry.tier),
                    "rows": entry.held.rows,
                    "dim": entry.held.blocks[0].matrix.vectors.shape[1] if entry.held.blocks else 0,
                    "bytes": entry.reserved,
                    "hits": entry.hits,
                    "idle_s": round(now - entry.used_at, 3),
                }
                for entry in self._entries.values()
            ]


def _version(relation: str) -> int:
    """Return the number of a relation's dataset version."""
    text = relation.partition("@")[2].partition("+")[0]
    return int(text) if text.isdecimal() else 0


@contextmanager
def patient(lock: threading.Lock, check: Check) -> Iterator[None]:
    """Hold a lock; a thread that waits for one cannot be interrupted, so it looks every now and then."""
    while not lock.acquire(timeout=_LOOK_SECONDS):
        check()
    try:
        yield
    finally:
        lock.release()


def release_memory() -> None:
    """Give memory that is not used any more back to the system, in the background."""
    threading.Thread(target=_release, name="release-memory", daemon=True).start()


def _release() -> None:
    gc.collect()
    with suppress(AttributeError, OSError):  # malloc_trim is glibc's
        ctypes.CDLL(None).malloc_trim(0)
