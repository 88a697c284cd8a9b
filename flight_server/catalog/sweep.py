"""What the catalog knows of objects that nobody needs: orphans, and what only expired versions use.

A key is buried, in a transaction, before its object is removed: a commit that names a buried key
is refused, so an upload that is slower than a sweep fails, and its commit never lacks an object.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Subquery, and_, delete, func, insert, select

from flight_server.catalog import backup, summaries
from flight_server.catalog.tables import (
    commits,
    dataset_versions,
    datasets,
    former_names,
    idempotency,
    namespaces,
    object_refs,
    swept_objects,
)
from flight_server.domain.dataset import ExpiredObject, ExpiredVersions, ExpiryRule

_KEYS_AT_ONCE = 500


def bury(connection: Connection, keys: Sequence[str], *, dry_run: bool) -> list[str]:
    """Return the keys that no dataset version uses, having made sure that none ever will."""
    dead: list[str] = []
    for chunk in _chunks(keys):
        used = set(
            connection.execute(
                select(object_refs.c.key).where(object_refs.c.managed, object_refs.c.key.in_(chunk))
            ).scalars()
        )
        unused = [key for key in chunk if key not in used]
        if unused and not dry_run:
            known = select(swept_objects.c.key).where(swept_objects.c.key.in_(unused))
            buried = set(connection.execute(known).scalars())
            rows = [{"key": key, "at": datetime.now(UTC)} for key in unused if key not in buried]
            if rows:
                connection.execute(insert(swept_objects), rows)
        dead += unused
    return dead


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]


def expire(connection: Connection, rule: ExpiryRule, *, dry_run: bool) -> ExpiredVersions:
    """Forget the versions that a rule lets go, and the objects that only they use.

    A version goes when the one after it is older than the rule's moment: until then it may be read.
    A dropped dataset has a last version without objects, which goes with the others.
    """
    newest = _newest(connection, rule)
    if newest is None:
        return ExpiredVersions(0, (), 0, _forget_uploads(connection, rule, dry_run=dry_run))
    floors = _floors(rule, newest)
    refs, versions = object_refs.c, dataset_versions.c
    is_unused = and_(
        refs.dataset == floors.c.dataset,
        refs.removed_version <= floors.c.version,
        refs.id > backup.last_held(connection),
    )
    rows = connection.execute(
        select(refs.id, refs.bucket, refs.key, refs.bytes, refs.managed).join(floors, is_unused)
    ).all()
    is_old = and_(versions.dataset == floors.c.dataset, versions.version < floors.c.version)
    old = connection.execute(select(versions.dataset, versions.version).join(floors, is_old)).all()
    if not dry_run:
        summaries.forget(connection, select(versions.commit).join(floors, is_old))
        _delete(connection, [row.id for row in rows], [(row.dataset, row.version) for row in old])
        _forget_names(connection, rule, newest)
    managed = [ExpiredObject(row.bucket, row.key, row.bytes) for row in rows if row.managed]
    if not dry_run:
        dead = set(bury(connection, [item.key for item in managed], dry_run=False))
        managed = [item for item in managed if item.key in dead]
    uploads = _forget_uploads(connection, rule, dry_run=dry_run)
    return ExpiredVersions(len(old), tuple(managed), len(rows) - len(managed), uploads)


def _newest(connection: Connection, rule: ExpiryRule) -> int | None:
    """Return the commit before which nothing has to be readable; None when there is none that old."""
    found: int | None = connection.execute(
        select(func.max(commits.c.id)).where(commits.c.at <= rule.before)
    ).scalar()
    return found if found is None or rule.pinned_commit is None else min(found, rule.pinned_commit)


def _floors(rule: ExpiryRule, newest: int) -> Subquery:
    """Return the oldest version of each dataset that stays."""
    statement = (
        select(dataset_versions.c.dataset, func.max(dataset_versions.c.version).label("version"))
        .join(datasets, datasets.c.id == dataset_versions.c.dataset)
        .where(dataset_versions.c.commit <= newest)
        .group_by(dataset_versions.c.dataset)
    )
    if rule.bucket is not None:
        statement = statement.where(_is_in(rule.bucket))
    return statement.subquery()


def _is_in(bucket: str) -> ColumnElement[bool]:
    return datasets.c.namespace.in_(select(namespaces.c.name).where(namespaces.c.bucket == bucket))


def _forget_names(connection: Connection, rule: ExpiryRule, newest: int) -> None:
    """Forget names that nothing can be read by, and dropped datasets of which nothing is left."""
    connection.execute(delete(former_names).where(former_names.c.until <= newest))
    gone = select(datasets.c.id).where(datasets.c.dropped <= newest)
    if rule.bucket is not None:
        gone = gone.where(_is_in(rule.bucket))
    shadowing = select(datasets.c.shadowed_by).where(datasets.c.shadowed_by.is_not(None))
    held = select(object_refs.c.dataset).where(object_refs.c.id <= backup.last_held(connection))
    gone = gone.where(datasets.c.id.not_in(shadowing), datasets.c.id.not_in(held))
    ids = list(connection.execute(gone).scalars())
    for chunk in _chunks(ids):
        # Nothing names the objects of a dataset that was made and dropped by one commit.
        connection.execute(delete(object_refs).where(object_refs.c.dataset.in_(chunk)))
        own = dataset_versions.c.dataset.in_(chunk)
        summaries.forget(connection, select(dataset_versions.c.commit).where(own))
        connection.execute(delete(dataset_versions).where(own))
        connection.execute(delete(former_names).where(former_names.c.dataset.in_(chunk)))
        connection.execute(delete(datasets).where(datasets.c.id.in_(chunk)))


def _delete(connection: Connection, refs: Sequence[int], versions: Sequence[tuple[str, int]]) -> None:
    for start in range(0, len(refs), _KEYS_AT_ONCE):
        connection.execute(
            delete(object_refs).where(object_refs.c.id.in_(refs[start : start + _KEYS_AT_ONCE]))
        )
    newest: dict[str, int] = {}
    for dataset, version in versions:
        newest[dataset] = max(version, newest.get(dataset, 0))
    for dataset, version in newest.items():
        connection.execute(
            delete(dataset_versions).where(
                dataset_versions.c.dataset == dataset, dataset_versions.c.version <= version
            )
        )


def _forget_uploads(connection: Connection, rule: ExpiryRule, *, dry_run: bool) -> int:
    is_old = idempotency.c.at <= rule.before
    count: int = connection.execute(select(func.count()).select_from(idempotency).where(is_old)).scalar_one()
    if not dry_run:
        backup.forget_ended(connection)
        connection.execute(delete(idempotency).where(is_old))
        connection.execute(delete(swept_objects).where(swept_objects.c.at <= rule.before))
    return count
