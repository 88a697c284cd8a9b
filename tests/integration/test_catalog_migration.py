"""The migration to canonical buckets, on real SQLite files."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flight_server.catalog.store import Catalog
from flight_server.domain.bucket import Bucket, BucketRegistry
from flight_server.domain.dataset import ChangeMode, DatasetChange, ImportedDataset, ObjectRef

REGISTRY = BucketRegistry(
    [
        Bucket("primary", "file:///primary", aliases=("", "data", "local")),
        Bucket("testing", "file:///testing"),
        Bucket("profile:user", "file:///user"),
        Bucket("a:b", "file:///ab"),
        Bucket("a.b", "file:///a.b"),
    ]
)
NOTHING_TO_DO = {"renamed": {}, "urls_rewritten": 0, "unknown": [], "duplicates": [], "dry_run": False}

Ref = tuple[str, str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def catalog(file: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{file}")
    yield opened
    opened.close()


@pytest.fixture
def contents(file: Path) -> Callable[[], list[str]]:
    """Everything the database holds, as SQL."""

    def dump() -> list[str]:
        connection = sqlite3.connect(file)
        lines = list(connection.iterdump())
        connection.close()
        return lines

    return dump


def dataset(
    id: str, *refs: Ref, namespace: str = "primary", name: str = "t", year: int = 2024
) -> ImportedDataset:
    objects = tuple(ObjectRef(bucket, key, 1, 1, None, managed=False) for bucket, key in refs)
    return ImportedDataset(id, namespace, name, datetime(year, 1, 1, tzinfo=UTC), objects)


def refs(catalog: Catalog, id: str) -> list[Ref]:
    return [(ref.bucket, ref.key) for ref in catalog.list_objects(id, 1)]


def test_aliases_are_renamed_once(catalog: Catalog, contents: Callable[[], list[str]]) -> None:
    written = [("data", f"{number}.parquet") for number in range(12)]
    catalog.import_datasets([dataset("d", *written, ("primary", "x"), ("primary", "y"))], "me")
    report = {**NOTHING_TO_DO, "total": 14, "renamed": {"data": 12}, "already_canonical": 2}
    assert catalog.migrate(REGISTRY, dry_run=False) == report
    assert {bucket for bucket, _ in refs(catalog, "d")} == {"primary"}
    assert catalog.newest_commit() == 2
    migrated = contents()
    assert any('INSERT INTO "migrations"' in line for line in migrated)
    assert catalog.migrate(REGISTRY, dry_run=False) == {**NOTHING_TO_DO, "total": 14, "already_canonical": 14}
    assert contents() == migrated
    assert catalog.newest_commit() == 2
    live = catalog.find_dataset(["primary"], "t", 2)
    assert live is not None
    assert (live.version, live.commit) == (1, 1)


def test_a_dry_run_reports_the_same_and_changes_nothing(
    catalog: Catalog, contents: Callable[[], list[str]]
) -> None:
    catalog.import_datasets([dataset("d", ("data", "1"), ("x", "2"), ("", "lakehouse://testing/3"))], "me")
    before = contents()
    planned = catalog.migrate(REGISTRY, dry_run=True)
    assert contents() == before
    assert planned["dry_run"] is True
    assert {**planned, "dry_run": False} == catalog.migrate(REGISTRY, dry_run=False)


def test_a_url_wins_over_the_bucket_field(catalog: Catalog) -> None:
    written = {
        ("data", "lakehouse://data/a/b.parquet"): ("primary", "a/b.parquet"),
        ("primary", "lakehouse://testing/1"): ("testing", "1"),
        ("testing", "lakehouse://profile:user/2"): ("profile:user", "2"),
        ("", "lakehouse-profile-user://3"): ("profile:user", "3"),
        ("nowhere", "lakehouse-testing://4//5"): ("testing", "4//5"),
        ("testing", "lakehouse-testing://6"): ("testing", "6"),
        ("testing", "lakehouse-plain/7"): ("testing", "lakehouse-plain/7"),
        ("data", "lakehouse://data/"): ("primary", "lakehouse://data/"),
        ("data", "LAKEHOUSE://data/8"): ("primary", "LAKEHOUSE://data/8"),
    }
    catalog.import_datasets([dataset("d", *written)], "me")
    report = catalog.migrate(REGISTRY, dry_run=False)
    assert refs(catalog, "d") == list(written.values())
    assert report["urls_rewritten"] == 6
    assert report["renamed"] == {"": 1, "data": 3, "nowhere": 1, "primary": 1, "testing": 1}
    assert report["already_canonical"] == 2
    assert report["total"] == len(written)


def test_unknown_names_are_reported_as_written_and_left_alone(catalog: Catalog) -> None:
    written = [
        ("x", "1"),
        ("x", "2"),
        ("Data", "3"),
        ("primary", "lakehouse://gone/4"),
        ("data", "lakehouse-a-b://5"),
        ("data", "lakehouse-gone://6"),
    ]
    catalog.import_datasets([dataset("d", *written)], "me")
    report = catalog.migrate(REGISTRY, dry_run=False)
    counts = {"Data": 1, "gone": 1, "lakehouse-a-b": 1, "lakehouse-gone": 1, "x": 2}
    assert report["unknown"] == [{"bucket": name, "count": count} for name, count in counts.items()]
    assert (report["total"], report["renamed"], report["already_canonical"]) == (6, {}, 0)
    assert refs(catalog, "d") == written
    assert catalog.newest_commit() == 1


PARTS = st.sampled_from(
    [
        "lakehouse",
        "-",
        "://",
        ":",
        "/",
        "data",
        "testing",
        "profile:user",
        "profile-user",
        "a-b",
        "ä",
        "x",
        "\n",
    ]
)
TEXTS = st.lists(PARTS, max_size=4).map("".join)
KEYS = st.one_of(
    TEXTS,
    st.builds("lakehouse://{}/{}".format, st.one_of(PARTS, TEXTS), TEXTS),
    st.builds("lakehouse-{}://{}".format, st.one_of(PARTS, TEXTS), TEXTS),
)
BUCKETS = st.sampled_from(["", "data", "local", "primary", "testing", "profile:user", "unknown"])


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(BUCKETS, KEYS), max_size=40, unique=True))
def test_sql_and_the_registry_agree_about_every_ref(
    tmp_path_factory: pytest.TempPathFactory, written: list[Ref]
) -> None:
    catalog = Catalog.open(f"sqlite:///{tmp_path_factory.mktemp('refs') / 'catalog.db'}")
    catalog.import_datasets([dataset("d", *written)], "me")
    report = catalog.migrate(REGISTRY, dry_run=False)
    located = [REGISTRY.locate(*ref) for ref in written]
    expected = [
        ref if canonical is None else (canonical, key)
        for ref, (canonical, _, key) in zip(written, located, strict=True)
    ]
    assert refs(catalog, "d") == expected
    assert report["total"] == len(written)
    unknown = [name for canonical, name, _ in located if canonical is None]
    assert report["unknown"] == [
        {"bucket": name, "count": unknown.count(name)} for name in sorted(set(unknown))
    ]
    catalog.close()


def test_namespaces_under_an_alias_join_the_canonical_one_and_the_newest_keeps_the_name(
    catalog: Catalog, contents: Callable[[], list[str]]
) -> None:
    catalog.import_datasets(
        [
            dataset("old", ("data", "1"), namespace="data", name="T", year=2020),
            dataset("new", ("primary", "2"), year=2024),
            dataset("other", ("data", "3"), namespace="data", name="other"),
            dataset("newest", ("data", "4"), namespace="local", year=2025),
        ],
        "me",
    )
    report = catalog.migrate(REGISTRY, dry_run=False)
    duplicates = [{"dataset": "t", "ids": ["old", "new", "newest"], "kept": "newest"}]
    assert report["duplicates"] == duplicates
    assert catalog.list_names(2) == [("primary", "other"), ("primary", "t")]
    live = catalog.find_dataset(["primary"], "t", 2)
    assert live is not None
    assert live.id == "newest"
    migrated = contents()
    again = {**NOTHING_TO_DO, "total": 4, "already_canonical": 4, "duplicates": duplicates}
    assert catalog.migrate(REGISTRY, dry_run=False) == again
    assert contents() == migrated


def test_a_schema_that_somebody_made_keeps_its_name(catalog: Catalog) -> None:
    made = DatasetChange("local", "t", "testing", ChangeMode.CREATE, "d", None, b"", ())
    catalog.commit([made], "me", "create")
    catalog.migrate(REGISTRY, dry_run=False)
    assert catalog.list_names(1) == [("local", "t")]
    assert catalog.newest_commit() == 1
