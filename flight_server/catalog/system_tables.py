"""Rows of the system tables, page by page: live, and unfiltered but for what SQL can filter best."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select

from flight_server.catalog.tables import (
    commits,
    dataset_versions,
    datasets,
    namespaces,
    object_refs,
    schemas,
)

Rows = Sequence[Row[Any]]


def _after(statement: Select[Any], column: Any, after: int | None, limit: int) -> Select[Any]:
    if after is not None:
        statement = statement.where(column > after)
    return statement.order_by(column).limit(limit)


def dataset_rows(connection: Connection, after: int | None, limit: int) -> Rows:
    """Return arrival, namespace, bucket, name, id, version, commit, created_at, changed_at, kind.

    Then `shadowed_by`, the schema, and the definition of views.
    """
    newest = (
        select(dataset_versions.c.dataset, func.max(dataset_versions.c.version).label("version"))
        .group_by(dataset_versions.c.dataset)
        .subquery()
    )
    statement = (
        select(
            datasets.c.arrival,
            datasets.c.namespace,
            namespaces.c.bucket,
            *datasets.c["name", "id"],
            *dataset_versions.c["version", "commit"],
            datasets.c.created_at,
            commits.c.at,
            *datasets.c["kind", "shadowed_by"],
            schemas.c.arrow_schema,
            dataset_versions.c.definition,
        )
        .join(namespaces, namespaces.c.name == datasets.c.namespace)
        .join(newest, newest.c.dataset == datasets.c.id)
        .join(
            dataset_versions,
            and_(dataset_versions.c.dataset == datasets.c.id, dataset_versions.c.version == newest.c.version),
        )
        .join(commits, commits.c.id == dataset_versions.c.commit)
        .join(schemas, schemas.c.id == dataset_versions.c.schema_id, isouter=True)
        .where(datasets.c.dropped.is_(None))
    )
    return connection.execute(_after(statement, datasets.c.arrival, after, limit)).all()


def object_rows(connection: Connection, after: int | None, limit: int) -> Rows:
    """Return every ref in the order of its id, which comes first, with its dataset's namespace and name.

    The bucket of that namespace comes last.
    """
    refs = object_refs.c
    statement = select(
        refs.id,
        refs.dataset,
        *datasets.c["namespace", "name"],
        *refs["bucket", "key", "rows", "bytes", "checksum", "added_version", "removed_version", "managed"],
        namespaces.c.bucket.label("home"),
    ).join(datasets, datasets.c.id == refs.dataset)
    statement = statement.join(namespaces, namespaces.c.name == datasets.c.namespace)
    return connection.execute(_after(statement, refs.id, after, limit)).all()


def commit_rows(connection: Connection, after: int | None, limit: int) -> Rows:
    """Return (id, at, principal, summary) of commits, the oldest first."""
    return connection.execute(_after(select(commits), commits.c.id, after, limit)).all()


def commit_buckets(connection: Connection, first: int, last: int) -> dict[int, set[str]]:
    """Return the buckets in which the datasets lie that the commits of a range changed.

    Where they changed datasets, those of the schemas that they made or dropped count too. Commits of a
    schema's datasets are left out that are older than the schema, which was made anew since.
    """
    found: dict[int, set[str]] = {}
    is_older = namespaces.c.since > dataset_versions.c.commit
    rows = connection.execute(
        select(dataset_versions.c.commit, namespaces.c.bucket, is_older)
        .join(datasets, datasets.c.id == dataset_versions.c.dataset)
        .join(namespaces, namespaces.c.name == datasets.c.namespace)
        .where(dataset_versions.c.commit.between(first, last))
    )
    older: set[int] = set()
    for commit, bucket, is_of_before in rows:
        found.setdefault(commit, set()).add(bucket)
        older.update([commit] if is_of_before else ())
    for moment in (namespaces.c.since, namespaces.c.dropped):
        spaces = select(moment, namespaces.c.bucket).where(moment.between(first, last))
        for commit, bucket in connection.execute(spaces):
            if commit in found:
                found[commit].add(bucket)
    return {commit: buckets for commit, buckets in found.items() if commit not in older}
