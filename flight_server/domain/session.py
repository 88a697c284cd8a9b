"""What a statement carries of its session, and what it may ask to be done to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DICTIONARIES = "dictionaries"
"""The one setting that is ours and not DuckDB's: `true` where ENUM columns come as dictionaries."""


DUCKDB_SETTINGS: Mapping[str, str] = {"timezone": "TimeZone"}
"""Settings of DuckDB that a session may have, by their folded names."""


SHOWN_OPTIONS = ("bucket", "profile", "statement_timeout")
"""Options of a session that only the gateway knows, and SHOW tells."""


TEMPORARY_TABLE, TEMPORARY_VIEW = "temporary table", "temporary view"


@dataclass(frozen=True, slots=True)
class Holding:
    """Something that an engine process keeps for a session: its kind, in words, and its name."""

    kind: str
    name: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class StatementSession:
    """The session of a statement as an engine process sees it.

    `settings` are DuckDB's, by their names there; `transaction` is the id of the open one in hex; with
    `has_state` the engine process must know the session from an earlier statement. `profile` is the short
    name of the selected one, None where none is.
    """

    id: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    transaction: str | None = None
    has_state: bool = False
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Verb:
    """What a statement asks of its session: begin, commit, rollback, set, reset.

    `value` is the text or number given to an option; of a schema there are `paths` instead.
    """

    verb: str
    name: str = ""
    value: str | None = None
    paths: tuple[tuple[str, ...], ...] = ()
