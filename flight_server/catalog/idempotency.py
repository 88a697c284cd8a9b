"""Uploads that their callers have named: each is committed once, however often it is sent."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select

from flight_server.catalog.tables import idempotency
from flight_server.domain.dataset import CommittedChange, DatasetChange, UploadKey
from flight_server.errors import AlreadyExistsError


def find(connection: Connection, principal: str, key: str) -> tuple[str, CommittedChange] | None:
    """Return digest and result of the upload that a principal has committed under a key."""
    row = connection.execute(
        select(*idempotency.c["digest", "result"]).where(
            idempotency.c.principal == principal, idempotency.c.key == key
        )
    ).first()
    return None if row is None else (row.digest, CommittedChange(**row.result, is_repeated=True))


def check(upload: UploadKey, digest: str) -> None:
    """Refuse a key that belongs to an upload of another digest. Raises AlreadyExistsError."""
    if digest != upload.digest:
        raise AlreadyExistsError(
            f"the idempotency key {upload.key!r} belongs to another upload of yours: "
            "another table, mode or content; give each upload a key of its own"
        )


def repeated(
    connection: Connection, principal: str, changes: Sequence[DatasetChange]
) -> dict[int, CommittedChange]:
    """Return what has been committed already: place in `changes` → result. Raises AlreadyExistsError."""
    found = {}
    for place, change in enumerate(changes):
        upload = change.upload_key
        known = find(connection, principal, upload.key) if upload else None
        if upload is not None and known is not None:
            check(upload, known[0])
            found[place] = known[1]
    return found


def record(connection: Connection, principal: str, upload: UploadKey, result: CommittedChange) -> None:
    """Remember an upload; part of the transaction that commits it."""
    values = asdict(replace(result, is_repeated=False))
    del values["is_repeated"]
    row = {
        "principal": principal,
        "key": upload.key,
        "digest": upload.digest,
        "result": values,
        "at": datetime.now(UTC),
    }
    connection.execute(insert(idempotency), row)
