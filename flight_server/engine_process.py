"""The main of an engine process: takes its configuration, then serves one request per connection.

It is started by `dispatch/launcher.py` with a listening Unix socket. The first connection is the
control connection: its first frame configures the process, and when it closes the process ends.
Every other connection is served by a thread of its own.
"""

import contextlib
import logging
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flight_server.domain import faults
from flight_server.domain.bucket import BucketPattern
from flight_server.engine.compaction import Compactor
from flight_server.engine.embedding import ColumnEmbedder
from flight_server.engine.exchange import Exchanges
from flight_server.engine.failures import Failures
from flight_server.engine.instance import Instance, InstanceOptions
from flight_server.engine.peer import is_gateway
from flight_server.engine.priority import Priorities, Starter, helpers
from flight_server.engine.questions import Asker
from flight_server.engine.relations import Relations
from flight_server.engine.searches import Searches
from flight_server.engine.statement import Caller, Done, Running, Statement
from flight_server.engine.statements import Statements
from flight_server.engine.tokens import plain_spaces
from flight_server.engine.trials import TrialRequests
from flight_server.engine.uploads import written
from flight_server.engine.vector_requests import (
    INDEX_REQUESTS,
    VECTOR_REQUESTS,
    VectorRequests,
    open_activations,
)
from flight_server.engine.vector_source import VectorSources
from flight_server.engine.watcher import HangupWatcher
from flight_server.errors import InternalError, LakehouseError, NotFoundError
from flight_server.frames import frame as frames
from flight_server.frames.changes import encode_done
from flight_server.frames.frame import Frame, FrameSocket
from flight_server.frames.requests import encode_facts, encode_holdings
from flight_server.objects.parquet import DatasetWriter
from flight_server.objects.requests import OBJECT_REQUESTS
from flight_server.objects.store import ObjectStore, Stores
from flight_server.objects.upload import ContentDigest
from flight_server.telemetry.logging import configure as configure_logging
from flight_server.vectors.embedded_columns import filling
from flight_server.vectors.embedding import Embedders
from flight_server.vectors.search import VectorSearcher

if TYPE_CHECKING:
    from flight_server.frames.flight_data import Pieces

_log = logging.getLogger("flight_server.engine")
_SPILLED = "temp"
_FLUSH_BYTES = 64 * 1024
_RECURSION_LIMIT = 20_000
"""Deep enough for every tree that DuckDB's own limit on expressions lets through."""


class _ClosedError(Exception):
    """The gateway closed the connection: whatever ran on it is cancelled."""


