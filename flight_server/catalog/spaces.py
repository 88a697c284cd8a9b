"""The schemas that datasets are in: a bucket's own comes with its first dataset, others are made."""

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select, update

from flight_server.catalog.tables import IS_LIVE, datasets, namespaces
from flight_server.domain.dataset import ChangeMode, DatasetChange, fold_name
from flight_server.errors import AlreadyExistsError, ConflictError, NotFoundError

_SHOWN_NAMES = 5


def ensure_namespaces(connection: Connection, buckets: Mapping[str, str]) -> None:
    """Insert the namespaces that are missing, each bound to the bucket given for it.

    Raises ConflictError when one was dropped.
    """
    found = connection.execute(
        select(*namespaces.c["name", "dropped"]).where(namespaces.c.name.in_(buckets))
    ).all()
    known = {row.name for row in found}
    dropped = [row.name for row in found if row.dropped is not None]
    if dropped:
        raise ConflictError(
            f"schema {dropped[0]} was dropped meanwhile: create it again, or name another one"
        )
    missing = [{"name": name, "bucket": bucket} for name, bucket in buckets.items() if name not in known]
    if missing:
        connection.execute(insert(namespaces), missing)


def apply_to_namespace(connection: Connection, change: DatasetChange, commit: int) -> None:
    """Make or drop a schema. Raises AlreadyExistsError, NotFoundError or ConflictError."""
    name = fold_name(change.namespace)
    row = connection.execute(select(namespaces).where(namespaces.c.name == name)).first()
    is_live = row is not None and row.dropped is None
    if change.mode is ChangeMode.DROP:
        _drop(connection, name, commit, is_live)
    elif is_live:
        raise AlreadyExistsError(f"schema {name} already exists: choose another name")
    elif row is not None:
        values = {"bucket": change.bucket, "since": commit, "dropped": None}
        connection.execute(update(namespaces).where(namespaces.c.name == name).values(**values))
    else:
        connection.execute(insert(namespaces), {"name": name, "bucket": change.bucket, "since": commit})


def _drop(connection: Connection, name: str, commit: int, is_live: bool) -> None:
    if not is_live:
        raise NotFoundError(f"schema {name} does not exist; it was dropped meanwhile")
    held = select(datasets.c.name).where(datasets.c.namespace == name, IS_LIVE).limit(_SHOWN_NAMES)
    names = list(connection.execute(held).scalars())
    if names:
        raise ConflictError(f"schema {name} is not empty, it holds {', '.join(names)}: drop these first")
    connection.execute(update(namespaces).where(namespaces.c.name == name).values(dropped=commit))
