"""Profiles that were made while a server ran: their buckets follow a pattern of the configuration."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    Row,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from flight_server.catalog import summaries
from flight_server.catalog.tables import (
    Instant,
    dataset_versions,
    datasets,
    former_names,
    idempotency,
    metadata,
    namespaces,
    object_refs,
)
from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.errors import AlreadyExistsError, ConflictError, FailedPreconditionError, NotFoundError

profiles = Table(
    "profiles",
    metadata,
    Column("name", Text, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created", Integer, nullable=False),
    # The commit that dropped it: what is on its way there then comes too late.
    Column("dropped", Integer),
    Column("changed", Integer, nullable=False),
    Index("profiles_by_change", "changed"),
)

_CHANGED = select(*profiles.c["name", "dropped"]).where(profiles.c.changed > bindparam("commit"))


def changed_since(connection: Connection, commit: int) -> list[tuple[str, bool]]:
    """Return the profiles that were made or dropped after a commit: name, whether it is there."""
    rows = connection.execute(_CHANGED, {"commit": commit})
    return [(name, dropped is None) for name, dropped in rows]


def live(connection: Connection) -> Sequence[Row[Any]]:
    """Return name, principal and created_at of the profiles that were made, in order of name."""
    statement = select(*profiles.c["name", "principal", "created_at"]).where(profiles.c.dropped.is_(None))
    return connection.execute(statement.order_by(profiles.c.name)).all()


def check_live(connection: Connection, buckets: Collection[str]) -> None:
    """Refuse changes to profiles that were dropped. Raises ConflictError."""
    names = [bucket.removeprefix(PROFILE_PREFIX) for bucket in buckets if bucket.startswith(PROFILE_PREFIX)]
    if not names:
        return
    gone = select(profiles.c.name).where(profiles.c.name.in_(names), profiles.c.dropped.is_not(None))
    name = connection.execute(gone.limit(1)).scalar()
    if name is not None:
        raise ConflictError(f"profile {name} was dropped meanwhile, with all its data: nothing was stored")


def create(connection: Connection, name: str, principal: str, commit: int) -> None:
    """Record a new profile. Raises AlreadyExistsError."""
    found = connection.execute(select(profiles.c.dropped).where(profiles.c.name == name)).first()
    if found is not None and found.dropped is None:
        raise AlreadyExistsError(f"profile {name} already exists: choose another name")
    values = {"principal": principal, "created_at": datetime.now(UTC), "created": commit, "changed": commit}
    if found is None:
        connection.execute(insert(profiles), {"name": name, **values})
    else:
        connection.execute(update(profiles).where(profiles.c.name == name).values(dropped=None, **values))


def drop(connection: Connection, name: str, commit: int) -> None:
    """Record that a profile is gone, and forget all datasets of its bucket with all their versions.

    Raises NotFoundError, or FailedPreconditionError when datasets of others use its objects.
    """
    is_live = (profiles.c.name == name) & profiles.c.dropped.is_(None)
    values = {"dropped": commit, "changed": commit}
    if not connection.execute(update(profiles).where(is_live).values(**values)).rowcount:
        raise NotFoundError(f"profile {name} does not exist; it was dropped meanwhile")
    _forget_bucket(connection, PROFILE_PREFIX + name)


def forget_configured(connection: Connection, names: Collection[str]) -> None:
    """Forget what was recorded of profiles that the configuration names now."""
    connection.execute(delete(profiles).where(profiles.c.name.in_(names)))


def _forget_bucket(connection: Connection, bucket: str) -> None:
    spaces = list(
        connection.execute(select(namespaces.c.name).where(namespaces.c.bucket == bucket)).scalars()
    )
    own = select(datasets.c.id).where(datasets.c.namespace.in_(spaces))
    _check_unshared(connection, bucket, spaces)
    summaries.forget(connection, select(dataset_versions.c.commit).where(dataset_versions.c.dataset.in_(own)))
    for table in (object_refs, dataset_versions, former_names):
        connection.execute(delete(table).where(table.c.dataset.in_(own)))
    shadowed = datasets.c.namespace.in_(spaces) & datasets.c.shadowed_by.is_not(None)
    connection.execute(delete(datasets).where(shadowed))
    connection.execute(delete(datasets).where(datasets.c.namespace.in_(spaces)))
    connection.execute(delete(namespaces).where(namespaces.c.bucket == bucket))
    stored_in = idempotency.c.result["namespace"].as_string()
    connection.execute(delete(idempotency).where(stored_in.in_(spaces)))


def _check_unshared(connection: Connection, bucket: str, spaces: Sequence[str]) -> None:
    refs = object_refs.c
    foreign = (
        select(func.count(datasets.c.id.distinct()))
        .join(object_refs, refs.dataset == datasets.c.id)
        .where(or_(refs.bucket == bucket, refs.key.startswith(f"lakehouse://{bucket}/", autoescape=True)))
        .where(datasets.c.namespace.not_in(spaces))
    )
    count = connection.execute(foreign).scalar()
    if count:
        raise FailedPreconditionError(
            f"objects of {bucket} belong to {count} datasets elsewhere too, which sys.object_refs shows to "
            "those who may read them: drop or copy these first"
        )
