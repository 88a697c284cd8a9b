"""Lookups by name: which dataset has, or at some commit had, a name, and which schemas there were."""

from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select, union_all

from flight_server.catalog.tables import (
    dataset_versions,
    datasets,
    former_names,
    namespaces,
    schemas,
)

_COMMIT: ColumnElement[int] = bindparam("commit")

# A name belongs to a dataset from one commit on until another: every rename ends one and begins one.
NAMES = union_all(
    select(
        *datasets.c["id", "kind", "namespace", "name", "lower_name", "since"],
        datasets.c.dropped.label("until"),
    ).where(datasets.c.shadowed_by.is_(None)),
    select(
        former_names.c.dataset.label("id"),
        *former_names.c["kind", "namespace", "name", "lower_name", "since", "until"],
    ),
).subquery("names")
"""Every name that a dataset has or had, and at which commits."""


def _is_at(since: ColumnElement[int], until: ColumnElement[Any]) -> ColumnElement[bool]:
    return (since <= _COMMIT) & or_(until.is_(None), until > _COMMIT)


def _datasets_at_commit() -> Select[Any]:
    versions, earlier = dataset_versions, dataset_versions.alias()
    newest = (
        select(func.max(earlier.c.commit))
        .where(earlier.c.dataset == NAMES.c.id, earlier.c.commit <= _COMMIT)
        .scalar_subquery()
    )
    return (
        select(
            *NAMES.c["id", "namespace", "name"],
            *versions.c["version", "commit"],
            schemas.c.arrow_schema,
            NAMES.c.kind,
            versions.c.definition,
        )
        .join(versions, versions.c.dataset == NAMES.c.id)
        .join(schemas, schemas.c.id == versions.c.schema_id, isouter=True)
        .where(_is_at(NAMES.c.since, NAMES.c.until), versions.c.commit == newest)
    )


LIST_DATASETS = _datasets_at_commit()
FIND_DATASET = _datasets_at_commit().where(
    NAMES.c.lower_name == bindparam("name"),
    NAMES.c.namespace.in_(bindparam("namespaces", expanding=True)),
)
LIST_NAMES = (
    select(*NAMES.c["namespace", "name"])
    .join(dataset_versions, dataset_versions.c.dataset == NAMES.c.id)
    .where(_is_at(NAMES.c.since, NAMES.c.until), dataset_versions.c.commit <= _COMMIT)
    .group_by(*NAMES.c["namespace", "name", "lower_name"])
    .order_by(NAMES.c.namespace, NAMES.c.lower_name)
)
LIST_NAMESPACES = (
    select(*namespaces.c["name", "bucket"])
    # A bucket's own is there with the bucket; of thousands of profiles each has one.
    .where(_is_at(namespaces.c.since, namespaces.c.dropped), namespaces.c.name != namespaces.c.bucket)
    .order_by(namespaces.c.name)
)
"""Statements over `commit`, FIND_DATASET over folded `namespaces` and a folded `name` too."""
