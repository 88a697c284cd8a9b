"""Parameter values of a statement: from the messages a client bound to what DuckDB takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from flight_server.errors import InvalidArgumentError
from flight_server.objects.upload import UploadReader

Values = list[Any] | dict[str, Any]


def rows(messages: Sequence[bytes], declared: pa.Schema) -> Iterator[Values]:
    """Yield the values of each parameter row: by name where the statement names them, else by position.

    Raises InvalidArgumentError when their number or names differ from what the statement declares.
    """
    reader = UploadReader(iter(messages))
    order = _order(reader.schema.names, declared.names)
    for batch in reader:
        columns = [batch.column(at).to_pylist() for at in order]
        for values in zip(*columns, strict=True):
            if _is_numbered(declared.names):
                yield list(values)
            else:
                yield dict(zip(declared.names, values, strict=True))


def _is_numbered(names: Sequence[str]) -> bool:
    return all(name.isdigit() for name in names)


def _order(bound: Sequence[str], declared: Sequence[str]) -> list[int]:
    if len(bound) != len(declared):
        raise InvalidArgumentError(f"the statement takes {len(declared)} parameters, {len(bound)} are bound")
    position = {name.lstrip("$").lower(): at for at, name in enumerate(bound)}
    if not _is_numbered(declared) and all(name.lower() in position for name in declared):
        return [position[name.lower()] for name in declared]
    return list(range(len(declared)))
