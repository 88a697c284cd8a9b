"""Reads manifests of catalogs that were written before buckets existed.

Two forms, told apart by the file's first bytes. JSON:

    {"datasets": [{"id", "name", "created_at",
                   "objects": [{"bucket"?, "key", "size_bytes", "created_at"?}]}]}

The same flattened as Parquet, one row for each object, with the columns `dataset_id` (or `id`),
`dataset_name` (or `name`), `dataset_created_at` (or `created_at`), `bucket` (may be null or absent), `key`
and `size_bytes`; a row whose key is null stands for a dataset without objects.

Moments are ISO 8601 texts (in Parquet timestamps too), UTC unless they say otherwise. When an object was
created is not read. Other fields and columns are ignored.

A manifest may be larger than memory: it is read in pieces, except for the objects of a JSON dataset that
come before its `id`, `name` and `created_at`.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pyarrow import parquet

from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.json_stream import JsonStream
from flight_server.errors import InvalidArgumentError

_PARQUET_MAGIC = b"PAR1"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_MAX_BYTES = 2**63 - 1
_HEADER = {"id", "name", "created_at"}
_PIECE_OBJECTS = 1_000
_BATCH_ROWS = 10_000
_BUFFER_BYTES = 1024 * 1024

# Only the key behind the bucket matters here, and that needs no configured buckets.
_URLS = BucketRegistry(())

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LegacyObject:
    """One stored object; `bucket` is "" where the manifest names none, `key` may be a legacy URL."""

    bucket: str
    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LegacyDataset:
    """One dataset of a manifest, or a piece of one; its objects stand in the manifest's order."""

    id: str
    name: str
    created_at: datetime
    objects: tuple[LegacyObject, ...]


