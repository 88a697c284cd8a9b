"""Looks at IPC messages before they are decoded: what they claim decides whether they may be.

An upload's message of a few kilobytes can ask for gigabytes, and the reader trusts the counts in it.
Only the few flatbuffer fields that tell are read here, with every offset checked.
Source: Message.fbs and Schema.fbs of the Arrow format; the flatbuffers binary format.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.columns import Kind
from flight_server.errors import InvalidArgumentError, ResourceExhaustedError

MAX_DECODED_BYTES = 256 * 1024 * 1024
"""Largest batch accepted, in bytes after decoding; also the largest sum of a stream's dictionaries."""

MAX_ROWS = 64 * 1024 * 1024
"""Most rows accepted in one batch."""

_MAX_RATIO = 1_000
_RATIO_FREE_BYTES = 16 * 1024 * 1024
_SMALLER = "send smaller batches"

_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_ID, _DICTIONARY_DATA, _DICTIONARY_IS_DELTA = 0, 1, 2
_LENGTH, _NODES, _BUFFERS, _COMPRESSION, _VARIADIC = 0, 1, 2, 3, 4
_NODE_BYTES = _BUFFER_BYTES = 16


class _Table:
    """One table of a flatbuffer: fields by number. Raises struct.error where offsets lead outside."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - self._number("<i", at)
        self._size = self._number("<H", self._fields)

    @classmethod
    def root(cls, data: memoryview) -> "_Table":
        return cls(data, struct.unpack_from("<I", data)[0])

    def _number(self, kind: str, at: int) -> int:
        if at < 0:
            raise struct.error("an offset leads outside")
        value: int = struct.unpack_from(kind, self._data, at)[0]
        return value

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = self._number("<H", self._fields + slot) if slot + 2 <= self._size else 0
        return self._at + offset if offset else None

    def value(self, field: int, kind: str) -> int:
        place = self._place(field)
        return 0 if place is None else self._number(kind, place)

    def table(self, field: int) -> "_Table | None":
        place = self._place(field)
        return None if place is None else _Table(self._data, place + self._number("<I", place))

    def vector(self, field: int, item_bytes: int) -> memoryview:
        place = self._place(field)
        if place is None:
            return self._data[:0]
        start = place + self._number("<I", place)
        size = self._number("<I", start) * item_bytes
        if start + 4 + size > len(self._data):
            raise struct.error("a vector leads outside")
        return self._data[start + 4 : start + 4 + size]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How many nodes and buffers a batch has; view types add buffers that the batch itself counts."""

    nodes: int = 0
    buffers: int = 0
    views: int = 0

    def __add__(self, other: "_Layout") -> "_Layout":
        return _Layout(self.nodes + other.nodes, self.buffers + other.buffers, self.views + other.views)


_BUFFERS_OF: tuple[tuple[Callable[[Kind], bool], int], ...] = (
    (pat.is_null, 0),
    (pat.is_run_end_encoded, 0),
    (pat.is_struct, 1),
    (pat.is_fixed_size_list, 1),
    (pat.is_string_view, 2),
    (pat.is_binary_view, 2),
    (pat.is_string, 3),
    (pat.is_binary, 3),
    (pat.is_large_string, 3),
    (pat.is_large_binary, 3),
    (pat.is_list_view, 3),
    (pat.is_large_list_view, 3),
)
"""First matching test → buffers of an array itself; the others have two."""


def _layout(kind: Kind) -> _Layout:
    if isinstance(kind, pa.BaseExtensionType):
        return _layout(kind.storage_type)
    if pat.is_dictionary(kind):
        return _Layout(1, 2)
    buffers = next((count for is_match, count in _BUFFERS_OF if is_match(kind)), 2)
    own = _Layout(1, buffers, int(pat.is_string_view(kind) or pat.is_binary_view(kind)))
    return sum((_layout(kind.field(i).type) for i in range(kind.num_fields)), own)


def _dictionary_types(kind: Kind) -> Iterator[Kind]:
    if isinstance(kind, pa.BaseExtensionType):
        yield from _dictionary_types(kind.storage_type)
        return
    if pat.is_dictionary(kind):
        yield kind.value_type
        yield from _dictionary_types(kind.value_type)
    for i in range(kind.num_fields):
        yield from _dictionary_types(kind.field(i).type)


