"""DoExchange: a batch of vectors in, the nearest rows of each out."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.errors import InvalidArgumentError
from flight_server.flight.routes import Messages
from flight_server.flight.wire.actions import LONGEST_JSON, check_keys
from flight_server.flight.wire.commands import DatasetPath
from flight_server.frames import flight_data

if TYPE_CHECKING:
    from flight_server.services.batches import BatchService

_SEARCH = "search"
_ARGUMENTS = ("k", "filter", "ef", "nprobes", "refine", "column", "metric", "exact")

_NO_OBJECT = "the metadata of a search must be a JSON object with its arguments"


@dataclass(frozen=True, slots=True)
class ExchangeHandlers:
    """Answers descriptors [bucket, dataset, "search"]."""

    service: "BatchService"

    async def search(
        self, call: CallContext, path: DatasetPath, sent: Messages
    ) -> AsyncGenerator[bytes, None]:
        """Search for the vectors sent; arguments are JSON in the metadata that comes before."""
        if len(path.parts) != 3 or path.parts[2] != _SEARCH or not all(path.parts):
            raise InvalidArgumentError(
                f"DoExchange takes a path of three parts, [bucket, dataset, {_SEARCH!r}]"
            )
        arguments, first = await _opened(sent)
        async with aclosing(_vectors(first, sent)) as messages:
            answer = self.service.search(call, path.parts[:2], arguments, messages)
            async with aclosing(answer) as found:
                async for message in found:
                    yield message


async def _opened(sent: Messages) -> tuple[dict[str, Any], list[bytes]]:
    """Read up to the first message with metadata, or the first with vectors; return what that says."""
    first: list[bytes] = []
    async for message in sent:
        parsed = flight_data.parse(message)
        if parsed.header:
            first.append(message)
        if parsed.app_metadata:
            return _arguments(bytes(parsed.app_metadata)), first
        if len(first) > 1:
            break
    return {}, first


def _arguments(metadata: bytes) -> dict[str, Any]:
    if len(metadata) > LONGEST_JSON:
        raise InvalidArgumentError(
            f"the metadata of a search has {len(metadata)} bytes, at most {LONGEST_JSON} are read"
        )
    try:
        value = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(_NO_OBJECT) from error
    if not isinstance(value, dict):
        raise InvalidArgumentError(_NO_OBJECT)
    check_keys("a search", value, _ARGUMENTS)
    return value


async def _vectors(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    for message in first:
        yield message
    async for message in rest:
        if flight_data.parse(message).header:
            yield message
