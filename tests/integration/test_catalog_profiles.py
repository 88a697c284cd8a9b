"""Profiles and records of indexes in the catalog: commits of their own, compare-and-set, leases."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from flight_server.catalog.store import Catalog
from flight_server.catalog.summaries import FORGOTTEN
from flight_server.domain.dataset import ChangeMode, DatasetChange, Kind, StoredObject
from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.errors import AlreadyExistsError, ConflictError, FailedPreconditionError, NotFoundError

BUCKET = "profile:ann"
RECORD = IndexRecord(
    id="i1",
    dataset_id="d1",
    bucket=BUCKET,
    column="vector",
    kind=IndexKind.HNSW_SQ,
    metric=Metric.COSINE,
    table="t1",
    lance_version=3,
    dataset_version=1,
    rows=10,
    dim=4,
    bytes=100,
    params={"m": 16},
    search={"ef": 64},
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield opened
    opened.close()


def change(bucket: str, key: str, base: int | None = None) -> DatasetChange:
    mode = ChangeMode.CREATE if base is None else ChangeMode.APPEND
    objects = (StoredObject(f"_objects/d1/{key}", 1, 10, "sha256:00"),)
    return DatasetChange(BUCKET, "docs", bucket, mode, "d1", base, b"schema", objects)


def test_a_profile_is_there_once_and_changes_are_told_by_commit(catalog: Catalog) -> None:
    vectors = catalog.vectors
    made = vectors.create_profile("ann", "local")
    assert catalog.newest_commit() == made
    with pytest.raises(AlreadyExistsError):
        vectors.create_profile("ann", "local")
    dropped = vectors.drop_profile("ann", "local")
    with pytest.raises(NotFoundError):
        vectors.drop_profile("ann", "local")
    assert (vectors.profiles_since(made), vectors.profiles_since(dropped)) == ([("ann", False)], [])
    vectors.create_profile("ann", "local")
    assert vectors.profiles_since(dropped) == [("ann", True)]
    assert [row.name for row in vectors.profiles()] == ["ann"]


def test_a_drop_forgets_all_of_a_bucket_and_refuses_what_comes_too_late(catalog: Catalog) -> None:
    catalog.vectors.create_profile("ann", "local")
    (first,) = catalog.commit([change(BUCKET, "1")], "local", "")
    catalog.vectors.put_index(RECORD, None, "local", "docs")
    catalog.vectors.drop_profile("ann", "local")
    assert catalog.find_dataset([BUCKET], "docs", first.commit) is None
    assert (catalog.refs_after(0, 10), catalog.vectors.all_indexes(BUCKET)) == ([], [])
    with pytest.raises(ConflictError, match="profile ann was dropped meanwhile"):
        catalog.commit([change(BUCKET, "2")], "local", "")


def test_words_about_what_was_dropped_do_not_stay_in_commits_that_others_see(catalog: Catalog) -> None:
    catalog.vectors.create_profile("ann", "local")
    other = DatasetChange("testing", "t", "testing", ChangeMode.CREATE, "d2", None, b"s", ())
    (alone,) = catalog.commit([other], "local", "create testing.t")
    (both, _) = catalog.commit(
        [replace(other, mode=ChangeMode.APPEND, base_version=1), change(BUCKET, "1")], "local", "t, docs"
    )
    assert catalog.commit_buckets(both.commit, both.commit) == {both.commit: {"testing", BUCKET}}
    catalog.vectors.drop_profile("ann", "local")
    assert catalog.commit_buckets(both.commit, both.commit) == {both.commit: {"testing"}}
    summaries = {row.id: row.summary for row in catalog.system_rows("commits", None, 100)}
    assert (summaries[alone.commit], summaries[both.commit]) == ("create testing.t", FORGOTTEN)


def test_commits_that_make_and_drop_schemas_are_of_their_buckets_too(catalog: Catalog) -> None:
    space = DatasetChange("s", "", "hidden", ChangeMode.CREATE, "", None, b"", (), kind=Kind.SCHEMA)
    table = DatasetChange("testing", "t", "testing", ChangeMode.CREATE, "d2", None, b"s", ())
    made, _ = catalog.commit([table, space], "local", "")
    more, gone = replace(table, mode=ChangeMode.APPEND, base_version=1), replace(space, mode=ChangeMode.DROP)
    dropped, _ = catalog.commit([more, gone], "local", "")
    for commit in (made.commit, dropped.commit):
        assert catalog.commit_buckets(commit, commit) == {commit: {"testing", "hidden"}}


def test_commits_of_a_schema_that_was_there_before_are_nobodys(catalog: Catalog) -> None:
    space = DatasetChange("s", "", "testing", ChangeMode.CREATE, "", None, b"", (), kind=Kind.SCHEMA)
    table = DatasetChange("s", "secret", "testing", ChangeMode.CREATE, "d2", None, b"s", ())
    catalog.commit([space], "local", "")
    (made,) = catalog.commit([table], "local", "create s.secret")
    assert catalog.commit_buckets(made.commit, made.commit) == {made.commit: {"testing"}}
    catalog.commit([replace(table, mode=ChangeMode.DROP, base_version=1)], "local", "")
    catalog.commit([replace(space, mode=ChangeMode.DROP)], "local", "")
    catalog.commit([replace(space, bucket="other")], "local", "")
    assert catalog.commit_buckets(made.commit, made.commit) == {}


def test_objects_that_others_use_keep_a_profile(catalog: Catalog) -> None:
    catalog.vectors.create_profile("ann", "local")
    other = DatasetChange("testing", "t", BUCKET, ChangeMode.CREATE, "d2", None, b"s", ())
    catalog.commit([replace(other, bucket="testing")], "local", "")
    moved = replace(other, mode=ChangeMode.APPEND, base_version=1, objects=change(BUCKET, "1").objects)
    catalog.commit([moved], "local", "")
    with pytest.raises(FailedPreconditionError, match="belong to 1 datasets elsewhere"):
        catalog.vectors.drop_profile("ann", "local")
    assert catalog.vectors.profiles_since(0) == [("ann", True)]


def test_records_change_only_from_what_they_were(catalog: Catalog) -> None:
    vectors = catalog.vectors
    catalog.commit([change(BUCKET, "1")], "local", "")
    vectors.put_index(RECORD, None, "local", "docs")
    assert (vectors.indexes("d1"), vectors.lagging()) == ((RECORD,), [])
    catalog.commit([change(BUCKET, "2", 1)], "local", "")
    assert vectors.lagging() == [(RECORD, 2)]
    after = replace(RECORD, lance_version=4, dataset_version=2)
    commit = vectors.advance_index(after, RECORD, "local", "docs")
    assert (catalog.newest_commit(), vectors.indexes("d1")) == (commit, (after,))
    with pytest.raises(ConflictError):
        vectors.advance_index(after, RECORD, "local", "docs")
    other = replace(RECORD, id="i2", table="t2")
    vectors.put_index(other, after, "local", "docs")
    with pytest.raises(ConflictError):
        vectors.put_index(replace(other, id="i3"), after, "local", "docs")
    assert vectors.indexes("d1") == (other,)
    assert vectors.unused_indexes() == [(after, True)]
    vectors.forget_index(after)
    assert (vectors.unused_indexes(), catalog.newest_commit()) == ([], commit + 1)


def test_a_lease_is_had_by_one_and_runs_out(tmp_path: Path, catalog: Catalog) -> None:
    other = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    assert catalog.vectors.acquire("x", "one", 60)
    assert catalog.vectors.acquire("x", "one", 60)
    assert not other.vectors.acquire("x", "two", 60)
    other.vectors.release("x", "two")
    assert not other.vectors.acquire("x", "two", 60)
    assert catalog.vectors.acquire("x", "one", -1)
    assert other.vectors.acquire("x", "two", 60)
    other.close()


def test_a_catalog_of_version_3_is_brought_up_in_place(catalog: Catalog, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as old, old:
        old.executescript("""
            DROP TABLE profiles; DROP TABLE vector_indexes; DROP TABLE leases;
            UPDATE catalog_meta SET value = '3' WHERE name = 'schema_version';
        """)
    upgraded = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    upgraded.vectors.create_profile("ann", "local")
    assert upgraded.vectors.profiles_since(-1) == [("ann", True)]
    upgraded.close()