class MessageGuard:
    """Checks the messages of one stream in their order, after the schema is known."""

    def __init__(self) -> None:
        self._layout: _Layout | None = None
        self._dictionary_layouts: frozenset[_Layout] = frozenset()
        self._dictionary_bytes: dict[int, int] = {}

    def expect(self, schema: pa.Schema) -> None:
        """Set the schema that batches must be laid out for."""
        kinds: list[Any] = [field.type for field in schema]
        self._layout = sum(map(_layout, kinds), _Layout())
        self._dictionary_layouts = frozenset(
            _layout(value) for kind in kinds for value in _dictionary_types(kind)
        )

    def check(self, header: memoryview, body: memoryview) -> None:
        """Let a message pass. Raises InvalidArgumentError or ResourceExhaustedError."""
        try:
            message = _Table.root(header)
            kind, content = message.value(_HEADER_TYPE, "<B"), message.table(_HEADER)
            if content is None or kind == _SCHEMA:
                return
            if kind == _DICTIONARY:
                self._check_dictionary(content, body)
            elif kind == _BATCH:
                self._check_batch(content, body, {self._layout})
        except struct.error as error:
            raise InvalidArgumentError("the upload holds a malformed Arrow message") from error

    def _check_dictionary(self, content: _Table, body: memoryview) -> None:
        data, number = content.table(_DICTIONARY_DATA), content.value(_DICTIONARY_ID, "<q")
        if data is None:
            return
        size = self._check_batch(data, body, set(self._dictionary_layouts))
        if content.value(_DICTIONARY_IS_DELTA, "<B"):
            size += self._dictionary_bytes.get(number, 0)
        self._dictionary_bytes[number] = size
        if sum(self._dictionary_bytes.values()) > MAX_DECODED_BYTES:
            raise ResourceExhaustedError(
                f"the dictionaries of the upload hold more than {MAX_DECODED_BYTES} bytes: "
                "send the columns without dictionaries"
            )

    def _check_batch(self, batch: _Table, body: memoryview, layouts: set[_Layout | None]) -> int:
        """Return the bytes of a batch after decompression."""
        rows = batch.value(_LENGTH, "<q")
        if not 0 <= rows <= MAX_ROWS:
            raise ResourceExhaustedError(f"a batch has {rows} rows, more than {MAX_ROWS}: {_SMALLER}")
        buffers = batch.vector(_BUFFERS, _BUFFER_BYTES)
        variadic = sum(count for (count,) in struct.iter_unpack("<q", batch.vector(_VARIADIC, 8)))
        nodes = len(batch.vector(_NODES, _NODE_BYTES)) // _NODE_BYTES
        found = (nodes, len(buffers) // _BUFFER_BYTES - variadic)
        if layouts != {None} and found not in {(fit.nodes, fit.buffers) for fit in layouts if fit}:
            raise InvalidArgumentError(
                f"a batch has {found[0]} arrays of {found[1]} buffers, which is not the layout of "
                "the schema that the upload began with: every batch must have the schema's types"
            )
        if batch.table(_COMPRESSION) is None:
            return len(body)
        return _checked_size(_decompressed(buffers, body), len(body))


def _decompressed(buffers: memoryview, body: memoryview) -> int:
    """Return what compressed buffers become; each begins with that number, or with -1 where it is stored."""
    total = 0
    for offset, length in struct.iter_unpack("<qq", buffers):
        if offset < 0 or length < 0 or offset + length > len(body):
            raise struct.error("a buffer leads outside the body")
        if length >= 8:
            size: int = struct.unpack_from("<q", body, offset)[0]
            total += length if size < 0 else size
    return total


def _checked_size(decoded: int, sent: int) -> int:
    if decoded > MAX_DECODED_BYTES:
        raise ResourceExhaustedError(
            f"a batch of {sent} bytes becomes {decoded} when it is decompressed, "
            f"more than {MAX_DECODED_BYTES}: {_SMALLER}"
        )
    if decoded > max(_RATIO_FREE_BYTES, sent * _MAX_RATIO):
        raise ResourceExhaustedError(
            f"a batch of {sent} bytes becomes {decoded} when it is decompressed, more than "
            f"{_MAX_RATIO} times as much: send it uncompressed, or {_SMALLER}"
        )
    return decoded
