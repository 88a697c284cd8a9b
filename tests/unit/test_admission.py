"""Who may work on what takes long, who waits, and who comes next."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from flight_server.errors import ResourceExhaustedError
from flight_server.services import admission
from flight_server.services.admission import Admission, AdmissionLimits

Scenario = Callable[[], Any]


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_MOMENT_SECONDS", 0.02)


async def teach(admitting: Admission, *callers: str) -> None:
    """Let the text "heavy" turn out to be so, for each caller."""
    for caller in callers:
        async with admitting.admitted(caller, "stream", "heavy"):
            await asyncio.sleep(0.04)


@asynccontextmanager
async def held(admitting: Admission, *callers: str) -> AsyncIterator[None]:
    """Hold a slot for each caller."""
    async with AsyncExitStack() as stack:
        for caller in callers:
            await stack.enter_async_context(admitting.admitted(caller, "stream", "heavy"))
        yield


async def work(admitting: Admission, caller: str, done: list[str], text: str = "heavy") -> None:
    async with admitting.admitted(caller, "stream", text):
        done.append(caller)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_callers_take_turns_and_short_statements_wait_for_nobody() -> None:
    async def scenario() -> list[str]:
        admitting, done = Admission(AdmissionLimits(1, 1, 10, 5)), list[str]()
        await teach(admitting, "ann", "bob", "cat")
        async with held(admitting, "ann"):
            callers = ("bob", "bob", "bob", "cat")
            waiting = [asyncio.ensure_future(work(admitting, caller, done)) for caller in callers]
            await settle()
            await work(admitting, "bob", done, "short")
            assert done == ["bob"]
        await asyncio.gather(*waiting)
        return done[1:]

    assert asyncio.run(scenario()) == ["bob", "cat", "bob", "bob"]


def test_who_holds_all_own_slots_waits_with_what_is_not_known_to_be_short() -> None:
    async def scenario() -> None:
        admitting, done = Admission(AdmissionLimits(4, 1, 0, 5)), list[str]()
        await work(admitting, "ann", done, "known")
        async with admitting.admitted("ann", "stream", "long"):
            await asyncio.sleep(0.04)
            with pytest.raises(ResourceExhaustedError, match="works on 1 statements that take long"):
                await work(admitting, "ann", done, "unknown")
            await work(admitting, "ann", done, "known")
            await work(admitting, "bob", done, "unknown")
        await work(admitting, "ann", done, "unknown")

    asyncio.run(scenario())


def test_time_that_a_client_takes_to_read_makes_nothing_heavy() -> None:
    async def scenario() -> None:
        admitting, done = Admission(AdmissionLimits(1, 1, 0, 5)), list[str]()
        async with admitting.admitted("ann", "stream", "read") as reading:
            reading.is_read = True
            await asyncio.sleep(0.06)
            await work(admitting, "ann", done, "another")
        async with held(admitting, "ann"), admitting.admitted("ann", "stream", "read"):
            pass

    asyncio.run(scenario())


def test_waiting_ends_in_time_and_whoever_gives_up_takes_no_slot() -> None:
    async def scenario() -> None:
        admitting, done = Admission(AdmissionLimits(1, 1, 10, 0.05)), list[str]()
        await teach(admitting, "ann", "bob", "cat", "dan")
        async with held(admitting, "ann"):
            with pytest.raises(ResourceExhaustedError, match=r"this one for 0\.05 s: try again"):
                await work(admitting, "bob", done)
            given_up = asyncio.ensure_future(work(admitting, "bob", done))
            await settle()
            given_up.cancel()
            late = asyncio.ensure_future(work(admitting, "cat", done))
            await settle()
        late.cancel()  # its turn has come, and it does not know it yet
        await asyncio.gather(given_up, late, return_exceptions=True)
        await asyncio.wait_for(work(admitting, "dan", done), 1)
        assert done == ["dan"]

    asyncio.run(scenario())


def test_what_is_heavy_for_one_caller_is_nothing_to_another() -> None:
    async def scenario() -> None:
        admitting, done = Admission(AdmissionLimits(1, 1, 0, 5)), list[str]()
        await teach(admitting, "ann")
        async with held(admitting, "ann"):
            await work(admitting, "bob", done)
        assert done == ["bob"]

    asyncio.run(scenario())


def test_one_caller_cannot_take_all_places_to_wait() -> None:
    async def scenario() -> None:
        admitting, done = Admission(AdmissionLimits(1, 1, 3, 5)), list[str]()
        await teach(admitting, "ann", "bob", "cat")
        async with held(admitting, "ann"):
            callers = ("bob", "bob", "bob", "cat", "cat", "bob")
            waiting = [asyncio.ensure_future(work(admitting, caller, done)) for caller in callers]
            await settle()
            assert [turn.done() for turn in waiting] == [False, False, True, False, True, True]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(each, ResourceExhaustedError) for each in ended) == 3
        await work(admitting, "dan", done)
        assert done == ["bob", "cat", "bob", "dan"]

    asyncio.run(scenario())
