"""Datasets, their immutable versions, and the objects these consist of."""

import builtins
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from string import ascii_lowercase, ascii_uppercase

from flight_server.domain.bucket import PRIMARY

CATALOG = "lakehouse"
"""The one Flight SQL catalog."""

_FOLDING = str.maketrans(ascii_uppercase, ascii_lowercase)


def fold_name(name: str) -> str:
    """Return the form under which names compare: as in DuckDB only ASCII letters lose their case."""
    return name.translate(_FOLDING)


def display_name(namespace: str, name: str) -> str:
    """Return the name by which a user knows a dataset; `primary` is left out."""
    return name if namespace == PRIMARY else f"{namespace}.{name}"


class IngestMode(StrEnum):
    """What an upload does about a dataset that exists or does not."""

    CREATE = "create"
    APPEND = "append"
    REPLACE = "replace"
    CREATE_APPEND = "create_append"


class ChangeMode(StrEnum):
    """What a change does to a dataset, a view or a schema; the first four are those of uploads."""

    CREATE = "create"
    APPEND = "append"
    REPLACE = "replace"
    CREATE_APPEND = "create_append"
    REWRITE = "rewrite"
    ALTER = "alter"
    RENAME = "rename"
    DROP = "drop"


class Kind(StrEnum):
    """What has a name in the catalog."""

    TABLE = "table"
    VIEW = "view"
    SCHEMA = "schema"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A schema: a bucket's own, which has its name, or one that was made and lies in it."""

    name: str
    bucket: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A Parquet object as an engine process wrote or found it: key under its bucket's root.

    `checksum` is `<algorithm>:<hex digest>` of its bytes, empty for objects that are not ours.
    `schema` is its own Arrow schema as an IPC message where that is not its change's.
    """

    key: str
    rows: int
    bytes: int
    checksum: str
    schema: builtins.bytes | None = None


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One stored object of a dataset; `bucket` and `key` stand as they were written.

    `schema` is the object's Arrow schema as an encapsulated IPC message, None while unknown.
    """

    bucket: str
    key: str
    rows: int | None
    bytes: int
    schema: builtins.bytes | None
    managed: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """What SQL sees as a table, or as a view, which has a `definition`: its query."""

    id: str
    namespace: str
    name: str
    version: int
    commit: int
    schema: bytes | None
    kind: str = Kind.TABLE
    definition: str | None = None


@dataclass(frozen=True, slots=True)
class UploadKey:
    """The name that a caller gave an upload, and the digest of all that makes it this upload."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class DatasetFilter:
    """Which datasets a list holds: those of namespaces and, if given, those whose name is LIKE a pattern.

    Whoever reads the list looks again: a database may take upper and lower case of the pattern for the same,
    and is not told namespaces when there are many.
    """

    namespaces: tuple[str, ...]
    name_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetTotals:
    """What a dataset version holds; `rows` is None when an object's count is not known."""

    objects: int
    rows: int | None
    bytes: int


@dataclass(frozen=True, slots=True)
class CatalogTotals:
    """What a catalog holds: its newest commit, its datasets, the objects of all their versions.

    `last_ref` is the id of the newest of these, which nobody but the catalog needs.
    """

    commit: int
    datasets: int
    objects: int
    bytes: int
    last_ref: int


@dataclass(frozen=True, slots=True)
class VersionRange:
    """The versions that a dataset has, and when (timezone-aware) its oldest and newest were committed."""

    oldest: int
    oldest_at: datetime
    newest: int
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """What one commit does to one dataset, view or schema (`namespace` is its name, `bucket` where it lies).

    `dataset_id` is where the objects were written for; it becomes the dataset's id when the
    commit creates it. `base_version` is what the change started from (None: it did not exist).
    With `evolves` the dataset gets the columns of `schema` that it does not have. Objects that are
    not `managed` are never deleted. A change whose `upload_key` is recorded is not made again.
    A rewrite takes away the refs `removed`, as (bucket, key) as they are stored. `new_name` is for a rename
    and `definition` for a view. What the server does to tidy up `is_upkeep`: no quota refuses it.
    """

    namespace: str
    name: str
    bucket: str
    mode: ChangeMode
    dataset_id: str
    base_version: int | None
    schema: bytes
    objects: tuple[StoredObject, ...]
    evolves: bool = False
    managed: bool = True
    upload_key: UploadKey | None = None
    kind: Kind = Kind.TABLE
    removed: tuple[tuple[str, str], ...] = ()
    new_name: str | None = None
    definition: str | None = None
    is_upkeep: bool = False


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """Changes that are to be one commit, by whom, and what it is for."""

    changes: tuple[DatasetChange, ...]
    principal: str
    summary: str


@dataclass(frozen=True, slots=True)
class CommittedChange:
    """One dataset after a commit, and what the commit brought it.

    `is_repeated` says that an earlier commit has made the change, and this one did not again.
    """

    namespace: str
    name: str
    dataset_id: str
    version: int
    commit: int
    rows: int
    bytes: int
    objects: int
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class ImportedDataset:
    """A dataset that was written before this catalog existed, or a piece of one; its objects stay.

    `created_at` is timezone-aware; `namespace` is None where no object says which one.
    """

    id: str
    namespace: str | None
    name: str
    created_at: datetime
    objects: tuple[ObjectRef, ...]


@dataclass(frozen=True, slots=True)
class ExpiryRule:
    """Which versions go: those superseded `before` a moment, unless at or after the pinned commit.

    `bucket` narrows it to the datasets whose schema lies in one bucket.
    """

    before: datetime
    pinned_commit: int | None = None
    bucket: str | None = None


@dataclass(frozen=True, slots=True)
class ExpiredObject:
    """An object of ours that no version uses any more; `bucket` as it was written."""

    bucket: str
    key: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ExpiredVersions:
    """What an expiry let go; `forgotten` counts refs to objects that stay, being of others or in use."""

    versions: int
    objects: tuple[ExpiredObject, ...]
    forgotten: int
    upload_keys: int
