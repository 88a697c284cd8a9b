"""The catalog on real SQLite files: versions, modes, conflicts, threads and other processes."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.catalog import sqlite
from flight_server.catalog.store import Catalog
from flight_server.domain.dataset import (
    ChangeMode,
    DatasetChange,
    ImportedDataset,
    ObjectRef,
    StoredObject,
)
from flight_server.errors import (
    AlreadyExistsError,
    ConflictError,
    FailedPreconditionError,
    InvalidArgumentError,
    LakehouseError,
    NotFoundError,
    UnavailableError,
)

A, B = (pa.schema([("x", kind)]).serialize().to_pybytes() for kind in (pa.int64(), pa.utf8()))
CREATE, APPEND, REPLACE = ChangeMode.CREATE, ChangeMode.APPEND, ChangeMode.REPLACE
CREATE_APPEND = ChangeMode.CREATE_APPEND


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new folder' / 'catalog.db'}"


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog.open(url)
    yield opened
    opened.close()


def change(
    mode: ChangeMode,
    *keys: str,
    name: str = "people",
    schema: bytes = A,
    base: int | None = None,
) -> DatasetChange:
    objects = tuple(StoredObject(key, 10, 100, "sha256:00") for key in keys)
    return DatasetChange("testing", name, "testing", mode, f"id of {name}", base, schema, objects)


def commit(catalog: Catalog, *changes: DatasetChange) -> int:
    return catalog.commit(changes, "me", "test")[-1].commit


def keys(catalog: Catalog, commit: int, name: str = "people") -> list[str] | None:
    found = catalog.find_dataset(["testing"], name, commit)
    return None if found is None else [ref.key for ref in catalog.list_objects(found.id, found.version)]


def imported(id: str, year: int, *objects: ObjectRef, name: str = "people") -> ImportedDataset:
    return ImportedDataset(id, "testing", name, datetime(year, 1, 1, tzinfo=UTC), objects)


def ref(key: str, bucket: str = "data") -> ObjectRef:
    return ObjectRef(bucket, key, rows=5, bytes=50, schema=A, managed=False)


def test_a_new_catalog_is_empty(catalog: Catalog) -> None:
    assert catalog.newest_commit() == 0
    assert catalog.list_datasets(0) == []
    assert catalog.find_dataset(["primary"], "people", 0) is None
    assert catalog.commit([], "me", "nothing") == []


def test_every_commit_stays_readable(catalog: Catalog) -> None:
    first = commit(catalog, change(CREATE, "1"))
    second = commit(catalog, change(APPEND, "2", "3"))
    third = commit(catalog, change(REPLACE, "4", base=2, schema=B))
    assert [keys(catalog, at) for at in (0, first, second, third)] == [None, ["1"], ["1", "2", "3"], ["4"]]
    old, new = (catalog.find_dataset(["testing"], "people", at) for at in (second, catalog.newest_commit()))
    assert old is not None
    assert new is not None
    assert (old.version, old.commit, old.schema) == (2, second, A)
    assert (new.version, new.commit, new.schema) == (3, third, B)
    assert catalog.list_datasets(third) == [new]
    assert catalog.list_names(0) == []
    assert catalog.list_names(first) == [("testing", "people")]


def test_refs_stand_as_they_were_written(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "_objects/1.parquet"))
    found = catalog.list_objects("id of people", 1)
    assert found == [ObjectRef("testing", "_objects/1.parquet", 10, 100, A, managed=True)]


def test_names_compare_without_case_and_the_first_namespace_wins(catalog: Catalog) -> None:
    commit(
        catalog, change(CREATE, name="People"), replace(change(CREATE), namespace="primary", dataset_id="p")
    )
    newest = catalog.newest_commit()
    for order, expected in ((["testing", "primary"], "id of People"), (["none", "PRIMARY", "testing"], "p")):
        found = catalog.find_dataset(order, "PEOPLE", newest)
        assert found is not None
        assert found.id == expected
    assert catalog.find_dataset([], "people", newest) is None
    with pytest.raises(AlreadyExistsError, match=r"dataset testing\.People already exists; append to it"):
        commit(catalog, change(CREATE, name="pEOPLE"))


def test_a_dataset_keeps_its_id_and_may_have_no_objects(catalog: Catalog) -> None:
    commit(catalog, change(CREATE))
    (made,) = catalog.commit([replace(change(APPEND, "1"), dataset_id="other")], "me", "append")
    assert (made.dataset_id, made.version) == ("id of people", 2)
    assert keys(catalog, 1) == []


@pytest.mark.parametrize(
    ("attempt", "error", "text"),
    [
        (change(CREATE), AlreadyExistsError, "already exists"),
        (change(APPEND, name="x"), NotFoundError, r"dataset testing\.x does not exist; create it first"),
        (change(APPEND, schema=B), ConflictError, r"testing\.people has another schema.*version 2"),
        (change(CREATE_APPEND, schema=B), ConflictError, "another schema"),
        (
            change(REPLACE, base=1),
            ConflictError,
            "is at version 2, and the replacement started from version 1",
        ),
        (change(REPLACE, base=None), ConflictError, "started from no dataset"),
    ],
)
def test_a_refused_change_undoes_its_commit(
    catalog: Catalog, attempt: DatasetChange, error: type[LakehouseError], text: str
) -> None:
    commit(catalog, change(CREATE, "1"))
    newest = commit(catalog, change(APPEND, "2"))
    with pytest.raises(error, match=text):
        catalog.commit([change(CREATE, name="new"), attempt], "me", "test")
    assert catalog.newest_commit() == newest
    assert catalog.list_names(newest + 1) == [("testing", "people")]
    assert keys(catalog, newest) == ["1", "2"]


def test_create_append_and_replace_create_what_is_missing(catalog: Catalog) -> None:
    commit(catalog, change(CREATE_APPEND, "1"), change(REPLACE, "2", name="other"))
    assert commit(catalog, change(CREATE_APPEND, "3")) == 2
    assert keys(catalog, 2) == ["1", "3"]
    assert keys(catalog, 2, "other") == ["2"]


def test_changes_to_one_dataset_in_a_commit_are_one_version(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "1"), change(APPEND, "2"))
    assert keys(catalog, 1) == ["1", "2"]
    made = catalog.commit([change(APPEND, "3"), change(REPLACE, "4", base=1), change(APPEND, "5")], "me", "")
    assert [item.version for item in made] == [2, 2, 2]
    assert keys(catalog, 2) == ["4", "5"]
    assert keys(catalog, 1) == ["1", "2"]


OPERATIONS = st.tuples(
    st.sampled_from([CREATE, APPEND, REPLACE, CREATE_APPEND]),
    st.sampled_from("ab"),
    st.sampled_from([A, B]),
    st.integers(0, 3),
)


def apply_to_model(model: dict[str, tuple[int, bytes, list[str]]], attempt: DatasetChange) -> bool:
    """Apply a change to {name: (version, schema, keys)}; tell whether it is allowed."""
    stored = model.get(attempt.name)
    added = [item.key for item in attempt.objects]
    kept: list[str]
    if stored is None:
        was_there = attempt.mode in (REPLACE, CREATE_APPEND) and attempt.base_version is not None
        allowed, kept, version = attempt.mode is not APPEND and not was_there, [], 0
    elif attempt.mode is REPLACE:
        allowed, kept, version = stored[0] == attempt.base_version, [], stored[0]
    else:
        allowed = attempt.mode is not CREATE and stored[1] == attempt.schema
        kept, version = stored[2], stored[0]
    if allowed:
        model[attempt.name] = (version + 1, attempt.schema, kept + added)
    return allowed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OPERATIONS, max_size=12))
def test_any_sequence_of_commits_agrees_with_a_model(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[ChangeMode, str, bytes, int]]
) -> None:
    catalog = Catalog.open(f"sqlite:///{tmp_path_factory.mktemp('model') / 'catalog.db'}")
    model: dict[str, tuple[int, bytes, list[str]]] = {}
    history = [dict(model)]
    for number, (mode, name, schema, base) in enumerate(operations):
        attempt = change(mode, f"{number}", name=name, schema=schema, base=base or None)
        if apply_to_model(model, attempt):
            commit(catalog, attempt)
            history.append(dict(model))
        else:
            with pytest.raises(LakehouseError):
                commit(catalog, attempt)
    assert catalog.newest_commit() == len(history) - 1
    for at, expected in enumerate(history):
        found = {item.name: item for item in catalog.list_datasets(at)}
        assert {
            name: (item.version, item.schema, keys(catalog, at, name)) for name, item in found.items()
        } == (expected)
        assert catalog.list_names(at) == [("testing", name) for name in sorted(expected)]
    catalog.close()


def test_two_catalogs_on_one_file_see_each_other_at_once(catalog: Catalog, url: str) -> None:
    other = Catalog.open(url)
    for number in range(1, 21):
        writer, reader = (catalog, other) if number % 2 else (other, catalog)
        assert commit(writer, change(CREATE_APPEND, f"{number}")) == number
        assert reader.newest_commit() == writer.newest_commit() == number
        assert keys(reader, number) == [f"{key}" for key in range(1, number + 1)]
    assert other.secret_keys() == catalog.secret_keys()
    other.close()


IMPORT_IN_ANOTHER_PROCESS = """
import sys
from datetime import UTC, datetime
from flight_server.catalog.store import Catalog
from flight_server.domain.dataset import ImportedDataset