class Connection:
    """Serves the requests of one connection, one at a time."""

    def __init__(self, process: "EngineProcess", channel: FrameSocket) -> None:
        self._process = process
        self._channel = channel

    def serve(self) -> None:
        """Answer requests until the gateway closes the connection, or this thread has worked for long."""
        watcher, descriptor = self._process.watcher, self._channel.fileno()
        watcher.add(descriptor)
        is_open = False
        try:
            with contextlib.suppress(OSError, _ClosedError):
                is_open = self._serve()
        finally:
            watcher.remove(descriptor)
            if is_open:
                self._process.starter.start(self.serve, otherwise=self._channel.close)
            else:
                self._channel.close()

    def _serve(self) -> bool:
        """Tell whether another thread is to go on: this one could not get its priority back."""
        while (request := self._channel.receive()) is not None:
            with self._process.priorities.working() as is_as_before:
                self._answer(request)
            if not is_as_before():
                return True
        return False

    def _answer(self, request: Frame) -> None:
        if request.kind not in _REQUESTS and request.kind not in OBJECT_REQUESTS:
            raise _ClosedError  # the two sides are out of step: whoever comes next gets a new connection
        try:
            if request.kind in _REQUESTS:
                _REQUESTS[request.kind](self, request)
            else:
                for answer in OBJECT_REQUESTS[request.kind](self._process.store, request):
                    self._channel.send(answer)
        except (_ClosedError, ConnectionError):
            raise
        except Exception as error:
            self._channel.send(_refusal(request.kind, error))

    def plan(self, request: Frame) -> None:
        """Bind a query, or run a statement that has effects."""
        with self._statement(request) as statement:
            answer = self._process.statements.plan(statement, runs=request.fields["runs"])
        if isinstance(answer, list):
            self._channel.send(Frame("several", {"texts": answer}))
        elif isinstance(answer, Done):
            sessions, caller = self._process.statements.sessions, statement.caller
            holdings = sessions.get(caller.session_id, has_state=False).holdings()
            done = encode_done(answer.count, answer.verb, holdings, answer.messages, answer.changes)
            self._settle(done, answer.discard, has_objects=bool(answer.changes))
        else:
            self._channel.send(answer.frame())

    def _settle(self, news: Frame, discard: Callable[[], None], *, has_objects: bool) -> None:
        """Tell the gateway what was written; remove it at its word, or when it cannot know of it."""
        if not has_objects:
            self._channel.send(news)
            return
        faults.reach(faults.Place.WRITE_READY)
        try:
            self._channel.send(news)
        except ConnectionError:
            discard()  # a gateway that does not know them cannot have committed them
            raise
        faults.reach(faults.Place.WRITE_TOLD)
        # If the gateway dies now the objects may be part of a commit: only its word removes them.
        verdict = self._channel.receive()
        if verdict is not None and verdict.kind == "discard":
            discard()

    def settle(self, request: Frame) -> None:
        """End a transaction in which a session changed temporary tables."""
        sessions, session_id = self._process.statements.sessions, request.fields["session"]
        sessions.settle(session_id, request.fields["commit"])
        holdings = sessions.get(session_id, has_state=True).holdings()
        self._channel.send(Frame("settled", {"holdings": encode_holdings(holdings)}))

    def forget(self, request: Frame) -> None:
        """Drop what a session keeps here."""
        self._process.statements.sessions.forget(request.fields["session"])
        self._channel.send(Frame("forgotten"))

    def execute(self, request: Frame) -> None:
        """Run a statement; answer with its rows as ready FlightData messages."""
        pending: list[tuple[str, Pieces]] = []
        size = _FLUSH_BYTES  # the schema goes out at once: whoever has it can cancel a long query
        with self._statement(request) as statement:
            for message in self._process.statements.stream(statement):
                pending.append(("data", message))
                size += sum(len(piece) for piece in message)
                if size >= _FLUSH_BYTES:
                    self._channel.send_gathered(pending)
                    pending, size = [], 0
        self._channel.send_gathered(pending, Frame("end", {"rows": statement.running.rows}))

    def progress(self, request: Frame) -> None:
        """Tell how much of a statement is done that runs on another connection."""
        running = self._process.measured.get(request.fields["query"])
        self._channel.send(Frame("measured", {"done": running.progress() if running else None}))

    @contextlib.contextmanager
    def _statement(self, request: Frame) -> Iterator[Statement]:
        query_id = request.fields.get("query")
        running = Running(measures=query_id is not None)
        if query_id is not None:
            self._process.measured[query_id] = running
        self._process.watcher.set_running(self._channel.fileno(), running)
        try:
            questions, fields = Asker(self._ask, request).questions, request.fields
            caller = self._caller(fields["caller"])
            more = fields.get("expected", ""), running, fields.get("compression")
            yield Statement(plain_spaces(fields["sql"]), request.parts(), questions, caller, *more)
        finally:
            self._process.watcher.set_running(self._channel.fileno(), None)
            if query_id is not None:
                self._process.measured.pop(query_id, None)

    def _caller(self, fields: Mapping[str, Any]) -> Caller:
        state = self._process.statements.sessions.get(fields["session"], fields["has_state"])
        settings = tuple(fields["settings"].items())
        return Caller(fields["session"], state, settings, fields["transaction"], fields["profile"])

    def _ask(self, question: Frame) -> Frame:
        self._channel.send(question)
        answer = self._channel.receive()
        if answer is None:
            raise _ClosedError
        if answer.kind == "error":
            frames.raise_error(answer.fields)
        return answer

    def upload(self, request: Frame) -> None:
        """Write an upload as objects; those of one that fails or is cut off are removed."""
        try:
            store = self._process.store(request.fields["bucket"])
            writer, stored = written(store, request, self._messages())
        except (_ClosedError, ConnectionError):
            raise
        except Exception as error:
            self._refuse_sent("upload", error)
            return
        self._hand_over(writer, stored)

    def exchange(self, request: Frame) -> None:
        """Search for the vectors that a client sends."""
        try:
            with self._cancellable() as running:
                for message in self._process.exchanges.answer(request, self._messages(), running):
                    self._channel.send_gathered([("data", message)])
        except (_ClosedError, ConnectionError):
            raise
        except Exception as error:
            self._refuse_sent("exchange", error)
        else:
            self._channel.send(Frame("end"))

    def _refuse_sent(self, kind: str, error: Exception) -> None:
        """Tell of an error; what the client still sends is read and dropped, until the gateway closes."""
        self._channel.send(_refusal(kind, error))
        for _ in self._messages():
            pass

    def compact(self, request: Frame) -> None:
        """Write the rows of some objects of a dataset as fewer objects."""
        with self._cancellable() as running:
            store = self._process.store(request.fields["bucket"])
            written = self._process.compactor.compact(store, request, running, self._channel.send)
        self._hand_over(*written)

    def vectors(self, request: Frame) -> None:
        """Activate or deactivate a bucket's vectors, tell what is active, drop an index."""
        with self._cancellable() as running:
            VECTOR_REQUESTS[request.kind](self._process.vectors, request, running, self._channel.send)

    def index(self, request: Frame) -> None:
        """Build an index or bring it up to date, to be kept or discarded as the gateway says."""
        with self._cancellable() as running:
            work = INDEX_REQUESTS[request.kind]
            built, discard = work(self._process.vectors, request, running, self._channel.send)
        self._settle(built, discard, has_objects=True)

    @contextlib.contextmanager
    def _cancellable(self) -> Iterator[Running]:
        """Let the end of the connection cancel what runs in the block."""
        running = Running()
        self._process.watcher.set_running(self._channel.fileno(), running)
        try:
            yield running
        finally:
            self._process.watcher.set_running(self._channel.fileno(), None)

    def _hand_over(self, writer: DatasetWriter, stored: Frame) -> None:
        """Tell the gateway of new objects, and remove them if it will not have them."""
        self._settle(stored, writer.discard, has_objects=True)

    def _messages(self) -> Iterator[bytes]:
        while (message := self._channel.receive()) is not None:
            if message.kind != "data":
                return
            yield message.payload
        raise _ClosedError

    def digest(self, _request: Frame) -> None:
        """Hash an upload's content; answer with the digest that `upload` would have given."""
        digest = ContentDigest()
        for _ in digest.following(self._messages()):
            pass
        self._channel.send(Frame("digested", {"digest": digest.value}))

    def types(self, request: Frame) -> None:
        """Tell what SQL makes of a schema's columns."""
        schema, names = self._process.statements.types(pa.ipc.read_schema(pa.py_buffer(request.payload)))
        self._channel.send(Frame("typed", {"names": names}, schema.serialize().to_pybytes()))

    def facts(self, _request: Frame) -> None:
        """Tell what DuckDB says about itself."""
        self._channel.send(encode_facts(self._process.statements.facts()))


