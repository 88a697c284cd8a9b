"""Statements as services and handlers exchange them; schemas are encapsulated IPC messages."""

from dataclasses import dataclass

from flight_server.domain.dataset import IngestMode


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement that may now be fetched: the schema of its rows and the handle that names it."""

    schema: bytes
    handle: bytes


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
