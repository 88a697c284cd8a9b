"""Rows of CommandGetXdbcTypeInfo: DuckDB's types in the words of ODBC and JDBC."""

from collections.abc import Iterator
from operator import itemgetter

import pyarrow as pa

from flight_server.domain.sql_types import SQL_TYPES, SqlType
from flight_server.services import rows

_NULLABLE = 1
_SEARCHABLE_BASIC, _SEARCHABLE_FULL = 2, 3
_RADIX = 10

_TEXT, _NUMBER, _FLAG = pa.utf8(), pa.int32(), pa.bool_()

SCHEMA = rows.schema(
    ("type_name", _TEXT, rows.REQUIRED),
    ("data_type", _NUMBER, rows.REQUIRED),
    ("column_size", _NUMBER, rows.OPTIONAL),
    ("literal_prefix", _TEXT, rows.OPTIONAL),
    ("literal_suffix", _TEXT, rows.OPTIONAL),
    ("create_params", pa.list_(pa.field("item", _TEXT, nullable=False)), rows.OPTIONAL),
    ("nullable", _NUMBER, rows.REQUIRED),
    ("case_sensitive", _FLAG, rows.REQUIRED),
    ("searchable", _NUMBER, rows.REQUIRED),
    ("unsigned_attribute", _FLAG, rows.OPTIONAL),
    ("fixed_prec_scale", _FLAG, rows.REQUIRED),
    ("auto_increment", _FLAG, rows.OPTIONAL),
    ("local_type_name", _TEXT, rows.OPTIONAL),
    ("minimum_scale", _NUMBER, rows.OPTIONAL),
    ("maximum_scale", _NUMBER, rows.OPTIONAL),
    ("sql_data_type", _NUMBER, rows.REQUIRED),
    ("datetime_subcode", _NUMBER, rows.OPTIONAL),
    ("num_prec_radix", _NUMBER, rows.OPTIONAL),
    ("interval_precision", _NUMBER, rows.OPTIONAL),
)
"""Order and nullability are those of arrow-go's `schema_ref`."""


def _row(name: str, sql_type: SqlType) -> tuple[object, ...]:
    is_number = sql_type.is_unsigned is not None
    prefix, suffix = sql_type.literal
    smallest, largest = sql_type.scales or (None, None)
    return (
        name,
        sql_type.data_type,
        sql_type.size,
        prefix,
        suffix,
        list(sql_type.parameters) or None,
        _NULLABLE,
        sql_type.is_text,
        _SEARCHABLE_FULL if sql_type.is_text else _SEARCHABLE_BASIC,
        sql_type.is_unsigned,
        False,  # no type has a precision and scale of its own, as money types have
        False if is_number else None,  # no column counts by itself
        None,  # names are not translated
        smallest,
        largest,
        sql_type.sql_data_type,
        sql_type.datetime_subcode,
        _RADIX if is_number and sql_type.size is not None else None,
        None,  # intervals have no leading field whose digits could be counted
    )


def type_info(data_type: int | None) -> Iterator[bytes]:
    """Yield the types, as FlightData messages; those of one XDBC data type unless it is None."""
    wanted = [
        _row(name, sql_type)
        for name, sql_type in SQL_TYPES.items()
        if data_type in (None, sql_type.data_type)
    ]
    columns = [*zip(*sorted(wanted, key=itemgetter(1, 0)), strict=True)] or [()] * len(SCHEMA)
    yield from rows.messages(rows.batch(SCHEMA, columns))
