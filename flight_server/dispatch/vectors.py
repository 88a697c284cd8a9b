"""What the services ask of engine processes about vectors: load, build, embed, measure, search batches."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flight_server.dispatch.channel import Channel
from flight_server.dispatch.pool import Leases
from flight_server.dispatch.relay import Upload, Verdict, judged, sending
from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.errors import DeadlineExceededError
from flight_server.frames.frame import Frame
from flight_server.frames.requests import Relation
from flight_server.frames.vectors import BuiltIndex, about, decode_built, encode_index, encode_indexes

Tell: TypeAlias = Callable[[dict[str, Any]], None]
"""Called with the fields of each `progress`."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A dataset version that a request is about: the relation of a name, in the bucket that owns it."""

    bucket: str
    dataset_id: str
    name: str
    relation: Relation

    @property
    def relations(self) -> Mapping[str, Relation]:
        """The relation by its name."""
        return {self.name: self.relation}

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets in which it has objects, and its own."""
        found = (bucket for group in self.relation.groups for bucket, _ in group.objects)
        return tuple(dict.fromkeys((self.bucket, *found)))

    @property
    def fields(self) -> dict[str, Any]:
        """What every request about it says."""
        return {"bucket": self.bucket, "dataset_id": self.dataset_id, "relation": self.name}


@dataclass(frozen=True, slots=True)
class Activation:
    """A dataset that is to be loaded: the name to tell it by, and its indexes."""

    table: str
    dataset: Searched
    records: Sequence[IndexRecord]


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """An index that is to be built, in a Lance table of the dataset's bucket; no column: the only one."""

    dataset: Searched
    column: str | None
    kind: IndexKind
    metric: Metric
    params: Mapping[str, object]
    table: str


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """A column of texts of which another engine process's embedder makes vectors."""

    dataset: Searched
    text_column: str
    vector_column: str
    embedder: str


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """An index to build in a Lance table of its own, and settings of searches that are to be measured.

    `queries` is the dataset that holds the eval set, `truth` that of exact answers, if there is one.
    """

    dataset: Searched
    dataset_version: int
    table_name: str
    kind: IndexKind
    metric: Metric
    params: Mapping[str, object]
    search: Sequence[Mapping[str, int]]
    k: int
    eval_set: str
    queries: Searched
    truth: Searched | None
    table: str

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets in which anything of it lies."""
        read = [each for each in (self.dataset, self.queries, self.truth) if each is not None]
        return tuple(dict.fromkeys(bucket for each in read for bucket in each.buckets))


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: rows of a journal without what the gateway knows, and exact answers if new.

    `truth` is an Arrow IPC stream; `stale` says of what exact answers are that no longer hold.
    """

    column: str
    rows: Sequence[Mapping[str, Any]]
    eval_set_version: int
    queries: int
    truth: bytes
    stale: str | None


@dataclass(frozen=True, slots=True)
class BatchSearch:
    """A search for all vectors that a client sends; `timeout` is in seconds."""

    dataset: Searched
    records: Sequence[IndexRecord]
    arguments: Mapping[str, object]
    timeout: float | None = None


@dataclass(slots=True)
class Building:
    """An index that was built; it is removed again when the block fails or does not `keep` it."""

    built: BuiltIndex
    verdict: Verdict = field(default_factory=Verdict)

    def keep(self) -> None:
        """Have it stay: the catalog names it."""
        self.verdict.is_made = True


