"""Parameter values of a statement: from the messages a client bound to what DuckDB takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from flight_server.errors import InvalidArgumentError
from flight_server.objects.upload import UploadReader

Values = list[Any] | dict[str, Any]

_INTEGER_TYPES = {"INTEGER": 1 << 31, "BIGINT": 1 << 63}
_PLAIN_TYPES: frozenset[object] = frozenset({bool, float, str, bytes, *_INTEGER_TYPES})


def rows(messages: Sequence[bytes], declared: pa.Schema) -> Iterator[Values]:
    """Yield the values of each parameter row: by name where the statement names them, else by position.

    Raises InvalidArgumentError when their number or names differ from what the statement declares.
    """
    reader = UploadReader(iter(messages))
    order = _order(reader.schema.names, declared.names)
    for batch in reader:
        columns = [_values(batch.column(at)) for at in order]
        for values in zip(*columns, strict=True):
            if _is_numbered(declared.names):
                yield list(values)
            else:
                yield dict(zip(declared.names, values, strict=True))


def _values(column: "pa.Array[Any]") -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, TypeError, LookupError) as error:
        raise InvalidArgumentError(
            f"a parameter of type {column.type} cannot be bound: {error}; cast it to timestamp[us] or utf8"
        ) from error


def shape(values: Values) -> tuple[object, ...] | None:
    """Return what of the values decides the types that DuckDB gives them; None when that takes more."""
    held = values.values() if isinstance(values, dict) else values
    types = [_integer_type(value) if type(value) is int else type(value) for value in held]
    return tuple(types) if _PLAIN_TYPES.issuperset(types) else None


def _integer_type(value: int) -> str:
    """Return the smallest type that DuckDB gives an integer from a program."""
    return next((name for name, bound in _INTEGER_TYPES.items() if -bound <= value < bound), "larger")


def _is_numbered(names: Sequence[str]) -> bool:
    return all(name.isdigit() for name in names)


def _order(bound: Sequence[str], declared: Sequence[str]) -> list[int]:
    if len(bound) != len(declared):
        raise InvalidArgumentError(f"the statement takes {len(declared)} parameters, {len(bound)} are bound")
    position = {name.lstrip("$").lower(): at for at, name in enumerate(bound)}
    if not _is_numbered(declared) and all(name.lower() in position for name in declared):
        return [position[name.lower()] for name in declared]
    return list(range(len(declared)))
