"""Datasets, their immutable versions, and the objects these consist of."""

import builtins
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from string import ascii_lowercase, ascii_uppercase

from flight_server.domain.bucket import PRIMARY

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


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A Parquet object as an engine process wrote or found it: key under its bucket's root.

    `checksum` is `<algorithm>:<hex digest>` of its bytes, empty for objects that are not ours.
    """

    key: str
    rows: int
    bytes: int
    checksum: str


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
    """What SQL sees as a table."""

    id: str
    namespace: str
    name: str
    version: int
    commit: int
    schema: bytes | None


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """What one commit does to one dataset.

    `dataset_id` is where the objects were written for; it becomes the dataset's id when the
    commit creates it. `base_version` is what a replace started from (None: it did not exist).
    """

    namespace: str
    name: str
    bucket: str
    mode: IngestMode
    dataset_id: str
    base_version: int | None
    schema: bytes
    objects: tuple[StoredObject, ...]


@dataclass(frozen=True, slots=True)
class CommittedChange:
    """One dataset after a commit."""

    namespace: str
    name: str
    dataset_id: str
    version: int
    commit: int


@dataclass(frozen=True, slots=True)
class ImportedDataset:
    """A dataset that was written before this catalog existed; its objects stay where they are.

    `created_at` is timezone-aware; `schema` is an encapsulated IPC message, None while unknown.
    """

    id: str
    namespace: str
    name: str
    created_at: datetime
    schema: bytes | None
    objects: tuple[ObjectRef, ...]
