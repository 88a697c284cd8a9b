"""The action `compact`: small objects of datasets become larger ones."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.domain.compaction import Compaction
from flight_server.errors import InvalidArgumentError
from flight_server.flight.progress import reported
from flight_server.flight.wire.actions import check_keys, decode_json

if TYPE_CHECKING:
    from flight_server.services.compact import CompactService


@dataclass(frozen=True, slots=True)
class CompactHandlers:
    """Answers the action `compact`."""

    service: "CompactService"

    def compact(self, call: CallContext, body: bytes) -> AsyncGenerator[bytes, None]:
        """Compact; yield progress as it is made and then the report."""
        asked = _asked(decode_json(body))
        return reported(partial(self.service.compact, call.identity, asked))


def _asked(options: dict[str, Any]) -> Compaction:
    check_keys("compact", options, ("bucket", "dataset", "sort_by"))
    bucket, dataset, sort_by = (options.get(name) for name in ("bucket", "dataset", "sort_by"))
    for name, value in (("bucket", bucket), ("dataset", dataset)):
        if value is not None and not isinstance(value, str):
            raise InvalidArgumentError(f"'{name}' must be a name")
    is_list = isinstance(sort_by, list) and all(isinstance(column, str) for column in sort_by)
    if sort_by is not None and not is_list:
        raise InvalidArgumentError(
            "'sort_by' must be a list of columns; an empty one takes the sort key away"
        )
    return Compaction(bucket, dataset, None if sort_by is None else tuple(sort_by))