def read_manifest(path: Path) -> Iterator[LegacyDataset]:
    """Read a manifest in pieces; those with the same id are one dataset with all their objects.

    Raises InvalidArgumentError, which names the entry and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    except OSError as error:
        raise InvalidArgumentError(f"the manifest {path.name} cannot be read: {error.strerror}") from error
    return _parquet_entries(path) if is_parquet else _json_entries(path)


def _json_entries(path: Path) -> Iterator[LegacyDataset]:
    try:
        with path.open("rb") as text:
            if text.read(len(BOM_UTF8)) != BOM_UTF8:
                text.seek(0)
            yield from _json_document(JsonStream(text))
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"the manifest is neither Parquet nor JSON: {error}") from error


def _json_document(stream: JsonStream) -> Iterator[LegacyDataset]:
    names = []
    for name in stream.members() if stream.is_object else _not_read(stream):
        names.append(name)
        if name != "datasets":
            stream.value()
            continue
        for number, _ in enumerate(stream.items() if stream.is_list else _list(stream.value(), name)):
            yield from _json_dataset(stream, f"datasets[{number}]")
    if "datasets" not in names:
        raise InvalidArgumentError('the manifest must be a JSON object {"datasets": [...]}')


def _not_read(stream: JsonStream) -> Iterator[str]:
    stream.value()
    yield from ()


def _json_dataset(stream: JsonStream, where: str) -> Iterator[LegacyDataset]:
    """Yield a dataset in pieces; `fields` is complete for each when the objects come last."""
    fields: dict[str, Any] = {} if stream.is_object else _object(stream.value(), where)
    objects: list[LegacyObject] = []
    for name in stream.members():
        if name != "objects" or not stream.is_list:
            fields[name] = stream.value()
            continue
        fields[name] = []
        for number, _ in enumerate(stream.items()):
            objects.append(_json_object(stream.value(), f"{where}.objects[{number}]"))
            if len(objects) >= _PIECE_OBJECTS and fields.keys() >= _HEADER:
                yield _dataset(fields, where, objects)
                objects = []
    _list(fields.get("objects"), f"{where}.objects")
    yield _dataset(fields, where, objects)


def _dataset(fields: dict[str, Any], where: str, objects: list[LegacyObject]) -> LegacyDataset:
    return LegacyDataset(
        _field(fields, "id", where, _ID_RULE),
        _field(fields, "name", where, _NAME_RULE),
        _field(fields, "created_at", where, _MOMENT_RULE),
        tuple(objects),
    )


def _json_object(item: object, where: str) -> LegacyObject:
    fields = _object(item, where)
    return LegacyObject(
        _field(fields, "bucket", where, _BUCKET_RULE),
        _field(fields, "key", where, _KEY_RULE),
        _field(fields, "size_bytes", where, _SIZE_RULE),
    )


def _object(value: object, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _wrong(where, value, "a JSON object")


def _list(value: object, where: str) -> list[Any]:
    if isinstance(value, list):
        return value
    raise _wrong(where, value, "a list")


_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("dataset_id", "id"),
    "name": ("dataset_name", "name"),
    "created_at": ("dataset_created_at", "created_at"),
    "bucket": ("bucket",),
    "key": ("key",),
    "size_bytes": ("size_bytes",),
}
"""Field → the columns that may hold it, the first that exists counts."""


def _parquet_entries(path: Path) -> Iterator[LegacyDataset]:
    try:
        # A buffer keeps row groups, which may be the whole file, from being read at once.
        with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            columns = _columns(file.schema_arrow.names)
            start = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns.values())):
                values = {field: _values(batch.column(name)) for field, name in columns.items()}
                yield from _parquet_rows(values, start, batch.num_rows)
                start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InvalidArgumentError("the manifest begins like Parquet but cannot be read as such") from error


def _values(column: "pa.Array[Any]") -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # Python has no nanoseconds; a moment without a time zone is UTC.
        column = column.cast(pa.timestamp("us", tz="UTC"), safe=False)
    return column.to_pylist()


def _columns(names: list[str]) -> dict[str, str]:
    found = {}
    for field, accepted in _COLUMNS.items():
        name = next((name for name in accepted if name in names), None)
        if name is not None:
            found[field] = name
        elif field != "bucket":
            raise InvalidArgumentError(f"the manifest has no column {' or '.join(accepted)}")
    return found


def _parquet_rows(values: dict[str, list[Any]], start: int, rows: int) -> Iterator[LegacyDataset]:
    def header(number: int) -> tuple[Any, ...]:
        return tuple(values[field][number] for field in ("id", "name", "created_at"))

    for _, numbers in groupby(range(rows), key=header):
        objects = []
        for number in numbers:
            fields = {field: column[number] for field, column in values.items()}
            where = f"row {start + number}"
            objects += [] if fields["key"] is None else [_json_object(fields, where)]
        yield _dataset(fields, where, objects)


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _bucket(value: object) -> str | None:
    if value is None:
        return ""
    return value if isinstance(value, str) and not _UNSTORABLE.search(value) else None


def _size(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MAX_BYTES else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _key(value: object) -> str | None:
    if not isinstance(value, str) or _UNSTORABLE.search(value):
        return None
    _, key = _URLS.split_legacy_url(value) or ("", value)
    is_inside = key and not key.startswith("/") and ".." not in key.split("/")
    return value if is_inside and "\\" not in key and "://" not in key else None


@dataclass(frozen=True, slots=True)
class _Rule(Generic[_T]):
    """How a field is checked: the value, or None when it is not what `wanted` says."""

    check: Callable[[object], _T | None]
    wanted: str


_ID_RULE = _Rule(_id, "1 to 128 letters, digits, '_', '.' and '-', the first one a letter or digit")
_NAME_RULE = _Rule(_name, "a text of 1 to 255 characters without control characters")
_BUCKET_RULE = _Rule(_bucket, "a text, null or absent")
_SIZE_RULE = _Rule(_size, "a number of bytes: a whole number from 0")
_MOMENT_RULE = _Rule(_moment, "a moment in ISO 8601, such as 2024-05-01T12:00:00Z")
_KEY_RULE = _Rule(
    _key,
    "a key under the bucket's root, or lakehouse://<bucket>/<key>; "
    "a key is not absolute and holds no '..' part, backslash, NUL or '://'",
)


def _field(fields: dict[str, Any], name: str, where: str, rule: _Rule[_T]) -> _T:
    value = fields.get(name)
    checked = rule.check(value)
    if checked is None:
        raise _wrong(f"{where}.{name}", value, rule.wanted)
    return checked


def _wrong(where: str, value: object, wanted: str) -> InvalidArgumentError:
    shown = "missing" if value is None else repr(value)[:80]
    return InvalidArgumentError(f"the manifest is wrong at {where}: it is {shown}, and must be {wanted}")
