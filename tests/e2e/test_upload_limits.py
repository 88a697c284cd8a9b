"""What an upload's messages may ask for, and that everything storable comes back as it went in."""

import datetime as dt
import decimal
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.errors import InvalidArgumentError
from flight_server.frames import flight_data
from flight_server.objects.upload import UploadReader
from flight_server.testing import Server
from tests import flight_sql

MIB = 1024 * 1024


def put(client: Any, name: str, batch: pa.RecordBatch, compression: str | None = None) -> None:
    options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression=compression))
    writer, reader = client.do_put(flight.FlightDescriptor.for_path(name), batch.schema, options)
    with writer:
        writer.write_batch(batch)
        writer.done_writing()
        reader.read()


def batch(column: Any) -> pa.RecordBatch:
    return pa.record_batch({"a": column})


def runs(value: Any, rows: int) -> Any:
    return pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), value)


def views(size: int, rows: int) -> Any:
    one = pa.array(["x" * size], pa.string_view())
    return pa.Array.from_buffers(
        pa.string_view(),
        rows,
        [None, pa.py_buffer(one.buffers()[1].to_pybytes()[:16] * rows), one.buffers()[2]],
    )


BOMBS = {
    "zstd": (lambda: batch(pa.repeat(0, 40 * MIB)), "zstd"),
    "zstd of a small batch": (lambda: batch(pa.repeat(0, 4 * MIB)), "zstd"),
    "nulls": (lambda: batch(pa.nulls(2**31 - 1)), None),
    "many columns of nulls": (lambda: pa.record_batch({f"c{i}": pa.nulls(2**24) for i in range(20)}), None),
    "runs": (lambda: batch(runs(pa.array([1]), 2**31 - 1)), None),
    "runs of texts": (lambda: batch(runs(pa.array(["x" * MIB]), 1_000)), None),
    "dictionary": (
        lambda: batch(pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), 1_000), ["x" * MIB])),
        None,
    ),
    "views": (lambda: batch(views(MIB, 1_000)), None),
}


def memory(server: Server) -> int:
    """Return the largest memory that the server and its engine processes have had, in bytes."""
    group = server.process.pid
    peak = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text, stat = status.read_text(), (status.parent / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[2]) == group and "VmHWM" in text:
            peak = max(peak, int(text.split("VmHWM:")[1].split()[0]) * 1024)
    return peak


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_message_cannot_become_a_large_batch(
    server: Server, flight: Any, unique_name: str, kind: str
) -> None:
    made, compression = BOMBS[kind]
    content, before = made(), memory(server)
    with pytest.raises(pa.ArrowException, match=r"RESOURCE_EXHAUSTED|smaller batches") as caught:
        put(flight, unique_name, content, compression)
    assert "Traceback" not in str(caught.value)
    assert memory(server) < before + 200 * MIB
    put(flight, unique_name, batch([1]))


def test_a_batch_of_other_types_than_the_schema_is_invalid() -> None:
    """No client sends one, so its messages are made by hand."""
    number, text = (batch(values) for values in ([1, 2], ["x", "y"]))

    def messages() -> Iterator[bytes]:
        yield flight_data.schema_message(number.schema.serialize().to_pybytes())
        for pieces in flight_data.BatchFramer(text.schema).frame(text):
            yield b"".join(pieces)

    with pytest.raises(InvalidArgumentError, match="1 arrays of 3 buffers, which is not the layout"):
        list(UploadReader(messages()))


class _Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_pickled_extension_type_is_not_unpickled(flight: Any, unique_name: str, tmp_path: Path) -> None:
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(_Evil(tmp_path / "ran")),
    }
    field = pa.field("a", pa.int64(), metadata=metadata)
    put(flight, unique_name, pa.record_batch([pa.array([1])], schema=pa.schema([field])))
    assert not (tmp_path / "ran").exists()


