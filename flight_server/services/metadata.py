"""Answers to Flight SQL metadata commands: rows of our own, as ready FlightData messages."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa

from flight_server.frames.flight_data import BatchFramer, schema_message
from flight_server.services.sql_info import SQL_INFO, Bigint, Int32, SqlInfoValue

_MEMBERS: tuple[tuple[str, pa.DataType], ...] = (
    ("string_value", pa.utf8()),
    ("bool_value", pa.bool_()),
    ("bigint_value", pa.int64()),
    ("int32_bitmask", pa.int32()),
    ("string_list", pa.list_(pa.utf8())),
    ("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
)

_MEMBER_OF: Mapping[type, tuple[int, Callable[[Any], object]]] = {
    str: (0, lambda value: value),
    bool: (1, lambda value: value),
    Bigint: (2, lambda value: value.value),
    Int32: (3, lambda value: value.value),
    tuple: (4, list),
    dict: (5, lambda value: list(value.items())),
}
"""Python type of a SqlInfo value → union member and the value to put there."""

_SQL_INFO_SCHEMA = pa.schema(
    [
        pa.field("info_name", pa.uint32(), nullable=False),
        pa.field(
            "value",
            pa.dense_union([pa.field(name, kind) for name, kind in _MEMBERS], list(range(len(_MEMBERS)))),
            nullable=False,
        ),
    ]
)


def _union(values: Collection[SqlInfoValue]) -> pa.UnionArray:
    children: list[list[object]] = [[] for _ in _MEMBERS]
    types, offsets = [], []
    for value in values:
        member, convert = _MEMBER_OF[type(value)]
        types.append(member)
        offsets.append(len(children[member]))
        children[member].append(convert(value))
    return pa.UnionArray.from_dense(
        pa.array(types, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(child, kind) for child, (_, kind) in zip(children, _MEMBERS, strict=True)],
        [name for name, _ in _MEMBERS],
    )


@lru_cache(maxsize=64)
def _sql_info(codes: frozenset[int]) -> tuple[bytes, ...]:
    names = sorted(codes)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(names, pa.uint32()), _union([SQL_INFO[code] for code in names])], schema=_SQL_INFO_SCHEMA
    )
    framed = BatchFramer(_SQL_INFO_SCHEMA).frame(batch)
    return schema_message(MetadataService.SQL_INFO_SCHEMA), *(b"".join(pieces) for pieces in framed)


class MetadataService:
    """Describes the server to drivers."""

    SQL_INFO_SCHEMA: bytes = _SQL_INFO_SCHEMA.serialize().to_pybytes()
    """Schema of SqlInfo rows as an encapsulated IPC message; `value` is a dense union of six members."""

    def sql_info(self, codes: Collection[int]) -> list[bytes]:
        """Return the rows of these codes as FlightData messages, the schema first.

        No codes stand for all; an unknown code gives no row.
        """
        wanted = SQL_INFO.keys() & codes if codes else SQL_INFO.keys()
        return list(_sql_info(frozenset(wanted)))
