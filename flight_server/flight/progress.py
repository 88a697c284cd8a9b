"""Actions that tell how far they are: JSON progress while they work, and a report at the end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from flight_server.flight.wire.actions import encode_json

Tell: TypeAlias = Callable[[dict[str, Any]], None]


async def reported(work: Callable[[Tell], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
    """Yield what `work` tells as `{"progress": …}`, then what it returns. Closing the iterator cancels it."""

    async def alone(tell: Tell) -> Sequence[object]:
        return (await work(tell),)

    async for body in reported_rows(alone):
        yield body


async def reported_rows(
    work: Callable[[Tell], Awaitable[Sequence[object]]],
) -> AsyncGenerator[bytes, None]:
    """Yield what `work` tells as `{"progress": …}`, then each of what it returns, as `reported` does."""
    news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    running = asyncio.ensure_future(work(news.put_nowait))
    running.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (told := await news.get()) is not None:
            yield encode_json({"progress": told})
        for row in await running:
            yield encode_json(row)
    finally:
        running.cancel()
        await asyncio.wait([running])
