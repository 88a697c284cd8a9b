"""Answers to Flight SQL metadata commands: rows of our own, as ready FlightData messages."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import pyarrow as pa

from flight_server.domain.call import CallContext
from flight_server.domain.recent import RecentMap
from flight_server.frames.requests import EngineFacts
from flight_server.services import rows
from flight_server.services.sql_info import (
    CODES,
    ENGINE_CODES,
    YOUNGER_CODES,
    Bigint,
    Int32,
    ServerFacts,
    SqlInfoValue,
    sql_info,
)

_REMEMBERED = 64

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


SQL_INFO = _SQL_INFO_SCHEMA.serialize().to_pybytes()
"""Schema of SqlInfo rows as an encapsulated IPC message; `value` is a dense union of six members."""


def all_codes(call: CallContext) -> frozenset[int]:
    """Return the codes that a caller gets who names none.

    A JDBC driver of before Arrow 17 ends its connection over a code that it does not know.
    """
    return CODES - YOUNGER_CODES if call.is_java else CODES


class MetadataService:
    """Describes the server to drivers.

    `ask_engine` asks an engine process for its facts; it is asked once, and only for a code that
    needs them, so that whoever connects does not wait for it.
    """

    def __init__(self, server: ServerFacts, ask_engine: Callable[[], Awaitable[EngineFacts]]) -> None:
        self._server = server
        self._ask_engine = ask_engine
        self._engine: EngineFacts | None = None
        self._answers: RecentMap[frozenset[int], list[bytes]] = RecentMap(_REMEMBERED)

    async def sql_info(self, codes: Collection[int]) -> AsyncIterator[bytes]:
        """Yield the rows of these codes as FlightData messages, the schema first.

        An unknown code gives no row.
        """
        wanted = CODES.intersection(codes)
        known = self._answers.get(wanted)
        if known is None:
            known = list(rows.messages(await self._rows(wanted)))
            self._answers.put(wanted, known)
        for message in known:
            yield message

    async def _rows(self, wanted: frozenset[int]) -> pa.RecordBatch:
        if self._engine is None and not wanted.isdisjoint(ENGINE_CODES):
            self._engine = await self._ask_engine()
        values = sql_info(self._server, self._engine)
        names = sorted(wanted)
        columns = [pa.array(names, pa.uint32()), _union([values[code] for code in names])]
        return pa.RecordBatch.from_arrays(columns, schema=_SQL_INFO_SCHEMA)
