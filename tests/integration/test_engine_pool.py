"""Engine processes of several grant sets: kept apart, given in turn, ended one by one."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flight_server.dispatch import process
from flight_server.dispatch.channel import EngineLostError
from flight_server.dispatch.engine import Engine
from flight_server.dispatch.pool import EnginePool, Leases, PoolOptions
from flight_server.dispatch.process import ProcessOptions
from flight_server.domain.grants import GrantedBucket, GrantSet
from flight_server.errors import LakehouseError, NotFoundError, PermissionDeniedError, ResourceExhaustedError
from flight_server.frames.frame import Frame

pytestmark = pytest.mark.slow

MIB = 1 << 20


class Tenants:
    """A pool, and a bucket for each tenant with an object in it."""

    def __init__(self, folder: Path, pool: EnginePool) -> None:
        self.folder = folder
        self.pool = pool

    def grants(self, *names: str, may_write: bool = True) -> GrantSet:
        for name in names:
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name / "object.parquet").write_text(f"canary of {name}")
        return GrantSet(
            frozenset(GrantedBucket(name, (self.folder / name).as_uri(), may_write) for name in names)
        )

    def engine(self, *names: str, may_write: bool = True, caller: str = "") -> Engine:
        grants = self.grants(*names, may_write=may_write)
        return Engine(Leases(self.pool, grants, caller or names[0]))

    def process(self, *names: str) -> Any:
        return self.pool._seats[self.grants(*names)].process


@asynccontextmanager
async def tenants(folder: Path, **options: Any) -> AsyncIterator[Tenants]:
    def configured(grants: GrantSet) -> ProcessOptions:
        return ProcessOptions(grants, 64 * MIB, 64 * MIB, 1, MIB)

    pool = EnginePool(PoolOptions(configured, **{"spares": 0, "max_processes": 2, **options}))
    try:
        yield Tenants(folder, pool)
    finally:
        await pool.stop()


async def refused(asked: Coroutine[Any, Any, Any]) -> LakehouseError:
    with pytest.raises(LakehouseError) as caught:
        await asked
    return caught.value


def test_a_hostile_frame_reaches_no_foreign_bucket(tmp_path: Path) -> None:
    async def attack() -> None:
        async with tenants(tmp_path) as world:
            world.grants("victim")
            own, reader = world.engine("own"), world.engine("own", may_write=False)
            assert [item async for page in own.list("own", "object.parquet") for item in page]
            for bucket, key in (
                ("victim", "object.parquet"),
                ("own", "../victim/object.parquet"),
                ("own", "/" + str(tmp_path / "victim" / "object.parquet")),
            ):
                for asked in (own.missing(bucket, [key]), own.delete(bucket, [key]), own.clear("victim")):
                    error = await refused(asked)
                    assert "canary" not in error.message
                    assert str(tmp_path) not in error.message.replace(key, "")
                error = await refused(own.inspect([(bucket, key)]))
                assert "canary" not in error.message
            assert isinstance(await refused(own.missing("victim", ["x"])), NotFoundError)
            assert isinstance(await refused(reader.delete("own", ["object.parquet"])), PermissionDeniedError)
            (tmp_path / "own" / "way_out").symlink_to(tmp_path / "victim")
            assert [item async for page in own.list("own", "way_out") for item in page] == []
            assert (tmp_path / "victim" / "object.parquet").exists()
            assert (tmp_path / "own" / "object.parquet").exists()

    asyncio.run(attack())


def test_the_end_of_one_process_is_not_noticed_by_another(tmp_path: Path) -> None:
    async def kill() -> None:
        async with tenants(tmp_path) as world:
            one, other = world.engine("one"), world.engine("other")
            await asyncio.gather(one.facts(), other.facts())
            kept = world.process("other")
            adjusted = Path(f"/proc/{kept._process.pid}/oom_score_adj").read_text()
            assert adjusted.strip() == "1000"  # where memory runs out the gateway stays
            os.kill(world.process("one")._process.pid, signal.SIGKILL)
            assert await other.missing("other", ["x"]) == ["x"]
            with contextlib.suppress(EngineLostError):  # unless its end has been noticed by now
                await one.missing("one", ["x"])
            assert await one.missing("one", ["x"]) == ["x"]
            assert world.process("other") is kept

    asyncio.run(kill())


@pytest.mark.slow
def test_places_are_given_in_turn_and_never_taken_from_who_has_state_or_works(tmp_path: Path) -> None:
    async def take_turns() -> None:
        async with tenants(tmp_path, wait_seconds=0.3) as world:
            busy, stateful = world.engine("busy"), world.engine("stateful")
            async with busy._leases.connection():
                async with stateful._leases.connection() as channel:
                    await channel.send(Frame("facts"))
                    await channel.receive()
                    channel.done()
                    world.pool.keeps(channel, "session", has_state=True)
                error = await refused(world.engine("late").facts())
                assert isinstance(error, ResourceExhaustedError)
                assert "try again" in error.message
                await stateful.facts()
                await busy.facts()
                kept = world.process("stateful")
            world.pool._options = replace(world.pool._options, wait_seconds=30)
            await asyncio.gather(*(world.engine(name).facts() for name in ("late", "later")))
            assert world.process("stateful") is kept
            assert len(list(world.pool.running())) == 2
            await stateful.forget("session")
            await asyncio.gather(*(world.engine(name).facts() for name in ("third", "fourth")))

    asyncio.run(take_turns())


@pytest.mark.slow
def test_one_caller_does_not_keep_others_waiting(tmp_path: Path) -> None:
    """Requests that never pause hold a place for one turn; then those who wait have theirs."""

    async def share() -> None:
        async with tenants(tmp_path, max_processes=1) as world:
            stop = asyncio.Event()
            served: dict[str, int] = {"greedy": 0, "quiet": 0}

            async def ask(name: str, caller: str) -> None:
                while not stop.is_set():
                    await world.engine(name, caller=caller).missing(name, ["x"])
                    served[name] += 1

            greedy = [asyncio.ensure_future(ask("greedy", f"greedy {number}")) for number in range(4)]
            await asyncio.sleep(1.5)
            quiet = asyncio.ensure_future(ask("quiet", "quiet"))
            for _ in range(200):
                await asyncio.sleep(0.1)
                if served["quiet"] and served["greedy"]:
                    break
            stop.set()
            await asyncio.gather(*greedy, quiet)
            assert served["quiet"] > 0

    asyncio.run(share())


def test_another_process_is_not_answered(tmp_path: Path) -> None:
    async def connect() -> None:
        async with tenants(tmp_path) as world:
            await world.engine("own").facts()
            path = str(world.process("own")._socket)
            code = (
                "import socket,sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                "sys.exit(len(s.recv(1)))"
            )
            process = await asyncio.create_subprocess_exec("python3", "-c", code, path)
            assert await asyncio.wait_for(process.wait(), 10) == 0
            os.kill(world.process("own")._process.pid, signal.SIGKILL)

    asyncio.run(connect())


def test_more_requests_than_a_process_has_threads_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(process, "_MAX_IDLE", 2)

    async def fill() -> None:
        async with tenants(tmp_path) as world, contextlib.AsyncExitStack() as stack:
            engine = world.engine("own")
            await engine.facts()
            running = world.process("own")
            for _ in range(3):
                channel = await stack.enter_async_context(running.connection())
                await channel.send(Frame("facts"))
                await channel.receive()
                channel.done()
            error = await refused(engine.facts())
            assert isinstance(error, ResourceExhaustedError)
            assert "works on 3 requests" in str(error)
            await stack.aclose()
            assert len(running._idle) == 2
            assert await engine.facts()
            assert world.process("own") is running

    asyncio.run(fill())
