"""Reads that list: datasets page by page, what they hold, and which versions they have had."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, and_, func, or_, select, tuple_, type_coerce

from flight_server.catalog.lookup import NAMES
from flight_server.catalog.tables import IS_LIVE, commits, dataset_versions, datasets, object_refs, schemas
from flight_server.domain.dataset import Dataset, DatasetFilter, DatasetTotals, VersionRange
from flight_server.domain.pattern import ESCAPE

_AT = type_coerce(commits.c.at, BigInteger)
"""Microseconds since 1970 UTC, as `Instant` stores it: any 64-bit number can be compared with it."""

_NAMED_SPACES = 100
"""Namespaces that a statement names: thousands of parameters take longer than reading all datasets."""


def page_datasets(
    statement: Select[Any],
    wanted: DatasetFilter | None,
    after: tuple[str, str] | None,
    limit: int | None,
) -> Select[Any]:
    """Narrow a statement that lists datasets to those wanted, and to those behind (namespace, name)."""
    place = tuple_(NAMES.c.namespace, NAMES.c.name)
    if wanted is not None:
        if len(wanted.namespaces) <= _NAMED_SPACES:
            statement = statement.where(NAMES.c.namespace.in_(wanted.namespaces))
        if wanted.name_pattern is not None:
            statement = statement.where(NAMES.c.name.like(wanted.name_pattern, escape=ESCAPE))
    if after is not None:
        statement = statement.where(place > after)
    return statement.order_by(NAMES.c.namespace, NAMES.c.name).limit(limit)


def totals(connection: Connection, commit: int, ids: Sequence[str]) -> dict[str, DatasetTotals]:
    """Return objects, rows and bytes of datasets as they were at a commit."""
    versions = (
        select(dataset_versions.c.dataset, func.max(dataset_versions.c.version).label("version"))
        .where(dataset_versions.c.dataset.in_(ids), dataset_versions.c.commit <= commit)
        .group_by(dataset_versions.c.dataset)
        .subquery()
    )
    refs = object_refs.c
    is_live = and_(
        refs.dataset == versions.c.dataset,
        refs.added_version <= versions.c.version,
        or_(refs.removed_version.is_(None), refs.removed_version > versions.c.version),
    )
    found = connection.execute(
        select(
            versions.c.dataset,
            func.count(refs.id),
            func.count(refs.rows),
            func.coalesce(func.sum(refs.rows), 0),
            func.coalesce(func.sum(refs.bytes), 0),
        )
        .join(object_refs, is_live, isouter=True)
        .group_by(versions.c.dataset)
    )
    return {
        dataset: DatasetTotals(count, int(rows) if known == count else None, int(size))
        for dataset, count, known, rows, size in found
    }


def find_version(
    connection: Connection, dataset_id: str, commit: int, version: int | None, at: int | None
) -> Dataset | None:
    """Find a version of a dataset by number, or the newest committed by a moment."""
    versions = dataset_versions
    statement: Select[Any] = (
        select(
            *datasets.c["id", "namespace", "name"],
            *versions.c["version", "commit"],
            schemas.c.arrow_schema,
            datasets.c.kind,
            versions.c.definition,
        )
        .join(versions, versions.c.dataset == datasets.c.id)
        .join(commits, commits.c.id == versions.c.commit)
        .join(schemas, schemas.c.id == versions.c.schema_id, isouter=True)
        .where(datasets.c.id == dataset_id, versions.c.commit <= commit)
        .order_by(versions.c.version.desc())
        .limit(1)
    )
    wanted = versions.c.version == version if version is not None else at >= _AT
    row = connection.execute(statement.where(wanted)).first()
    return None if row is None else Dataset(*row)


def version_range(connection: Connection, dataset_id: str, commit: int) -> VersionRange | None:
    """Return the oldest and the newest version that a dataset has at a commit, None when it has none."""
    versions = dataset_versions
    statement = (
        select(versions.c.version, commits.c.at)
        .join(commits, commits.c.id == versions.c.commit)
        .where(versions.c.dataset == dataset_id, versions.c.commit <= commit)
        .limit(1)
    )
    oldest = connection.execute(statement.order_by(versions.c.version)).first()
    newest = connection.execute(statement.order_by(versions.c.version.desc())).first()
    return None if oldest is None or newest is None else VersionRange(*oldest, *newest)


def crowded(connection: Connection, small_bytes: int, objects: int) -> list[tuple[str, str]]:
    """List (namespace, name) of the tables with more than so many objects of ours below a size."""
    refs = object_refs.c
    statement = (
        select(*datasets.c["namespace", "name"])
        .join(object_refs, refs.dataset == datasets.c.id)
        .where(IS_LIVE, refs.removed_version.is_(None), refs.managed, refs.bytes < small_bytes)
        .group_by(*datasets.c["id", "namespace", "name"])
        .having(func.count() > objects)
    )
    return [(namespace, name) for namespace, name in connection.execute(statement)]
