"""What commits say of themselves, once part of what they changed is gone.

A commit is shown to those who may read all that it changed. Of what is forgotten nobody can tell any more
whose it was: its name must not stay in the words of a commit that others still see.
"""

from typing import Any

from sqlalchemy import Connection, Select, distinct, func, select, update

from flight_server.catalog.tables import commits, dataset_versions, datasets, namespaces

FORGOTTEN = "some of what it changed is gone"


def forget(connection: Connection, ids: Select[Any]) -> None:
    """Take the words of commits away, by their ids, where they changed datasets of several buckets."""
    several = (
        select(dataset_versions.c.commit)
        .join(datasets, datasets.c.id == dataset_versions.c.dataset)
        .join(namespaces, namespaces.c.name == datasets.c.namespace)
        .where(dataset_versions.c.commit.in_(ids))
        .group_by(dataset_versions.c.commit)
        .having(func.count(distinct(namespaces.c.bucket)) > 1)
    )
    connection.execute(update(commits).where(commits.c.id.in_(several)).values(summary=FORGOTTEN))