def test_dictionaries_may_grow_and_be_replaced(flight: Any, unique_name: str) -> None:
    kind = pa.dictionary(pa.int8(), pa.utf8())
    for emits_deltas, words in ((True, [["a"], ["a", "b"]]), (False, [["a"], ["c", "d"]])):
        name = f"{unique_name}_{emits_deltas}".lower()
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=emits_deltas)
        writer, reader = flight.do_put(
            pa.flight.FlightDescriptor.for_path(name),
            pa.schema([("a", kind)]),
            pa.flight.FlightCallOptions(write_options=options),
        )
        with writer:
            for dictionary in words:
                indices = pa.array(range(len(dictionary)), pa.int8())
                writer.write_batch(batch(pa.DictionaryArray.from_arrays(indices, dictionary)))
            writer.done_writing()
            reader.read()
        found = flight_sql.query(flight, f"SELECT a FROM {name}").column("a").to_pylist()
        assert found == [word for dictionary in words for word in dictionary]


def test_messages_of_metadata_alone_and_empty_batches_are_passed_over(flight: Any, unique_name: str) -> None:
    rows = batch([1, 2, 3])
    writer, reader = flight.do_put(pa.flight.FlightDescriptor.for_path(unique_name), rows.schema)
    with writer:
        for sent in (rows.slice(0, 0), rows.slice(1, 1), rows.slice(3), rows.slice(2)):
            writer.write_metadata(b"note")
            writer.write_batch(sent)
        writer.done_writing()
        reader.read()
    assert flight_sql.query(flight, f"SELECT a FROM {unique_name}").to_pylist() == [{"a": 2}, {"a": 3}]


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
MOMENT = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1))
STORABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float16(), st.floats(width=16, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.decimal128(20, 3), st.integers(-(10**19), 10**19).map(lambda n: decimal.Decimal(n).scaleb(-3))),
    (pa.utf8(), TEXT),
    (pa.large_utf8(), TEXT),
    (pa.string_view(), TEXT),
    (pa.binary(), st.binary(max_size=8)),
    (pa.binary(4), st.binary(min_size=4, max_size=4)),
    (pa.date32(), MOMENT.map(dt.datetime.date)),
    (pa.date64(), MOMENT.map(dt.datetime.date)),
    (pa.time64("us"), st.times()),
    (pa.timestamp("us"), MOMENT),
    (pa.timestamp("s"), MOMENT.map(lambda moment: moment.replace(microsecond=0))),
    (pa.dictionary(pa.int8(), pa.utf8()), TEXT),
    (pa.null(), st.none()),
    (pa.list_(pa.int32()), st.lists(st.none() | st.integers(0, 9), max_size=3)),
    (pa.large_list(pa.utf8()), st.lists(TEXT, max_size=3)),
    (pa.list_(pa.int8(), 2), st.lists(st.integers(0, 9), min_size=2, max_size=2)),
    (
        pa.struct([("x", pa.int32()), ("y", pa.utf8())]),
        st.fixed_dictionaries({"x": st.integers(0, 9), "y": TEXT}),
    ),
    (
        pa.map_(pa.utf8(), pa.int32()),
        st.dictionaries(TEXT, st.integers(0, 9), max_size=2).map(lambda d: [*d.items()]),
    ),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(0, 20))
    chosen = draw(st.lists(st.sampled_from(STORABLE), min_size=1, max_size=6))
    return pa.table(
        {
            f"c{place}": pa.array(draw(st.lists(st.none() | values, min_size=count, max_size=count)), kind)
            for place, (kind, values) in enumerate(chosen)
        }
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tables())
def test_what_was_put_comes_back_equal(flight: Any, table: pa.Table) -> None:
    name = f"round_trip_{uuid.uuid4().hex}"
    writer, reader = flight.do_put(pa.flight.FlightDescriptor.for_path(name), table.schema)
    with writer:
        writer.write_table(table.slice(0, table.num_rows // 2))
        writer.write_table(table.slice(table.num_rows // 2))
        writer.done_writing()
        reader.read()
    found = flight_sql.query(flight, f"SELECT * FROM {name}")
    assert found.to_pylist() == table.to_pylist()
