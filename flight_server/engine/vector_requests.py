"""Answers what the gateway asks about vectors: to activate profiles; to build, update and drop indexes."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.engine.embedding import ColumnEmbedder
from flight_server.engine.statement import Running
from flight_server.engine.trials import TrialRequests, telling
from flight_server.engine.vector_source import DatasetRows, VectorSources
from flight_server.errors import FailedPreconditionError, NotFoundError
from flight_server.frames.frame import Frame
from flight_server.frames.requests import Relation, decode_relations
from flight_server.frames.vectors import decode_index, decode_indexes
from flight_server.objects.store import INDEXES_FOLDER, ObjectStore
from flight_server.vectors import index as indexes
from flight_server.vectors.activation import Activations
from flight_server.vectors.index import Built
from flight_server.vectors.index_rows import IndexOrder
from flight_server.vectors.lance import Lance
from flight_server.vectors.search import Activated, VectorSearcher

Send = Callable[[Frame], None]

Discard = Callable[[], None]
"""Removes what a request has made, when the gateway does not keep it."""


def open_activations(stores: Mapping[str, ObjectStore], budget_bytes: int, *, preloads: bool) -> Activations:
    """Return the memory for vectors of a process; one that preloads gets ready for indexes meanwhile."""

    def place(bucket: str) -> tuple[str, Mapping[str, str]]:
        if bucket not in stores:
            raise NotFoundError(f"bucket {bucket} is not open in this engine process")
        root = stores[bucket].local_root
        if root is None:
            raise FailedPreconditionError(f"bucket {bucket} is not of this machine: it cannot hold indexes")
        return str(root / INDEXES_FOLDER), {}

    lance = Lance(place, budget_bytes)
    if preloads:
        threading.Thread(target=lance.preload, name="lance-preload", daemon=True).start()
    return Activations(lance, budget_bytes)


class VectorRequests:
    """The service functions of one engine process; used by many threads at once."""

    def __init__(
        self,
        sources: VectorSources,
        activations: Activations,
        searcher: VectorSearcher,
        columns: ColumnEmbedder,
        trials: TrialRequests,
    ) -> None:
        self._sources = sources
        self._activations = activations
        self._searcher = searcher
        self.columns = columns
        self.trials = trials

    def activate(self, request: Frame, running: Running, send: Send) -> None:
        """Load what searches of a profile's datasets use; at once, or in the background without `wait`."""
        if request.fields["wait"]:
            self._activate(request, running, send)
        else:
            arguments = (request, Running(), _drop)
            threading.Thread(target=self._activate, args=arguments, name="activation", daemon=True).start()
        send(Frame("end"))

    def _activate(self, request: Frame, running: Running, send: Send) -> None:
        relations = decode_relations(request)
        for dataset in request.fields["datasets"]:
            records = decode_indexes(dataset["records"])
            name, bucket = dataset["relation"], request.fields["bucket"]
            with self._sources.source(name, relations[name], bucket, running) as rows:
                for item in self._searcher.activate(rows, records, running.check):
                    send(Frame("activated", _activated(bucket, dataset["table"], item)))

    def deactivate(self, request: Frame, _running: Running, send: Send) -> None:
        """Let go of all that a bucket has in memory."""
        entries, size = self._activations.deactivate(request.fields["bucket"])
        send(Frame("deactivated", {"entries": entries, "bytes": size}))

    def activations(self, _request: Frame, _running: Running, send: Send) -> None:
        """Tell what is in memory."""
        send(Frame("active", {"rows": self._activations.rows()}))

    def drop_index(self, request: Frame, _running: Running, send: Send) -> None:
        """Remove an index with its files."""
        indexes.drop(self._activations.lance, request.fields["bucket"], request.fields["table"])
        send(Frame("dropped"))

    def build_index(self, request: Frame, running: Running, send: Send) -> tuple[Frame, Discard]:
        """Build an index; return what to tell of it, and how to remove it."""
        fields, lance = request.fields, self._activations.lance
        order = IndexOrder(
            fields["bucket"],
            fields["table"],
            fields["column"],
            IndexKind(fields["kind"]),
            Metric(fields["metric"]),
            fields["params"],
        )

        def discard() -> None:
            indexes.drop(lance, order.bucket, order.table)

        try:
            with self._rows(request, running) as rows:
                built = indexes.build(lance, rows, order, telling(send), running.check)
        except BaseException:
            discard()
            raise
        return _built(built), discard

    def update_index(self, request: Frame, running: Running, send: Send) -> tuple[Frame, Discard]:
        """Bring an index up to a dataset version; return what to tell of it."""
        record: IndexRecord = decode_index(request.fields["record"])
        lance, anew = self._activations.lance, request.fields["anew"]

        def discard() -> None:
            # In its own table the next update goes back to the recorded version.
            indexes.drop(lance, record.bucket, anew)

        try:
            with self._rows(request, running) as rows:
                built = indexes.update(lance, rows, record, telling(send), running.check, anew)
        except BaseException:
            discard()
            raise
        return _built(built), discard

    @contextmanager
    def _rows(self, request: Frame, running: Running) -> Iterator[DatasetRows]:
        name, relation = _relation(request)
        with self._sources.source(name, relation, request.fields["bucket"], running) as rows:
            yield rows


def _relation(request: Frame) -> tuple[str, Relation]:
    ((name, relation),) = decode_relations(request).items()
    return name, relation


def _drop(_frame: Frame) -> None:
    """Say nothing: nobody listens."""


def _built(built: Built) -> Frame:
    return Frame("built", {**asdict(built), "params": dict(built.params)})


def _activated(bucket: str, table: str, item: Activated) -> dict[str, Any]:
    times = item.times
    return {
        "profile": bucket.removeprefix("profile:"),
        "table": table,
        "index": item.column,
        "type": "none" if item.record is None else str(item.record.kind),
        "rows": item.rows,
        "dim": item.dim,
        "bytes": item.bytes,
        "tier": str(item.tier),
        "open_ms": round(times.open_ms, 3),
        "prewarm_ms": round(times.prewarm_ms, 3),
        "payload_ms": round(times.payload_ms, 3),
        "evicted": times.evicted,
    }


VECTOR_REQUESTS: Mapping[str, Callable[[VectorRequests, Frame, Running, Send], None]] = {
    "activate": VectorRequests.activate,
    "deactivate": VectorRequests.deactivate,
    "activations": VectorRequests.activations,
    "drop_index": VectorRequests.drop_index,
    "truth": lambda requests, *given: requests.trials.truth(*given),
    "trial": lambda requests, *given: requests.trials.trial(*given),
    "journal_row": lambda requests, *given: requests.trials.journal_row(*given),
}
"""Requests that are answered when they return."""

INDEX_REQUESTS: Mapping[str, Callable[[VectorRequests, Frame, Running, Send], tuple[Frame, Discard]]] = {
    "build_index": VectorRequests.build_index,
    "update_index": VectorRequests.update_index,
    "embed": lambda requests, *given: requests.columns.embed(*given),
}
"""Requests whose answer the gateway keeps or discards."""
