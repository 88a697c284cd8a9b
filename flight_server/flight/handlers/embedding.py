"""The action `embed_column`: the server computes a column of vectors from texts."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.errors import InvalidArgumentError
from flight_server.flight.progress import reported
from flight_server.flight.wire.actions import check_keys, decode_json
from flight_server.services.embedding import AskedColumn

if TYPE_CHECKING:
    from flight_server.services.embedding import EmbeddingService

_NEEDED = ("profile", "table", "text_column")
_KEYS = (*_NEEDED, "vector_column", "embedder")


@dataclass(frozen=True, slots=True)
class EmbeddingHandlers:
    """Answers the action."""

    service: "EmbeddingService"

    def embed(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Embed a column; yield progress and then the report."""
        options = decode_json(body)
        check_keys("embed_column", options, _KEYS)
        for name in _KEYS:
            value = options.get(name)
            if value is None and name in _NEEDED:
                raise InvalidArgumentError(f"the body must name a '{name}'")
            if value is not None and not (isinstance(value, str) and value):
                raise InvalidArgumentError(f"'{name}' must be a name")
        asked = AskedColumn(*(options.get(name) for name in _KEYS))  # type: ignore[arg-type]
        return reported(partial(self.service.embed, call.identity, asked))
