"""Longer talks with an engine process: uploads on their way to it, and what becomes of what it has made."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from flight_server.dispatch.channel import Channel, EngineLostError
from flight_server.domain.dataset import StoredObject
from flight_server.errors import (
    CallCancelledError,
    InternalError,
    LakehouseError,
    QuotaExceededError,
    ResourceExhaustedError,
    UnavailableError,
)
from flight_server.frames.frame import Frame

_UNDECIDED = (UnavailableError, InternalError, ResourceExhaustedError)
"""Whether the commit was made that raises these is not known: what is not in the catalog, sweep removes."""


class Upload:
    """Objects that an upload wrote; removed again when its `async with` block fails or refuses them."""

    def __init__(self, stored: Frame) -> None:
        self.objects = tuple(StoredObject(*parts) for parts in stored.fields["objects"])
        self.digest: str = stored.fields["digest"]
        self.schema = stored.payload
        self.is_refused = False

    def refuse(self) -> None:
        """Have the objects removed: nothing will name them."""
        self.is_refused = True


@dataclass(slots=True)
class Verdict:
    """Whether objects are part of a commit, or will be."""

    is_made: bool = False


@contextlib.asynccontextmanager
async def judged(channel: Channel) -> AsyncIterator[Verdict]:
    """Tell the engine process what became of the objects that it wrote: the block decides."""
    verdict = Verdict()
    try:
        yield verdict
    except (LakehouseError, asyncio.CancelledError) as error:
        if isinstance(error, _UNDECIDED) and not isinstance(error, QuotaExceededError):
            raise
        # Whoever cannot be told has left orphans; why they are none of ours is the error to tell.
        with contextlib.suppress(EngineLostError, CallCancelledError):
            await channel.send(Frame("discard"))
        raise
    # What is committed stays so, whoever has gone away.
    with contextlib.suppress(EngineLostError, CallCancelledError):
        await channel.send(Frame("keep" if verdict.is_made else "discard"))
        channel.done()


async def relayed(channel: Channel, messages: AsyncIterator[bytes], undo: Frame | None = None) -> Frame:
    """Send an upload's messages and return the engine process's answer, which may come early.

    A caller that goes away after they have ended has `undo` sent: the engine process believes them complete.
    """
    reply = asyncio.ensure_future(channel.receive())
    sending = asyncio.ensure_future(_send(channel, messages))
    try:
        await asyncio.wait((sending, reply), return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            await sending
        return await reply
    except asyncio.CancelledError:
        if undo is not None and sending.done() and not sending.cancelled() and not sending.exception():
            await channel.send(undo)
        raise
    finally:
        reply.cancel()
        sending.cancel()
        # Only when it has ended may the caller close the messages.
        await asyncio.gather(sending, return_exceptions=True)
        # After an error the engine process still reads what the client would have sent.
        channel.is_reusable = False


async def _send(channel: Channel, messages: AsyncIterator[bytes]) -> None:
    async for message in messages:
        await channel.send(Frame("data", {}, message))
    await channel.send(Frame("finish"))


@contextlib.asynccontextmanager
async def sending(channel: Channel, messages: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Send messages while the block reads the answers, which may come before all are sent."""
    task = asyncio.ensure_future(_send(channel, messages))
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        channel.is_reusable = False