catalog = Catalog.open(sys.argv[1])
made = datetime(2024, 1, 1, tzinfo=UTC)
catalog.import_datasets([ImportedDataset(sys.argv[2], "testing", sys.argv[2], made, ())], "cli")
catalog.close()
"""


@pytest.mark.slow
def test_processes_may_open_a_new_catalog_and_import_at_the_same_time(url: str) -> None:
    command = [sys.executable, "-c", IMPORT_IN_ANOTHER_PROCESS, url]
    running = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    catalog = Catalog.open(url)
    assert [process.wait(timeout=30) for process in running] == [0, 0, 0]
    assert catalog.newest_commit() == 3
    assert catalog.list_names(3) == [("testing", "a"), ("testing", "b"), ("testing", "c")]
    assert len(catalog.secret_keys()) == 1
    subprocess.run([*command, "d"], check=True, timeout=30)
    assert catalog.newest_commit() == 4
    catalog.close()


def test_concurrent_appends_never_conflict(catalog: Catalog) -> None:
    commit(catalog, change(CREATE))

    def append(thread: int) -> None:
        for number in range(25):
            made = commit(catalog, change(APPEND, f"{thread}.{number}"))
            assert catalog.newest_commit() >= made

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    found = catalog.find_dataset(["testing"], "people", catalog.newest_commit())
    assert found is not None
    assert (found.version, found.commit) == (101, 101)
    assert len(set(keys(catalog, 101) or ())) == 100


def test_a_busy_catalog_is_unavailable_and_still_read(
    catalog: Catalog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    impatient = Catalog.open(url)
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="busy with another writer; try again"):
        commit(impatient, change(CREATE))
    assert impatient.list_datasets(impatient.newest_commit()) == []
    holder.execute("ROLLBACK")
    assert commit(impatient, change(CREATE)) == 1
    holder.close()
    impatient.close()


def test_the_file_is_private_and_keeps_its_keys(catalog: Catalog, url: str) -> None:
    assert Path(url.removeprefix("sqlite:///")).stat().st_mode & 0o777 == 0o600
    (key,) = catalog.secret_keys()
    assert len(key) == 32


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        ("UPDATE catalog_meta SET value = '99'", "schema version 99, this server reads version 4"),
        ("DELETE FROM catalog_meta", "schema version unknown"),
        ("DROP TABLE catalog_meta", "other tables and is not a catalog"),
    ],
)
def test_another_version_or_another_database_is_refused(url: str, statements: str, text: str) -> None:
    Catalog.open(url).close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(statements)
    connection.close()
    with pytest.raises(FailedPreconditionError, match=text):
        Catalog.open(url)


def test_a_file_that_is_no_database_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and longer than the header of one " * 20)
    for name, text in (("text", "not a SQLite database"), ("text/below", "cannot be opened")):
        with pytest.raises(FailedPreconditionError, match=text) as caught:
            Catalog.open(f"sqlite:///{tmp_path / name}")
        assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/x", "catalog.db"])
def test_a_url_without_a_served_file_is_invalid(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="sqlite:///"):
        Catalog.open(url)


def test_import_is_one_commit_and_happens_once(catalog: Catalog) -> None:
    people = imported("i", 2024, ref("a/1"), ref("lakehouse://data/2", bucket=""))
    report = {"datasets": 2, "objects": 3, "rows": 15, "already_imported": 0, "shadowed": []}
    assert catalog.import_datasets([people, imported("j", 2024, ref("b"), name="cities")], "me") == report
    assert catalog.list_objects("i", 1) == list(people.objects)
    again = {"datasets": 0, "objects": 0, "rows": 0, "already_imported": 1, "shadowed": []}
    assert catalog.import_datasets([people], "me") == again
    assert catalog.newest_commit() == 1
    commit(catalog, change(APPEND, "3"))
    assert keys(catalog, 2) == ["a/1", "lakehouse://data/2", "3"]


def test_pieces_of_one_id_are_one_dataset(catalog: Catalog) -> None:
    later = replace(imported("i", 2025, ref("2"), ref("3")), namespace=None)
    first = replace(imported("i", 2024, ref("1"), replace(ref("2"), schema=None)), namespace=None)
    pieces = [first, imported("j", 2024, name="cities"), later, imported("i", 2024, ref("4"))]
    report = catalog.import_datasets(pieces, "me")
    assert (report["datasets"], report["objects"], report["rows"]) == (2, 4, 20)
    assert [(found.key, found.schema) for found in catalog.list_objects("i", 1)] == [
        ("1", A), ("2", None), ("3", A), ("4", A),
    ]  # fmt: skip
    assert catalog.list_names(1) == [("testing", "cities"), ("testing", "people")]
    with pytest.raises(InvalidArgumentError, match="dataset k two names, 'people' and 'cities'"):
        catalog.import_datasets([imported("k", 2024), imported("k", 2024, name="cities")], "me")
    assert catalog.newest_commit() == 1


def test_the_newest_of_imported_names_wins(catalog: Catalog) -> None:
    report = catalog.import_datasets([imported("new", 2024), imported("old", 2020, name="People")], "me")
    assert report["shadowed"] == [{"dataset": "testing.people", "ids": ["old", "new"], "kept": "new"}]
    catalog.import_datasets([imported("same", 2024), imported("older", 2019)], "me")
    (live,) = catalog.list_datasets(2)
    assert live.id == "same"
    assert catalog.list_objects("new", 1) == []
    report = catalog.import_datasets([imported("oldest", 2018)], "me")
    ids = ["oldest", "older", "old", "new", "same"]
    assert report["shadowed"] == [{"dataset": "testing.people", "ids": ids, "kept": "same"}]
    with pytest.raises(AlreadyExistsError):
        commit(catalog, change(CREATE))