class VectorEngine:
    """What the engine process of a grant set does with vectors."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def activate(
        self, bucket: str, asked: Sequence[Activation], *, wait: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Load what searches use; yield what each index and column has got, nothing without `wait`."""
        relations = {each.dataset.name: each.dataset.relation for each in asked}
        datasets = [
            {"table": each.table, "relation": each.dataset.name, "records": encode_indexes(each.records)}
            for each in asked
        ]
        fields = {"bucket": bucket, "datasets": datasets, "wait": wait}
        async with self._leases.connection() as channel:
            await channel.send(about("activate", relations, fields))
            while (answer := await channel.receive()).kind == "activated":
                yield answer.fields
            channel.done()

    async def deactivate(self, bucket: str) -> tuple[int, int]:
        """Let go of all that a bucket has in memory; return how many entries and bytes that was."""
        fields = (await self._ask(Frame("deactivate", {"bucket": bucket}))).fields
        return fields["entries"], fields["bytes"]

    async def activations(self) -> list[dict[str, Any]]:
        """Return what is in memory, one row for each column."""
        rows: list[dict[str, Any]] = (await self._ask(Frame("activations"))).fields["rows"]
        return rows

    async def drop_index(self, bucket: str, table: str) -> None:
        """Remove an index with its files."""
        await self._ask(Frame("drop_index", {"bucket": bucket, "table": table}))

    def build_index(self, asked: IndexBuild, tell: Tell) -> AbstractAsyncContextManager[Building]:
        """Have an index built; the block keeps it."""
        fields = asked.dataset.fields | {
            "column": asked.column,
            "kind": asked.kind,
            "metric": asked.metric,
            "params": dict(asked.params),
            "table": asked.table,
        }
        return self._building(about("build_index", asked.dataset.relations, fields), tell)

    def update_index(
        self, dataset: Searched, record: IndexRecord, anew: str, tell: Tell
    ) -> AbstractAsyncContextManager[Building]:
        """Have an index brought up to a dataset version, `anew` if it cannot be read; the block keeps it."""
        fields = dataset.fields | {"record": encode_index(record), "anew": anew}
        return self._building(about("update_index", dataset.relations, fields), tell)

    @contextlib.asynccontextmanager
    async def _building(self, request: Frame, tell: Tell) -> AsyncIterator[Building]:
        async with self._leases.connection() as channel:
            await channel.send(request)
            while (answer := await channel.receive()).kind == "progress":
                tell(answer.fields)
            async with judged(channel) as verdict:
                yield Building(decode_built(answer), verdict)

    @contextlib.asynccontextmanager
    async def embed(self, asked: EmbedRequest, tell: Tell) -> AsyncIterator[Upload]:
        """Have the rows of a dataset written anew with vectors of their texts; the block may refuse them."""
        fields = asked.dataset.fields | {
            "text_column": asked.text_column,
            "vector_column": asked.vector_column,
            "embedder": asked.embedder,
        }
        async with self._leases.connection() as channel:
            await channel.send(about("embed", asked.dataset.relations, fields))
            while (answer := await channel.receive()).kind == "progress":
                tell(answer.fields)
            upload = Upload(answer)
            async with judged(channel) as verdict:
                yield upload
                verdict.is_made = not upload.is_refused

    async def truth(
        self, dataset: Searched, metric: Metric, k: int, queries: bytes, tell: Tell
    ) -> tuple[str, bytes]:
        """Return the column that is searched and the exact answers to queries; both are Arrow IPC streams."""
        fields = dataset.fields | {"metric": metric, "k": k}
        answer = await self._measured(about("truth", dataset.relations, fields, [queries]), tell)
        return answer.fields["column"], answer.payload

    async def trial(self, asked: TrialRequest, tell: Tell) -> Measured:
        """Build an index, measure searches in it, remove it."""
        others = [each for each in (asked.queries, asked.truth) if each is not None]
        relations = {each.name: each.relation for each in (asked.dataset, *others)}
        fields = asked.dataset.fields | {
            "dataset_version": asked.dataset_version,
            "table_name": asked.table_name,
            "kind": asked.kind,
            "metric": asked.metric,
            "params": dict(asked.params),
            "search": [dict(each) for each in asked.search],
            "k": asked.k,
            "eval_set": asked.eval_set,
            "queries": asked.queries.name,
            "truth": None if asked.truth is None else asked.truth.name,
            "table": asked.table,
        }
        answer = await self._measured(about("trial", relations, fields), tell)
        said = answer.fields
        return Measured(
            said["column"],
            said["rows"],
            said["eval_set_version"],
            said["queries"],
            answer.payload,
            said["stale"],
        )

    async def journal_row(self, journal: Searched, trial_id: str) -> Mapping[str, Any]:
        """Return a row of a journal. Raises NotFoundError."""
        fields = journal.fields | {"trial_id": trial_id}
        answer = await self._measured(about("journal_row", journal.relations, fields), lambda _: None)
        (row,) = answer.fields["rows"]
        found: Mapping[str, Any] = row
        return found

    async def _measured(self, request: Frame, tell: Tell) -> Frame:
        async with self._leases.connection() as channel:
            await channel.send(request)
            while (answer := await channel.receive()).kind == "progress":
                tell(answer.fields)
            channel.done()
        return answer

    async def exchange(
        self, asked: BatchSearch, messages: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Search for the vectors of an upload's FlightData messages; yield those of the answer."""
        fields = asked.dataset.fields | {
            "records": encode_indexes(asked.records),
            "arguments": dict(asked.arguments),
            "timeout": asked.timeout,
        }
        async with self._leases.connection() as channel:
            await channel.send(about("exchange", asked.dataset.relations, fields))
            async with sending(channel, messages):
                while (answer := await _received(channel, asked.timeout)).kind == "data":
                    yield answer.payload

    async def _ask(self, question: Frame) -> Frame:
        async with self._leases.connection() as channel:
            await channel.send(question)
            answer = await channel.receive()
            channel.done()
        return answer


async def _received(channel: Channel, seconds: float | None) -> Frame:
    """Return the next answer. Raises DeadlineExceededError when it takes too long."""
    try:
        async with asyncio.timeout(seconds):
            return await channel.receive()
    except TimeoutError as error:
        raise DeadlineExceededError(f"an answer of the batch took longer than {seconds:g} s") from error
