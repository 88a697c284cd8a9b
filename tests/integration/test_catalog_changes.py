"""Changes to datasets, views and schemas, by example and against a simple model."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.catalog.store import Catalog
from flight_server.domain import declarations
from flight_server.domain.dataset import (
    ChangeMode,
    DatasetChange,
    ExpiryRule,
    Kind,
    Namespace,
    StoredObject,
    fold_name,
)
from flight_server.domain.staging import Snapshot, refs_after, settled
from flight_server.errors import AlreadyExistsError, ConflictError, LakehouseError, NotFoundError

PLAIN = pa.schema([("x", pa.int64())])
WIDER = declarations.added(PLAIN, [pa.field("y", pa.utf8())])
KEYED = declarations.with_constraints(PLAIN, [declarations.Constraint("primary_key", "pk", ("x",))])
CREATE, APPEND, REPLACE, REWRITE, ALTER, RENAME, DROP = (
    ChangeMode(name) for name in ("create", "append", "replace", "rewrite", "alter", "rename", "drop")
)


def message(schema: pa.Schema) -> bytes:
    return schema.serialize().to_pybytes()


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield opened
    opened.close()


def change(mode: ChangeMode, *keys: str, name: str = "t", schema: pa.Schema = PLAIN, **more) -> DatasetChange:
    objects = tuple(StoredObject(key, 10, 100, "") for key in keys)
    values = {"dataset_id": f"id of {name}", "base_version": None} | more
    return DatasetChange("testing", name, "testing", mode, schema=message(schema), objects=objects, **values)


def commit(catalog: Catalog, *changes: DatasetChange) -> int:
    return catalog.commit(changes, "me", "test")[-1].commit


def keys(catalog: Catalog, at: int, name: str = "t") -> list[str] | None:
    found = catalog.find_dataset(["testing"], name, at)
    return None if found is None else [ref.key for ref in catalog.list_objects(found.id, found.version)]


def refs(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple(("testing", name) for name in names)


def test_a_rewrite_takes_refs_away_and_appends_never_conflict_with_it(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "1", "2", "3"))
    commit(catalog, change(APPEND, "4", base_version=1))
    done = commit(catalog, change(REWRITE, "5", removed=refs("2"), base_version=1))
    assert keys(catalog, done) == ["1", "3", "4", "5"]
    assert keys(catalog, done - 1) == ["1", "2", "3", "4"]
    with pytest.raises(ConflictError, match="rows that this change started from were changed"):
        commit(catalog, change(REWRITE, "6", removed=refs("1", "2"), base_version=1))
    commit(catalog, change(REWRITE, "6", removed=refs("1"), base_version=1))
    assert keys(catalog, catalog.newest_commit()) == ["3", "4", "5", "6"]


def test_changes_of_columns_conflict_with_whatever_started_before(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "1"))
    altered = commit(catalog, change(ALTER, schema=WIDER, base_version=1))
    assert keys(catalog, altered) == ["1"]
    for attempt in (change(REWRITE, "2", removed=refs("1"), base_version=1), change(ALTER, base_version=1)):
        with pytest.raises(ConflictError, match=r"columns of dataset testing\.t have changed"):
            commit(catalog, attempt)
    commit(catalog, change(APPEND, "2", base_version=1))  # NULL in the new column
    found = catalog.find_dataset(["testing"], "t", catalog.newest_commit())
    assert found is not None
    assert declarations.read(found.schema or b"").names == ["x", "y"]


def test_a_promise_of_all_rows_holds_for_those_of_others_too(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "1"))
    commit(catalog, change(APPEND, "2", base_version=1))
    with pytest.raises(ConflictError, match="alteration started from version 1"):
        commit(catalog, change(ALTER, schema=KEYED, base_version=1))
    commit(catalog, change(ALTER, schema=KEYED, base_version=2))
    commit(catalog, change(APPEND, "3", schema=KEYED, base_version=3))
    with pytest.raises(ConflictError, match="append started from version 3"):
        commit(catalog, change(APPEND, "4", schema=KEYED, base_version=3))


def test_names_end_and_begin_again_and_every_commit_keeps_its_own(catalog: Catalog) -> None:
    made = commit(catalog, change(CREATE, "1"))
    renamed = commit(catalog, change(RENAME, new_name="U", base_version=1))
    again = commit(catalog, change(CREATE, "2", dataset_id="other"))
    dropped = commit(catalog, change(DROP, dataset_id="other", base_version=1))
    moments = (made, renamed, again, dropped)
    assert [keys(catalog, at) for at in moments] == [["1"], None, ["2"], None]
    assert [keys(catalog, at, "u") for at in moments] == [None, ["1"], ["1"], ["1"]]
    assert [catalog.list_names(at) for at in (renamed, again)] == [
        [("testing", "U")],
        [("testing", "t"), ("testing", "U")],
    ]
    with pytest.raises(ConflictError, match="dropped or renamed meanwhile"):
        commit(catalog, change(DROP, base_version=1))
    with pytest.raises(ConflictError, match="was dropped or renamed meanwhile"):
        commit(catalog, change(REPLACE, "3", dataset_id="other", base_version=1))
    with pytest.raises(AlreadyExistsError, match=r"testing\.U already exists"):
        commit(catalog, change(CREATE, "3", name="x"), change(RENAME, name="x", new_name="u"))


def test_views_and_schemas_come_and_go(catalog: Catalog) -> None:
    view = replace(change(CREATE, name="v", definition="SELECT 1"), kind=Kind.VIEW)
    space = replace(change(CREATE, name=""), namespace="s", kind=Kind.SCHEMA)
    first = commit(catalog, view, space)
    again = commit(catalog, replace(view, mode=REPLACE, definition="SELECT 2", base_version=1))
    found = [catalog.find_dataset(["testing"], "v", at) for at in (first, again)]
    assert [(item.kind, item.definition) for item in found if item] == [
        ("view", "SELECT 1"),
        ("view", "SELECT 2"),
    ]
    assert catalog.list_namespaces(first) == [Namespace("s", "testing")]
    with pytest.raises(AlreadyExistsError, match=r"view testing\.v is no table"):
        commit(catalog, change(REPLACE, "1", name="v", base_version=2))
    commit(catalog, replace(change(CREATE, "1", name="x"), namespace="s"))
    with pytest.raises(ConflictError, match="schema s is not empty, it holds x"):
        commit(catalog, replace(space, mode=DROP))
    commit(catalog, replace(change(DROP, name="x", base_version=1), namespace="s"), replace(space, mode=DROP))
    with pytest.raises(ConflictError, match="schema s was dropped"):
        commit(catalog, replace(change(CREATE, name="y"), namespace="s"))
    with pytest.raises(NotFoundError, match="schema s does not exist"):
        commit(catalog, replace(space, mode=DROP))
    commit(catalog, space)


def test_expiry_forgets_what_was_dropped(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "1"))
    commit(catalog, change(RENAME, new_name="u", base_version=1))
    commit(catalog, change(DROP, name="u", dataset_id="id of t", base_version=2))
    rule = ExpiryRule(datetime.now(UTC) + timedelta(seconds=1))
    expired = catalog.expire(rule, dry_run=False)
    assert [item.key for item in expired.objects] == ["1"]
    assert catalog.list_names(1) == catalog.list_names(2) == []
    assert catalog.expire(rule, dry_run=False).versions == 0
    commit(catalog, change(CREATE, "2"))  # its id is free again


def test_a_catalog_of_version_2_is_brought_up_in_place(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    catalog = Catalog.open(f"sqlite:///{path}")
    commit(catalog, change(CREATE, "1"))
    catalog.close()
    with sqlite3.connect(path) as old:
        old.executescript("""
            DROP TABLE former_names; DROP TABLE holds;
            DROP TABLE profiles; DROP TABLE vector_indexes; DROP TABLE leases;
            DROP INDEX datasets_by_name; DROP INDEX one_live_dataset_per_name;
            ALTER TABLE datasets DROP COLUMN since; ALTER TABLE datasets DROP COLUMN dropped;
            ALTER TABLE namespaces DROP COLUMN since; ALTER TABLE namespaces DROP COLUMN dropped;
            ALTER TABLE dataset_versions DROP COLUMN definition;
            CREATE UNIQUE INDEX one_live_dataset_per_name ON datasets (namespace, lower_name)
                WHERE shadowed_by IS NULL;
            UPDATE catalog_meta SET value = '2' WHERE name = 'schema_version';
        """)
    old.close()
    for _ in range(2):
        catalog = Catalog.open(f"sqlite:///{path}")
        assert keys(catalog, 1) == ["1"]
        catalog.close()
    catalog = Catalog.open(f"sqlite:///{path}")
    commit(catalog, change(DROP, base_version=1))
    assert (keys(catalog, 1), keys(catalog, 2)) == (["1"], None)
    commit(catalog, change(CREATE, "2", dataset_id="other"))
    catalog.close()


@dataclass
class Known:
    """What the model knows of one dataset."""

    id: str
    name: str
    version: int
    columns: int
    keys: list[str]


STEPS = st.tuples(
    st.sampled_from([CREATE, APPEND, REWRITE, ALTER, RENAME, DROP, REPLACE]),
    st.sampled_from("abc"),
    st.sampled_from("abc"),
    st.integers(0, 5),
)


class Model:
    """The datasets by name; makes changes that are right, and says what they leave."""

    def __init__(self) -> None:
        self.datasets: dict[str, Known] = {}
        self.made = 0

    def step(self, mode: ChangeMode, name: str, other: str, pick: int) -> DatasetChange | None:
        known = self.datasets.get(name)
        self.made += 1
        key = f"k{self.made}"
        if known is None:
            if mode is not CREATE:
                return None
            self.datasets[name] = Known(f"id {self.made}", name, 0, 1, [key])
            return change(CREATE, key, name=name, dataset_id=f"id {self.made}")
        return self._STEPS[mode](self, known, key, other, pick) if mode in self._STEPS else None

    def _change(self, known: Known, mode: ChangeMode, *keys: str, **more) -> DatasetChange:
        columns = pa.schema([(f"c{at}", pa.int64()) for at in range(known.columns - 1)])
        schema = declarations.added(PLAIN, columns)
        base = {"dataset_id": known.id, "base_version": known.version or None}
        return change(mode, *keys, name=known.name, schema=schema, **base, **more)

    def append(self, known: Known, key: str, _other: str, _pick: int) -> DatasetChange:
        known.keys.append(key)
        return self._change(known, APPEND, key)

    def rewrite(self, known: Known, key: str, _other: str, pick: int) -> DatasetChange:
        gone = known.keys[:pick]
        known.keys = [*known.keys[pick:], key]
        return self._change(known, REWRITE, key, removed=refs(*gone))

    def alter(self, known: Known, _key: str, _other: str, _pick: int) -> DatasetChange:
        known.columns += 1
        return self._change(known, ALTER)

    def rename(self, known: Known, _key: str, other: str, _pick: int) -> DatasetChange | None:
        if other in self.datasets:
            return None
        found = self._change(known, RENAME, new_name=other)
        self.datasets[other] = self.datasets.pop(known.name)
        known.name = other
        return found

    def drop(self, known: Known, _key: str, _other: str, _pick: int) -> DatasetChange:
        del self.datasets[known.name]
        return self._change(known, DROP)

    def replace(self, known: Known, key: str, _other: str, _pick: int) -> DatasetChange:
        known.keys = [key]
        return self._change(known, REPLACE, key)

    _STEPS = {APPEND: append, REWRITE: rewrite, ALTER: alter, RENAME: rename, DROP: drop, REPLACE: replace}  # noqa: RUF012

    def committed(self) -> dict[str, tuple[int, list[str]]]:
        """Note that the changes were committed; return names with columns and objects."""
        return {name: (known.columns, list(known.keys)) for name, known in self.datasets.items()}


def seen(catalog: Catalog, at: int) -> dict[str, tuple[int, list[str]]]:
    return {
        item.name: (
            len(declarations.read(item.schema or b"")),
            [ref.key for ref in catalog.list_objects(item.id, item.version)],
        )
        for item in catalog.list_datasets(at)
    }


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(STEPS, min_size=1, max_size=6), max_size=6))
def test_any_transactions_agree_with_a_model_before_and_after_their_commit(
    tmp_path_factory: pytest.TempPathFactory, transactions: list[list[tuple[ChangeMode, str, str, int]]]
) -> None:
    catalog = Catalog.open(f"sqlite:///{tmp_path_factory.mktemp('model') / 'catalog.db'}")
    model = Model()
    history = [model.committed()]
    for steps in transactions:
        changes = [made for step in steps if (made := model.step(*step)) is not None]
        if not changes:
            continue
        expected = model.committed()
        assert staged(catalog, changes) == expected
        kept, discarded = settled(changes)
        for item in catalog.commit(kept, "me", "test"):
            for known in model.datasets.values():
                if known.id == item.dataset_id:
                    known.version = item.version
        assert seen(catalog, catalog.newest_commit()) == expected
        live = {key for _, names in expected.values() for key in names}
        assert not live & {key for _, key in discarded}
        history.append(expected)
    for at, expected in enumerate(history):
        assert seen(catalog, at) == expected
    catalog.close()


def staged(catalog: Catalog, changes: list[DatasetChange]) -> dict[str, tuple[int, list[str]]]:
    """Return what the transaction that made the changes sees."""
    snapshot = Snapshot(catalog.newest_commit(), tuple(changes))
    found = {
        name: held
        for name, held in seen(catalog, snapshot.commit).items()
        if ("testing", fold_name(name)) not in snapshot.datasets
    }
    for item in snapshot.datasets.values():
        if item is not None:
            base = (
                catalog.find_dataset([item.origin[0]], item.origin[1], snapshot.commit)
                if item.origin
                else None
            )
            dataset = item.over(base, snapshot.commit)
            stored = catalog.list_objects(base.id, base.version) if base else []
            names = [ref.key for ref in refs_after(stored, item.steps)]
            found[item.name] = (len(declarations.read(dataset.schema or b"")), names)
    return found


def test_a_refused_commit_leaves_nothing_of_its_changes(catalog: Catalog) -> None:
    commit(catalog, change(CREATE, "1"))
    with pytest.raises(LakehouseError):
        commit(
            catalog,
            change(RENAME, new_name="u", base_version=1),
            change(REWRITE, "2", name="u", dataset_id="id of t", removed=refs("no such"), base_version=1),
        )
    assert (keys(catalog, 1), catalog.newest_commit()) == (["1"], 1)
