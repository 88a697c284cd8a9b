"""What the catalog lets a bucket with a quota hold."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from flight_server.catalog.store import Catalog
from flight_server.catalog.tables import object_refs
from flight_server.domain.bucket import Bucket
from flight_server.domain.dataset import ChangeMode, CommitRequest, DatasetChange, StoredObject
from flight_server.errors import QuotaExceededError


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with a bucket that may hold 1,000 bytes, which had another name once."""
    opened = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    buckets = {"testing": Bucket("testing", tmp_path.as_uri(), ("old",), quota_bytes=1_000)}
    opened.quotas.find = buckets.get
    yield opened
    opened.close()


def change(
    name: str, size: int, mode: ChangeMode = ChangeMode.CREATE, bucket: str = "testing"
) -> DatasetChange:
    objects = (StoredObject(f"_objects/{name}/{mode}{size}", 1, size, "sha256:00"),)
    return DatasetChange(bucket, name, bucket, mode, f"id of {name}", None, b"schema", objects)


def commit(catalog: Catalog, *changes: DatasetChange) -> None:
    catalog.commit(changes, "ann", "")


def test_a_commit_needs_room_for_all_that_it_brings(catalog: Catalog) -> None:
    assert catalog.quotas.room("primary") is None
    commit(catalog, change("a", 400))
    commit(catalog, change("elsewhere", 5_000, bucket="primary"))
    said = r"testing may hold 1000 bytes \(its quota_bytes\) and holds 400, .* so 601 more have no room"
    with pytest.raises(QuotaExceededError, match=said):
        commit(catalog, change("b", 300), change("c", 301))
    commit(catalog, change("b", 300), change("c", 300))
    assert (catalog.quotas.room("testing"), catalog.quotas.used()) == (
        0,
        {"testing": 1_000, "primary": 5_000},
    )
    # What compaction writes is gone again when the versions before it are.
    commit(catalog, replace(change("d", 50), is_upkeep=True))
    assert (catalog.quotas.room("testing"), catalog.quotas.used()["testing"]) == (0, 1_050)


def test_of_commits_made_together_those_have_room_that_come_first(catalog: Catalog) -> None:
    sizes = (600, 500, 400, 1)
    requests = [CommitRequest((change(f"t{size}", size),), "ann", "") for size in sizes]
    outcomes = catalog.commit_all(requests)
    assert [isinstance(outcome, QuotaExceededError) for outcome in outcomes] == [False, True, False, True]


def test_what_another_process_commits_counts(catalog: Catalog, tmp_path: Path) -> None:
    commit(catalog, change("a", 400))
    other = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    other.commit([change("b", 500, bucket="old")], "bob", "")
    other.close()
    assert catalog.quotas.room("testing") == 100
    with pytest.raises(QuotaExceededError):
        commit(catalog, change("c", 101))


def test_what_another_process_swept_and_wrote_again_counts_once(catalog: Catalog, tmp_path: Path) -> None:
    commit(catalog, change("a", 400))
    commit(catalog, change("b", 500))
    assert catalog.quotas.room("testing") == 100
    other = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    with other._write() as connection:
        connection.execute(delete(object_refs).where(object_refs.c.bytes == 500))
    assert catalog.quotas.room("testing") == 600
    other.commit([change("c", 350)], "bob", "")
    other.close()
    assert catalog.quotas.room("testing") == 250
