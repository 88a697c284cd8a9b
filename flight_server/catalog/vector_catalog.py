"""What the catalog knows of profiles and of vector indexes; each change of theirs has a commit of its own.

So every reader at the newest commit, of any server, sees them.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Row

from flight_server.catalog import profiles, vector_indexes
from flight_server.catalog.commits import insert_commit
from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.domain.vector import IndexRecord

Open = Callable[[], AbstractContextManager[Connection]]

_REMOVAL_SECONDS = 60.0
"""How long whoever drops a profile has for its objects before sweep takes part."""


def _removal(bucket: str) -> str:
    """Return the name of the lease to remove what a dropped profile has left."""
    return f"removal of {bucket}"


class VectorCatalog:
    """Profiles and indexes of a catalog; every method is one transaction, from any thread."""

    def __init__(self, read: Open, write: Open) -> None:
        self._read = read
        self._write = write

    def profiles_since(self, commit: int) -> list[tuple[str, bool]]:
        """Return the profiles that were made or dropped after a commit: name, whether it is there."""
        with self._read() as connection:
            return profiles.changed_since(connection, commit)

    def profiles(self) -> Sequence[Row[Any]]:
        """Return name, principal and created_at of the profiles that were made, in order of name."""
        with self._read() as connection:
            return profiles.live(connection)

    def create_profile(self, name: str, principal: str) -> int:
        """Record a profile and return the commit. Raises AlreadyExistsError."""
        with self._write() as connection:
            commit = insert_commit(connection, principal, f"create profile {name}")
            profiles.create(connection, name, principal, commit)
            vector_indexes.release_all(connection, _removal(PROFILE_PREFIX + name))
            return commit

    def drop_profile(self, name: str, principal: str) -> int:
        """Forget a profile with its datasets and indexes, and return the commit; objects stay where they are.

        Raises NotFoundError, or FailedPreconditionError when datasets of others use its objects.
        """
        with self._write() as connection:
            commit = insert_commit(connection, principal, f"drop profile {name}")
            profiles.drop(connection, name, commit)
            vector_indexes.forget_bucket(connection, PROFILE_PREFIX + name)
            vector_indexes.acquire(connection, _removal(PROFILE_PREFIX + name), "", _REMOVAL_SECONDS)
            return commit

    def cut_off_removals(self) -> list[str]:
        """Return the buckets of dropped profiles that nobody has been able to clear so far."""
        with self._read() as connection:
            found = vector_indexes.run_out(connection, _removal(""))
        return [name.removeprefix(_removal("")) for name in found]

    def forget_removal(self, bucket: str) -> None:
        """Note that nothing is left of a dropped profile."""
        with self._write() as connection:
            vector_indexes.release_all(connection, _removal(bucket))

    def forget_configured(self, names: Collection[str]) -> None:
        """Forget what was recorded of profiles that the configuration names now."""
        if {name for name, _ in self.profiles_since(-1)}.intersection(names):
            with self._write() as connection:
                profiles.forget_configured(connection, names)

    def indexes(self, dataset_id: str) -> tuple[IndexRecord, ...]:
        """Return the indexes of a dataset; their columns are ids."""
        with self._read() as connection:
            return vector_indexes.of_dataset(connection, dataset_id)

    def all_indexes(self, bucket: str | None = None) -> list[tuple[IndexRecord, int]]:
        """Return the indexes of a bucket, None for all, each with the newest version of its dataset."""
        with self._read() as connection:
            return vector_indexes.of_buckets(connection, bucket)

    def has_indexes(self) -> bool:
        """Tell whether there is an index."""
        with self._read() as connection:
            return vector_indexes.any_live(connection)

    def lagging(self) -> list[tuple[IndexRecord, int]]:
        """Return the indexes whose datasets have newer versions, each with the newest one."""
        with self._read() as connection:
            return vector_indexes.lagging(connection)

    def put_index(self, record: IndexRecord, replaced: IndexRecord | None, principal: str, name: str) -> int:
        """Record an index of the dataset of a name, in the place of another, and return the commit.

        Raises ConflictError when that other one is not there any more.
        """
        with self._write() as connection:
            commit = insert_commit(connection, principal, f"index {record.kind} of {name}")
            vector_indexes.put(connection, record, replaced.id if replaced else None, commit)
            return commit

    def advance_index(self, record: IndexRecord, before: IndexRecord, principal: str, name: str) -> int:
        """Record what an index has become and return the commit. Raises ConflictError when it has moved."""
        with self._write() as connection:
            commit = insert_commit(connection, principal, f"index {record.kind} of {name} caught up")
            vector_indexes.advance(connection, record, before)
            return commit

    def drop_index(self, record: IndexRecord, principal: str, name: str) -> int:
        """Record that an index is no more and return the commit. Raises ConflictError."""
        with self._write() as connection:
            commit = insert_commit(connection, principal, f"drop index {record.kind} of {name}")
            vector_indexes.drop(connection, record.id, commit)
            return commit

    def unused_indexes(self) -> list[tuple[IndexRecord, bool]]:
        """Return the indexes that no search uses, and whether they were dropped themselves."""
        with self._read() as connection:
            return vector_indexes.unused(connection)

    def forget_index(self, record: IndexRecord) -> None:
        """Forget an index whose files are gone."""
        with self._write() as connection:
            vector_indexes.forget(connection, record.id)

    def distrust_indexes(self) -> None:
        """Have all indexes looked at anew: they may have gone on since this catalog was written."""
        with self._write() as connection:
            vector_indexes.distrust(connection)

    def acquire(self, lease: str, owner: str, seconds: float) -> bool:
        """Take a lease, or renew one's own; return whether it is had."""
        with self._write() as connection:
            return vector_indexes.acquire(connection, lease, owner, seconds)

    def release(self, lease: str, owner: str) -> None:
        """Give a lease back."""
        with self._write() as connection:
            vector_indexes.release(connection, lease, owner)
