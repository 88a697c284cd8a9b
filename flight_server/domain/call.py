"""What one call is: who makes it, in which session, about which bucket."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flight_server.domain.dataset import IngestMode
from flight_server.domain.identity import Identity


@dataclass(frozen=True, slots=True)
class UploadTerms:
    """What a caller asks of its upload beside the target.

    `expected_rows` is how many rows it must have; `idempotency_key` names it, so that sending it
    again changes nothing; `evolves` lets the upload and the dataset have columns of their own.
    """

    expected_rows: int | None = None
    idempotency_key: str | None = None
    evolves: bool = False


@dataclass(frozen=True, slots=True)
class CallContext:
    """Everything a handler or a service may know about its call.

    `bucket` is the canonical current bucket (header, else session, else `primary`);
    `named_bucket` is the canonical one that this very call's x-lakehouse-bucket named, None without.
    `profile` is the short name of the one that the header, or else the session, selected.
    `schemas` are the session's, where bare names come first, none where a header chooses the bucket.
    `compression` is how the rows of a result are compressed for the way, None where they are not;
    with `dictionaries` its ENUM columns are dictionary-encoded.
    `is_java` says that the client is one in Java, as JDBC drivers are.
    `has_left` asks the transport whether the client has gone away; ask it at most once in a call.
    """

    identity: Identity
    session_id: str
    bucket: str
    named_bucket: str | None
    schemas: tuple[str, ...]
    mode: IngestMode | None
    upload: UploadTerms
    compression: str | None
    dictionaries: bool
    is_java: bool
    has_left: Callable[[], Awaitable[bool]]
    profile: str | None = None

    @property
    def namespace(self) -> str:
        """Where what a bare name creates goes."""
        return self.schemas[0] if self.schemas else self.bucket
