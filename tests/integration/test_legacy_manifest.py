"""Manifests of catalogs that were written before buckets existed, read from real files."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.catalog import legacy
from flight_server.catalog.legacy import LegacyDataset, LegacyObject
from flight_server.errors import InvalidArgumentError

MADE = datetime(2024, 5, 1, 12, tzinfo=UTC)


def read_manifest(path: Path) -> list[LegacyDataset]:
    return list(legacy.read_manifest(path))


def item(key: object = "a.parquet", **fields: object) -> dict[str, object]:
    return {"key": key, "size_bytes": 7, "created_at": "2024-05-01T12:00:00Z", **fields}


def entry(*objects: object, **fields: object) -> dict[str, object]:
    return {"id": "i", "name": "people", "created_at": "2024-05-01T12:00:00Z", "objects": objects, **fields}


def write_json(folder: Path, *entries: object) -> Path:
    path = folder / "manifest.bin"
    path.write_text(json.dumps({"datasets": entries}))
    return path


def write_parquet(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "manifest.bin"
    pq.write_table(pa.table(columns), path)
    return path


def test_json_and_parquet_say_the_same(tmp_path: Path) -> None:
    expected = [
        LegacyDataset("i", "people", MADE, (LegacyObject("", "a.parquet", 7), LegacyObject("data", "b", 8))),
        LegacyDataset("j", "empty", MADE, ()),
    ]
    people = entry(item(), item("b", bucket="data", size_bytes=8))
    assert read_manifest(write_json(tmp_path, people, entry(id="j", name="empty"))) == expected
    columns = {
        "dataset_id": ["i", "i", "j"],
        "dataset_name": ["people", "people", "empty"],
        "dataset_created_at": pa.array([MADE] * 3, pa.timestamp("ns", tz="Europe/Berlin")),
        "bucket": [None, "data", None],
        "key": ["a.parquet", "b", None],
        "size_bytes": [7, 8, None],
        "created_at": pa.array([MADE] * 3, pa.timestamp("us", tz="UTC")),
    }
    assert read_manifest(write_parquet(tmp_path, columns)) == expected
    short = {
        "id": columns["dataset_id"],
        "name": columns["dataset_name"],
        "created_at": ["2024-05-01T12:00:00", "2024-05-01T14:00:00+02:00", "2024-05-01T12:00:00Z"],
        "key": columns["key"],
        "size_bytes": columns["size_bytes"],
    }
    first, second, _ = read_manifest(write_parquet(tmp_path, short))
    assert first.created_at == second.created_at == MADE
    assert [found.bucket for found in first.objects + second.objects] == ["", ""]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_large_dataset_comes_in_pieces_or_as_a_whole_when_its_fields_come_last(
    tmp_path: Path, is_first: bool
) -> None:
    items = [item(f"{at}.parquet", note="é" * 200) for at in range(5_000)]
    fields = entry(*items)
    ordered = fields if is_first else dict(reversed(fields.items()))
    path = write_json(tmp_path, ordered, entry(item("z")), {**entry(id="j"), "x": [{"objects": [1.5e3]}]})
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, indent=1), encoding="utf-8")
    found = read_manifest(path)
    assert [len(piece.objects) for piece in found] == ([1_000] * 5 + [0] if is_first else [5_000]) + [1, 0]
    keys = [stored.key for piece in found for stored in piece.objects]
    assert keys == [f"{at}.parquet" for at in range(5_000)] + ["z"]


@pytest.mark.parametrize(
    "key", ["a/b.parquet", "a..b/..c", "lakehouse://data/x", "lakehouse-profile-user://x"]
)
def test_keys_stand_as_written(tmp_path: Path, key: str) -> None:
    (found,) = read_manifest(write_json(tmp_path, entry(item(key))))
    assert found.objects == (LegacyObject("", key, 7),)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "a\\b",
        "a\0b",
        "lakehouse://data//etc/passwd",
        "lakehouse://data/../x",
        "lakehouse-testing:///x",
        "lakehouse://data/",
        "lakehouse://data/lakehouse://testing/x",
        "file:///etc/passwd",
        None,
        7,
    ],
)
def test_keys_that_leave_the_root_are_refused(tmp_path: Path, key: object) -> None:
    text = r"at datasets\[1\]\.objects\[2\]\.key: .* must be a key under the bucket's root"
    path = write_json(tmp_path, entry(), entry(item(), item("b"), item(key)))
    with pytest.raises(InvalidArgumentError, match=text):
        read_manifest(path)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (entry(id="../x"), r"datasets\[0\]\.id: it is '\.\./x', and must be 1 to 128 letters"),
        (entry(name=""), r"datasets\[0\]\.name: it is ''"),
        (entry(created_at="yesterday"), r"datasets\[0\]\.created_at: .* ISO 8601"),
        (entry(created_at=1714564800), r"datasets\[0\]\.created_at"),
        (entry(objects=None), r"datasets\[0\]\.objects: it is missing, and must be a list"),
        (entry("a.parquet"), r"datasets\[0\]\.objects\[0\]: it is 'a\.parquet', and must be a JSON object"),
        (entry(item(size_bytes=-1)), r"objects\[0\]\.size_bytes: it is -1, and must be a number of bytes"),
        (entry(item(size_bytes=True)), r"size_bytes"),
        (entry(item(size_bytes=2**63)), r"integer overflow"),
        (entry(item(bucket=1)), r"objects\[0\]\.bucket: it is 1, and must be a text"),
        ([], r"datasets\[0\]: it is \[\], and must be a JSON object"),
    ],
)
def test_a_malformed_entry_is_named(tmp_path: Path, wrong: object, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        read_manifest(write_json(tmp_path, wrong))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "neither Parquet nor JSON"),
        (b'{"datasets": [', "neither Parquet nor JSON: "),
        (b"\xff\xfe\x00", "neither Parquet nor JSON"),
        (b"[" * 100_000, "neither Parquet nor JSON"),
        (b"[]", r"must be a JSON object \{\"datasets\": \[\.\.\.\]\}"),
        (b'{"datasets": {}}', "at datasets: it is {}, and must be a list"),
        (b"PAR1 and nothing more", "begins like Parquet"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=text):
        read_manifest(path)


def test_parquet_errors_name_the_row_or_the_column(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "dataset_id": ["i", "i"],
        "dataset_name": ["people", "people"],
        "dataset_created_at": [MADE, MADE],
        "key": ["a", "../b"],
        "size_bytes": [1, 2],
    }
    with pytest.raises(InvalidArgumentError, match=r"row 1\.key: it is '\.\./b'"):
        read_manifest(write_parquet(tmp_path, columns))
    del columns["dataset_id"]
    with pytest.raises(InvalidArgumentError, match="no column dataset_id or id"):
        read_manifest(write_parquet(tmp_path, columns))


def test_a_missing_manifest_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^the manifest none\.json cannot be read: No such file"):
        read_manifest(tmp_path / "none.json")


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["datasets", "id", "name", "created_at", "objects", "key"]), inner)
    ),
    max_leaves=15,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_any_json_is_read_or_refused(tmp_path: Path, document: object) -> None:
    path = write_json(tmp_path, document)
    with suppress(InvalidArgumentError):
        read_manifest(path)
