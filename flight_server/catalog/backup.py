"""Backups: a copy of the catalog at one moment, and the hold that keeps every object that the copy names."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Row, delete, func, insert, select, update

from flight_server.catalog.sqlite import (
    copy_beside,
    copy_database,
    parse_url,
    read_copy,
    replace_database,
    translated,
)
from flight_server.catalog.tables import IS_LIVE, commits, datasets, holds, object_refs
from flight_server.domain import faults
from flight_server.domain.dataset import CatalogTotals
from flight_server.errors import AlreadyExistsError


def write(writer: Engine, file: Path, until: datetime) -> CatalogTotals:
    """Copy the database of `writer` to a new file, and hold what it names until a moment.

    The hold comes first, so that no sweep comes between, and then reaches to what the copy has more.
    A hold whose backup was not made ends. Raises AlreadyExistsError when there is such a file.
    """
    if file.exists():
        raise AlreadyExistsError("the file for the backup exists already: name another one, or a folder")
    with writer.begin() as connection:
        held = _hold(connection, until)
    faults.reach(faults.Place.BACKUP_HELD)
    try:
        copy_database(Path(str(writer.url.database)), file)
        with read_copy(file) as copy:
            found = totals(copy)
    except BaseException:
        with writer.begin() as connection:
            connection.execute(delete(holds).where(holds.c.id == held))
        raise
    with writer.begin() as connection:
        connection.execute(update(holds).where(holds.c.id == held).values(last_ref=found.last_ref))
    return found


@contextmanager
def staged(url: str, file: Path) -> Iterator[str]:
    """Copy a backup beside the catalog at a URL; yield the URL of the copy, which goes with the block."""
    with translated(), copy_beside(parse_url(url), file) as copy:
        yield str(URL.create("sqlite", database=str(copy)))


def replace(url: str, staged_url: str) -> None:
    """Make the catalog at a URL what a staged one is, or leave it alone.

    Raises FailedPreconditionError when any process uses it.
    """
    with translated():
        replace_database(parse_url(staged_url), parse_url(url))


def _hold(connection: Connection, until: datetime) -> int:
    row = {"at": datetime.now(UTC), "expires_at": until, "last_ref": _last_ref(connection)}
    made: int = connection.execute(insert(holds).returning(holds.c.id), row).scalar_one()
    return made


def last_held(connection: Connection) -> int:
    """Return the newest ref that a hold keeps, and with it all older ones; 0 when there is no hold."""
    newest = select(func.coalesce(func.max(holds.c.last_ref), 0))
    found: int = connection.execute(newest.where(holds.c.expires_at > datetime.now(UTC))).scalar_one()
    return found


def forget_ended(connection: Connection) -> None:
    """Forget the holds that have ended."""
    connection.execute(delete(holds).where(holds.c.expires_at <= datetime.now(UTC)))


def totals(connection: Connection) -> CatalogTotals:
    """Return what the catalog holds."""
    commit = connection.execute(select(func.coalesce(func.max(commits.c.id), 0))).scalar_one()
    count = connection.execute(select(func.count()).select_from(datasets).where(IS_LIVE)).scalar_one()
    sizes = select(func.count(), func.coalesce(func.sum(object_refs.c.bytes), 0))
    objects, size = connection.execute(sizes.select_from(object_refs)).one()
    return CatalogTotals(commit, count, objects, size, _last_ref(connection))


def refs_after(connection: Connection, after: int, limit: int) -> Sequence[Row[Any]]:
    """Return the next refs, of all versions: id, bucket and key as they were written."""
    statement = select(*object_refs.c["id", "bucket", "key"]).where(object_refs.c.id > after)
    return connection.execute(statement.order_by(object_refs.c.id).limit(limit)).all()


def _last_ref(connection: Connection) -> int:
    found: int = connection.execute(select(func.coalesce(func.max(object_refs.c.id), 0))).scalar_one()
    return found
