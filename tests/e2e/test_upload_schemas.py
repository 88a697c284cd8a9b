"""Schemas that Parquet and SQL do not share are refused with a reason, or stored as what they mean."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest

from tests import flight_sql

UUID = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16)))
JSON = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None]))


def put(client: Any, name: str, column: Any, column_name: str = "c") -> None:
    table = pa.table({column_name: column})
    writer, reader = client.do_put(pyarrow.flight.FlightDescriptor.for_path(name), table.schema)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()


def nothing(kind: Any) -> Any:
    return pa.array([None], kind)


def struct(**fields: Any) -> Any:
    return pa.StructArray.from_arrays([*fields.values()], names=[*fields])


REFUSED: dict[str, tuple[Any, str]] = {
    "NUL": (struct(**{"a\0b": pa.array([1])}), "name of field .* holds a NUL"),
    "NUL in a list": (nothing(pa.list_(pa.struct([("\0", pa.int8())]))), "name of field .* holds a NUL"),
    "empty name": (struct(**{"": pa.array([1])}), "every field needs a name that is not empty"),
    "same name": (struct(a=pa.array([1]), A=pa.array([2])), "fields 'a' and 'A' have the same name"),
    "no fields": (nothing(pa.struct([])), "struct<> cannot be stored: give the struct a field"),
    "no fields in a map": (nothing(pa.map_(pa.utf8(), pa.struct([]))), "give the struct a field"),
    "size 0": (nothing(pa.list_(pa.int32(), 0)), "size 0 hold nothing; use a list"),
    "list view": (nothing(pa.list_view(pa.int64())), "list_view<.*> cannot be stored: send it as list"),
    "large list view": (struct(v=nothing(pa.large_list_view(pa.utf8()))), "send it as list"),
    "39 digits": (nothing(pa.decimal128(38, -1)), "at most 38 digits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_schema_that_cannot_be_stored_is_refused(flight: Any, unique_name: str, case: str) -> None:
    column, text = REFUSED[case]
    with pytest.raises(pa.ArrowInvalid, match=f"column 'c': .*{text}"):
        put(flight, unique_name, column)
    with pytest.raises(pa.ArrowKeyError):
        flight_sql.query(flight, f"SELECT * FROM {unique_name}")


def test_a_column_name_with_a_nul_is_refused(flight: Any, unique_name: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=r"the name of column .* holds a NUL"):
        put(flight, unique_name, pa.array([1]), "a\0b")


TWELVE = pa.array([Decimal(12)], pa.decimal128(3, 0))
SMALL = pa.Array.from_buffers(pa.decimal128(3, 5), 1, TWELVE.buffers())
CENTS = [Decimal("1200"), None, Decimal("-300")]

STORED: dict[str, tuple[Any, list[Any]]] = {
    "negative scale": (pa.array(CENTS, pa.decimal128(20, 0)).cast(pa.decimal128(10, -2)), CENTS),
    "scale above precision": (SMALL, [Decimal("0.00012")]),
    "uuid": (UUID, ["30313233-3435-3637-3839-616263646566", None]),
    "json": (JSON, ['{"a": 1}', None]),
    "uuid and json in a list": (
        pa.ListArray.from_arrays([0, 2], struct(u=UUID, j=JSON)),
        [[{"u": b"0123456789abcdef", "j": '{"a": 1}'}, {"u": None, "j": None}]],
    ),
}


@pytest.mark.parametrize("case", STORED)
def test_a_type_without_a_counterpart_keeps_its_values(flight: Any, unique_name: str, case: str) -> None:
    column, values = STORED[case]
    put(flight, unique_name, column)
    assert flight_sql.query(flight, f"SELECT c FROM {unique_name}")["c"].to_pylist() == values
