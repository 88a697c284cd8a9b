"""FlightData framed by hand: what we write real readers read, and garbage is refused."""

from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.errors import InvalidArgumentError, ResourceExhaustedError
from flight_server.frames import flight_data
from flight_server.objects.upload import UploadReader


def messages_of(table: pa.Table, compression: str | None = None) -> list[bytes]:
    framer = flight_data.BatchFramer(table.schema, compression)
    framed = [piece for batch in table.to_batches() for piece in framer.frame(batch)]
    return [flight_data.schema_message(table.schema.serialize().to_pybytes()), *map(b"".join, framed)]


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_parts_come_back_as_they_were_framed(header: bytes, body: bytes, metadata: bytes) -> None:
    parts = flight_data.parse(b"".join(flight_data.pieces(header, body, metadata)))
    assert (bytes(parts.header), bytes(parts.body), bytes(parts.app_metadata)) == (header, body, metadata)
    assert bytes(parts.descriptor) == b""


@given(st.binary(max_size=64))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(InvalidArgumentError):
        assert len(flight_data.parse(data).body) <= len(data)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(range(1_000_000)),
        pa.array(["x" * 100_000] * 100),
        pa.array(["x" * 6_000_000, "y"]),
        pa.array([["a", "b"]] * 200_000).cast(pa.list_(pa.large_string())),
        pa.array(["a", "b"] * 500_000).dictionary_encode(),
        pa.array([{"e": "a"}] * 10).cast(pa.struct([("e", pa.dictionary(pa.int8(), pa.utf8()))])),
    ],
    ids=["numbers", "texts", "row above the limit", "lists", "dictionary", "nested dictionary"],
)
def test_batches_of_any_size_arrive_in_messages_below_the_limit(column: Any) -> None:
    table = pa.table({"c": column})
    messages = messages_of(table)
    longest_row = max((len(str(value)) for value in column[:3].to_pylist()), default=0)
    assert max(map(len, messages)) <= max(flight_data.MAX_OUTGOING_BYTES, longest_row + 1024)
    reader = UploadReader(iter(messages))
    assert pa.Table.from_batches(list(reader), reader.schema) == table


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_dictionaries_are_sent_once_and_again_when_they_change(compression: str | None) -> None:
    places = pa.array([0, 1, None] * 2_000, pa.int32())
    first, second = (
        pa.DictionaryArray.from_arrays(places, pa.array([f"{word} {i}" for i in range(1_000)]))
        for word in ("first", "second")
    )
    table = pa.table({"d": pa.chunked_array([first, first.slice(7, 9), second, second])})
    messages = messages_of(table, compression)
    assert len(messages) == 1 + 2 + 4  # the schema, two dictionaries, four batches
    reader = UploadReader(iter(messages))
    assert pa.Table.from_batches(list(reader), reader.schema).to_pydict() == table.to_pydict()


def test_a_row_larger_than_any_message_is_refused() -> None:
    size = flight_data.MAX_ROW_BYTES
    offsets = pa.py_buffer(b"".join(end.to_bytes(4, "little") for end in (0, size)))
    column = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.allocate_buffer(size)])
    framer = flight_data.BatchFramer(pa.schema({"c": pa.binary()}))
    with pytest.raises(ResourceExhaustedError, match="a row takes 2684"):
        next(framer.frame(pa.record_batch({"c": column})))


def test_a_message_cut_anywhere_is_refused() -> None:
    schema, batch = messages_of(pa.table({"s": ["abc", "def"], "i": [1, 2]}))
    for end in range(1, len(batch)):
        with pytest.raises(InvalidArgumentError):
            list(UploadReader(iter([schema, batch[:end]])))
