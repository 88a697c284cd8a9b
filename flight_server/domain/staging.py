"""What a transaction has staged: how its own statements see the catalog, and what its commit brings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from flight_server.domain import columns
from flight_server.domain.dataset import (
    ChangeMode,
    Dataset,
    DatasetChange,
    Kind,
    Namespace,
    ObjectRef,
    fold_name,
)

Key: TypeAlias = tuple[str, str]
"""Namespace and folded name."""


@dataclass(frozen=True, slots=True)
class StagedDataset:
    """A dataset or view as a transaction has left it: the stored one of the name `origin`, then `steps`.

    Without an `origin` the transaction has made it.
    """

    id: str
    namespace: str
    name: str
    kind: Kind
    origin: Key | None
    steps: tuple[DatasetChange, ...]

    def over(self, base: Dataset | None, commit: int) -> Dataset:
        """Return it as a dataset; `base` is the stored one. Its version is 0 where there is none."""
        schema, definition = (base.schema, base.definition) if base else (None, None)
        for step in self.steps:
            schema = schema_after(schema, step)
            definition = step.definition or definition
        known = base or Dataset(self.id, self.namespace, self.name, 0, commit, None, self.kind)
        return replace(known, name=self.name, schema=schema, definition=definition)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a statement reads: the catalog at a commit, under the changes its transaction has staged.

    `datasets` are those by the names that they have now, None where a name was given up; `namespaces`
    the schemas that were made, None where one was dropped.
    """

    commit: int
    changes: tuple[DatasetChange, ...] = ()
    datasets: Mapping[Key, StagedDataset | None] = field(init=False, default_factory=dict, compare=False)
    namespaces: Mapping[str, Namespace | None] = field(init=False, default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Fold the changes."""
        datasets: dict[Key, StagedDataset | None] = {}
        for change in self.changes:
            if change.kind is not Kind.SCHEMA:
                _fold(datasets, change)
        spaces = {
            change.namespace: None
            if change.mode is ChangeMode.DROP
            else Namespace(change.namespace, change.bucket)
            for change in self.changes
            if change.kind is Kind.SCHEMA
        }
        object.__setattr__(self, "datasets", datasets)
        object.__setattr__(self, "namespaces", spaces)


def _fold(datasets: dict[Key, StagedDataset | None], change: DatasetChange) -> None:
    key = (change.namespace, fold_name(change.name))
    found = datasets.get(key)
    if found is None:
        origin = key if change.base_version and key not in datasets else None
        found = StagedDataset(change.dataset_id, change.namespace, change.name, change.kind, origin, ())
    following = replace(found, steps=(*found.steps, change))
    if change.mode is ChangeMode.DROP:
        datasets[key] = None
    elif change.mode is ChangeMode.RENAME:
        datasets[key] = None
        new_name = change.new_name or ""
        datasets[change.namespace, fold_name(new_name)] = replace(following, name=new_name)
    else:
        datasets[key] = following


def schema_after(schema: bytes | None, change: DatasetChange) -> bytes | None:
    """Return the schema of a dataset, None where it has none, after a change."""
    if change.mode in (ChangeMode.REWRITE, ChangeMode.RENAME, ChangeMode.DROP):
        return schema
    if change.mode in (ChangeMode.REPLACE, ChangeMode.ALTER) or schema is None:
        return change.schema or None
    return columns.merged(schema, change.schema) if change.evolves else schema


def refs_after(refs: Sequence[ObjectRef], steps: Iterable[DatasetChange]) -> list[ObjectRef]:
    """Return the objects of a dataset after changes."""
    live = list(refs)
    for step in steps:
        if step.mode is ChangeMode.REPLACE:
            live = []
        elif step.removed:
            removed = set(step.removed)
            live = [ref for ref in live if (ref.bucket, ref.key) not in removed]
        live += _added(step)
    return live


def _added(change: DatasetChange) -> list[ObjectRef]:
    return [
        ObjectRef(
            change.bucket,
            stored.key,
            stored.rows,
            stored.bytes,
            stored.schema or change.schema,
            change.managed,
        )
        for stored in change.objects
    ]


def settled(changes: Sequence[DatasetChange]) -> tuple[list[DatasetChange], list[tuple[str, str]]]:
    """Return the changes without objects that later ones took away again, and these objects.

    The changes keep their places; objects are (bucket, key).
    """
    kept = list(changes)
    adders: dict[Key, list[int]] = {}
    discarded: dict[tuple[str, str], None] = {}
    for at, change in enumerate(changes):
        key = (change.namespace, fold_name(change.name))
        own = adders.setdefault(key, [])
        if change.mode in (ChangeMode.REPLACE, ChangeMode.DROP) or change.removed:
            removed = set(change.removed)
            for earlier in own:
                kept[earlier], gone = _without(kept[earlier], removed or None)
                discarded.update(dict.fromkeys(gone))
            kept[at] = replace(change, removed=tuple(ref for ref in change.removed if ref not in discarded))
        if change.mode is ChangeMode.RENAME:
            adders[change.namespace, fold_name(change.new_name or "")] = adders.pop(key)
        if change.objects:
            own.append(at)
    return kept, list(discarded)


def _without(
    change: DatasetChange, removed: set[tuple[str, str]] | None
) -> tuple[DatasetChange, list[tuple[str, str]]]:
    """Take objects out of a change, all of them where `removed` is None; return these too."""
    gone = {
        stored.key for stored in change.objects if removed is None or (change.bucket, stored.key) in removed
    }
    left = tuple(stored for stored in change.objects if stored.key not in gone)
    return replace(change, objects=left), [(change.bucket, key) for key in gone]
