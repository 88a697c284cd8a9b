"""Statements as services and handlers exchange them; schemas are encapsulated IPC messages."""

import builtins
from dataclasses import dataclass

from flight_server.domain.dataset import IngestMode


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """A statement to run.

    `transaction_id` is None for the session's own; `expected` is the digest of the columns that it was
    prepared with, empty when it was not. `worked` are the seconds that preparing it took, which count for it.
    """

    sql: str
    transaction_id: bytes | None = None
    expected: str = ""
    worked: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement that may now be fetched: the schema of its rows and the handle that names it.

    One that has run and returned nothing has an empty handle, and `rows` are those that it changed.

    `rows` and `bytes` (of stored objects) are None where they are not known before it runs. The
    handle is good until `expires`, in seconds since 1970 UTC, and `query_id` names the run to cancel.
    """

    schema: builtins.bytes
    handle: builtins.bytes
    rows: int | None = None
    bytes: int | None = None
    expires: float | None = None
    query_id: str | None = None


@dataclass(frozen=True, slots=True)
class PollStatus:
    """How far a polled query is: finished when there is no `handle` to ask with again.

    `progress` is 0 to 1, None where it is not known. The handle is good until `expires`, in seconds
    since 1970 UTC.
    """

    plan: Plan
    handle: builtins.bytes | None = None
    progress: float | None = None
    expires: float | None = None


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
