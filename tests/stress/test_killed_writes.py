"""kill -9 of the gateway and of engine processes while statements write: each is there once, or not."""

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pyarrow.flight
import pytest

from flight_server.domain import faults
from flight_server.domain.faults import Place
from flight_server.testing import Server, serve
from tests.e2e.test_lifecycle import children
from tests.stress.test_crash_safety import COMMANDS, INGEST, SWEEP, sweep
from tests.stress.test_upkeep import BACKUP, COMPACT
from tests.stress.workload import FAILURES, Writer, connected

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(500),
    # The driver leaves connections and cursors open whose server died.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Failed to close cursor:ResourceWarning"),
]

GATEWAY_KILLS = 30
ENGINE_KILLS = 20
KILLS_OF_A_SERVER = 5
MOST_SECONDS = 30
ENGINE_PLACES = (
    Place.OBJECT_WRITTEN,
    Place.OBJECT_CLOSED,
    Place.WRITE_READY,
    Place.WRITE_TOLD,
    Place.OBJECT_DELETED,
)
GATEWAY_PLACES = (
    Place.STATEMENT_STORED,
    Place.STATEMENT_RECORDED,
    Place.COMMIT_READY,
    Place.COMMIT_MADE,
    Place.TRANSACTION_COMMITTED,
    Place.TRANSACTION_DISCARDED,
    Place.COMPACT_STORED,
    Place.COMPACT_COMMITTED,
    Place.SWEEP_BURIED,
    Place.SWEEP_DELETED,
)
OF_UPKEEP = {Place.COMPACT_STORED: "compact", Place.COMPACT_COMMITTED: "compact"} | dict.fromkeys(
    (Place.SWEEP_BURIED, Place.SWEEP_DELETED), "sweep"
)
REFUSALS = "the engine process "


class World:
    """Writers whose datasets live in one data directory, and the servers that come and go over it."""

    def __init__(self, data_dir: Path, choice: random.Random) -> None:
        self.data_dir = data_dir
        self.choice = choice
        self.writers = [Writer(prefix, random.Random(choice.random())) for prefix in ("a_", "b_")]

    @contextmanager
    def server(self) -> Iterator[Server]:
        """Serve, and compare all that there is with what was acknowledged."""
        with serve(data_dir=self.data_dir, telemetry={"log_level": "error"}) as server:
            self.check(server)
            yield server

    def check(self, server: Server) -> None:
        with connected(server) as client:
            for writer in self.writers:
                writer.check(client)

    @contextmanager
    def writing(self, server: Server, upkeep: Sequence[str] = ()) -> Iterator[Event]:
        """Write, and tidy up beside that, until the block ends or the server has gone."""
        is_over = Event()
        with ThreadPoolExecutor(4) as threads:
            work = [threads.submit(write, server, writer, is_over) for writer in self.writers]
            work += [threads.submit(tidy, server, action, is_over) for action in upkeep]
            try:
                yield is_over
            finally:
                is_over.set()
            for one in work:
                one.result()

    def check_swept(self, server: Server) -> None:
        """Sweep: nothing is left that no version names, and nothing that one names is missing."""
        with pyarrow.flight.connect(server.uri) as client:
            sweep(client)
            assert sweep(client)["orphans"]["objects"] == 0
        assert stored_keys(self.data_dir) == named_keys(self.data_dir)
        self.check(server)

    def refusals(self) -> Counter[str]:
        return sum((writer.refused for writer in self.writers), Counter())


def write(server: Server, writer: Writer, is_over: Event) -> None:
    """Do one unit of work after the other."""
    with suppress(*FAILURES), connected(server) as client:
        while not is_over.is_set():
            writer.unit(server, client)


def tidy(server: Server, action: str, is_over: Event) -> None:
    """Compact or sweep again and again."""
    with suppress(*FAILURES), pyarrow.flight.connect(server.uri) as client:
        while not is_over.is_set() and server.process.poll() is None:
            body = b'{"older_than_s": 0}' if action == "sweep" else b"{}"
            with suppress(*FAILURES):
                list(client.do_action(pyarrow.flight.Action(action, body)))
            is_over.wait(0.05)


def stored_keys(data_dir: Path) -> Counter[tuple[str, str]]:
    roots = {"primary": data_dir / "primary", "testing": data_dir / "_testing"}
    return Counter(
        (bucket, str(path.relative_to(root)))
        for bucket, root in roots.items()
        for path in (root / "_objects").rglob("*")
        if path.is_file()
    )


def named_keys(data_dir: Path) -> Counter[tuple[str, str]]:
    """Return the objects of all versions, the older ones too; one that two refs name counts twice."""
    with sqlite3.connect(f"file:{data_dir / 'catalog.db'}?mode=ro", uri=True) as connection:
        return Counter(connection.execute("SELECT bucket, key FROM object_refs").fetchall())


def kill_engines(server: Server) -> None:
    for engine in children(server.process.pid):
        with suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)


def kill_gateway_at_random(world: World) -> None:
    upkeep = ["sweep", "compact"] if world.choice.random() < 0.3 else []
    with world.server() as server, world.writing(server, upkeep):
        time.sleep(world.choice.uniform(0.05, 1.5 if upkeep else 0.4))
        server.process.kill()


def kill_engines_at_random(world: World) -> None:
    with world.server() as server:
        for _ in range(KILLS_OF_A_SERVER):
            with world.writing(server, ["sweep"] if world.choice.random() < 0.3 else []):
                time.sleep(world.choice.uniform(0.05, 0.4))
                kill_engines(server)
            assert server.process.poll() is None
            world.check(server)
        world.check_swept(server)


@pytest.fixture
def world(tmp_path: Path) -> World:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return World(tmp_path, random.Random(seed))


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    yield lambda value: monkeypatch.setenv(faults.VARIABLE, value)
    monkeypatch.delenv(faults.VARIABLE, raising=False)


def test_every_place_is_one_that_a_test_kills_at() -> None:
    assert {*ENGINE_PLACES, *GATEWAY_PLACES, *INGEST, *SWEEP, *COMMANDS, *COMPACT, *BACKUP} == {*Place}


def test_writes_killed_at_any_moment_are_whole_or_absent(world: World) -> None:
    rounds = [kill_gateway_at_random] * GATEWAY_KILLS
    rounds += [kill_engines_at_random] * (ENGINE_KILLS // KILLS_OF_A_SERVER)
    world.choice.shuffle(rounds)
    for kill in rounds:
        kill(world)
    with world.server() as server:
        world.check_swept(server)
    assert all(REFUSALS in text for text in world.refusals()), world.refusals()
    assert sum(sum(writer.done.values()) for writer in world.writers) > 4 * GATEWAY_KILLS


def test_writes_killed_at_every_place_are_whole_or_absent(world: World, fault: Callable[[str], None]) -> None:
    for place in (*ENGINE_PLACES, *GATEWAY_PLACES):
        fault(f"{place}:{1 if place in OF_UPKEEP else world.choice.randrange(1, 4)}")
        is_engine = place in ENGINE_PLACES
        with world.server() as server:
            upkeep = [OF_UPKEEP[place]] if place in OF_UPKEEP else []
            before = world.refusals()
            with world.writing(server, upkeep):
                deadline = time.monotonic() + MOST_SECONDS
                while server.process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                    if is_engine and world.refusals() != before:
                        break
            assert is_engine == (server.process.poll() is None), f"{place} was not reached"
            if is_engine:
                assert world.refusals() != before, f"{place} was not reached"
    fault("")
    with world.server() as server:
        world.check_swept(server)
