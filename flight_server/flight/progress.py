"""Actions that tell how far they are: JSON progress while they work, and a report at the end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

from flight_server.flight.wire.actions import encode_json

Tell: TypeAlias = Callable[[dict[str, Any]], None]


async def reported(work: Callable[[Tell], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
    """Yield what `work` tells as `{"progress": …}`, then what it returns. Closing the iterator cancels it."""
    news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    running = asyncio.ensure_future(work(news.put_nowait))
    running.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (told := await news.get()) is not None:
            yield encode_json({"progress": told})
        yield encode_json(await running)
    finally:
        running.cancel()
        await asyncio.wait([running])
