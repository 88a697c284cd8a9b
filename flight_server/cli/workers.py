"""Several worker processes on one port: each is a whole server, the kernel spreads connections over them.

The catalog is what they share. A connection stays with its worker, and so do its session and its
transactions; statement handles and tickets are good everywhere.
"""

import asyncio
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from queue import Empty
from typing import Any

from flight_server import app
from flight_server.config import Settings
from flight_server.errors import UnavailableError

_START_SECONDS = 60.0
_SPAWN = multiprocessing.get_context("spawn")  # gRPC and fork do not mix


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT; a worker that ends is replaced.

    Raises UnavailableError when the workers do not start.
    """
    with _reserved_port(settings.host, settings.port) as port, _stop_requests() as stopping:
        shares = [_share(settings, port, number) for number in range(settings.workers)]
        uris: Any = _SPAWN.Queue()
        workers = [_start(share, uris) for share in shares]
        try:
            for _ in workers:
                uri = _first(uris, workers)
            ready(uri)
            while not stopping:
                wait([worker.sentinel for worker in workers], timeout=0.2)
                workers = [
                    worker if worker.is_alive() or stopping else _start(share, uris)
                    for worker, share in zip(workers, shares, strict=True)
                ]
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join(settings.limits.drain + _START_SECONDS)


def _share(settings: Settings, port: int, number: int) -> Settings:
    """Return what one worker may use; the first one alone works in the background."""
    of_engine = {
        "memory": settings.engine.memory // settings.workers,
        "max_processes": max(1, settings.engine.max_processes // settings.workers),
    }
    engine = settings.engine.model_copy(update=of_engine)
    share: dict[str, float] = {"memory": settings.vectors.memory // settings.workers}
    vectors = settings.vectors.model_copy(update=share | ({} if number == 0 else {"catch_up_after": 0}))
    catalog = settings.catalog if number == 0 else settings.catalog.model_copy(update={"compact_beyond": 0})
    return settings.model_copy(
        update={"port": port, "engine": engine, "vectors": vectors, "catalog": catalog}
    )


def _start(settings: Settings, uris: Any) -> SpawnProcess:
    worker = _SPAWN.Process(target=_work, args=(settings, uris))
    worker.start()
    return worker


def _work(settings: Settings, uris: Any) -> None:
    asyncio.run(app.serve(settings, uris.put))


def _first(uris: Any, workers: list[SpawnProcess]) -> str:
    for _ in range(int(_START_SECONDS * 10)):
        try:
            uri: str = uris.get(timeout=0.1)
        except Empty:
            if all(worker.is_alive() for worker in workers):
                continue
            break
        return uri
    raise UnavailableError("the workers did not start; what they wrote to the log says why")


@contextmanager
def _reserved_port(host: str, port: int) -> Iterator[int]:
    """Hold the port while workers come and go; a socket that does not listen gets no connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        yield held.getsockname()[1]


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in the list that is yielded."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda signum, _: received.append(signum))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
