"""Statements as services and handlers exchange them; schemas are encapsulated IPC messages."""

import builtins
from dataclasses import dataclass

from flight_server.domain.dataset import IngestMode


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement that may now be fetched: the schema of its rows and the handle that names it.

    `rows` and `bytes` (of stored objects) are None where they are not known before it runs.
    """

    schema: builtins.bytes
    handle: builtins.bytes
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PreparedStatement:
    """A statement with a handle, the schema of its rows and of its parameters."""

    handle: bytes
    dataset_schema: bytes
    parameter_schema: bytes
    is_update: bool


@dataclass(frozen=True, slots=True)
class IngestTarget:
    """Where an upload goes, as its command or path names it; None where it names nothing.

    `transaction_id` is the Flight SQL transaction named by the command.
    """

    dataset: str
    schema: str | None
    mode: IngestMode
    transaction_id: bytes | None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an upload did; `version` and `commit` are None while its transaction is open."""

    dataset: str
    bucket: str
    version: int | None
    commit: int | None
    rows: int
    bytes: int
    objects: int


@dataclass(frozen=True, slots=True)
class Registration:
    """What is to be registered: keys of objects or folders under the bucket's root."""

    bucket: str
    dataset: str
    keys: tuple[str, ...]
    mode: IngestMode = IngestMode.CREATE_APPEND


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be swept: one bucket or all, and orphans that are `older_than` some seconds."""

    bucket: str | None = None
    older_than: float = 24 * 3600
    dry_run: bool = False