def _refusal(kind: str, error: Exception) -> Frame:
    """Return the frame that tells the gateway of an error; what is a bug of ours is logged here."""
    if isinstance(error, LakehouseError):
        return frames.error_frame(error)
    _log.error("request %s failed", kind, exc_info=error)
    return frames.error_frame(InternalError("the engine process failed on this request"))


_REQUESTS: dict[str, Callable[[Connection, Frame], None]] = {
    "plan": Connection.plan,
    "settle": Connection.settle,
    "forget": Connection.forget,
    "execute": Connection.execute,
    "upload": Connection.upload,
    "exchange": Connection.exchange,
    "compact": Connection.compact,
    "digest": Connection.digest,
    "types": Connection.types,
    "facts": Connection.facts,
    "progress": Connection.progress,
    **dict.fromkeys(VECTOR_REQUESTS, Connection.vectors),
    **dict.fromkeys(INDEX_REQUESTS, Connection.index),
}


class EngineProcess:
    """The objects that all connections of one engine process share."""

    def __init__(self, configuration: Frame, directory: Path) -> None:
        fields, pattern = configuration.fields, configuration.fields["pattern"]
        embedders = Embedders(fields["embedders"])
        made = BucketPattern(**pattern) if pattern else None
        self._stores = Stores(fields["buckets"], made, partial(filling, embedders))
        roots = tuple(self._stores.local_roots())
        temp = directory / _SPILLED
        temp.mkdir(mode=0o700)
        bounds = {name: fields[name] for name in ("memory_bytes", "statement_bytes", "temp_bytes", "threads")}
        options = InstanceOptions(**bounds, temp_directory=temp, roots=roots)
        with helpers():
            instance = Instance(options)
        failures = Failures([str(temp), *(str(root) for root in roots)])
        relations = Relations(instance, self._stores, failures)
        self.compactor = Compactor(instance, relations, failures)
        activations = open_activations(self._stores, fields["vector_bytes"], preloads=fields["has_vectors"])
        sources, searcher = VectorSources(instance, self._stores, failures), VectorSearcher(activations)
        columns = ColumnEmbedder(instance, relations, failures, embedders)
        trials = TrialRequests(sources, activations.lance, embedders)
        self.vectors = VectorRequests(sources, activations, searcher, columns, trials)
        self.exchanges = Exchanges(instance, sources, searcher)
        searches = Searches(sources, searcher, embedders.query)
        self.statements = Statements(instance, relations, failures, searches)
        self.watcher, self.priorities, self.starter = HangupWatcher(), Priorities(), Starter()
        self.measured: dict[str, Running] = {}

    def store(self, bucket: str) -> ObjectStore:
        """Return the objects of a bucket. Raises NotFoundError."""
        if bucket not in self._stores:
            raise NotFoundError("something that this needs lies in a bucket that is not there for you")
        return self._stores[bucket]

    def serve(self, listener: socket.socket) -> None:
        """Accept connections of the gateway, for ever; nobody else may ask anything."""
        while True:
            accepted, _ = listener.accept()
            if is_gateway(accepted):
                connection = Connection(self, FrameSocket(accepted))
                self.starter.start(connection.serve, otherwise=accepted.close)
            else:
                accepted.close()


def _serve(configuration: Frame, directory: Path, listener: socket.socket, control: FrameSocket) -> None:
    try:
        process = EngineProcess(configuration, directory)
    except LakehouseError as error:
        control.send(frames.error_frame(error))
        return
    threading.Thread(target=process.serve, args=(listener,), daemon=True).start()
    control.send(Frame("ready"))
    while control.receive() is not None:
        control.send(Frame("ready"))  # to a ping


def main(descriptor: int, directory: Path) -> None:
    """Serve on a listening socket until the control connection closes."""
    configure_logging("info")
    sys.setrecursionlimit(_RECURSION_LIMIT)
    listener = socket.socket(fileno=descriptor)
    control = FrameSocket(listener.accept()[0])
    with contextlib.suppress(OSError):  # the gateway may end while this process starts
        configuration = control.receive()
        if configuration is not None:
            _serve(configuration, directory, listener, control)
    # The rest is left to who clears up behind it and looks for the lock there: the gateway, or the next one.
    shutil.rmtree(directory / _SPILLED, ignore_errors=True)
    # Threads may be deep in a query: nothing of theirs is worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
