"""What a caller proved when it logged in."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self


class LoginKind(StrEnum):
    """How callers say who they are."""

    PASSWORD = "password"  # noqa: S105 (the kind, not one)
    TOKEN = "token"  # noqa: S105
    JWT = "jwt"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Login:
    """Who somebody has proved to be, and by what; a session remembers it, and it is asked again at each call.

    `reference` names the very credential without being it: when that is gone or another, the login is no
    longer good, and so it is after `expires_at`, in seconds since 1970 UTC. `grants` are those that a JWT
    brought, as they are written.
    """

    name: str
    kind: LoginKind
    reference: str
    expires_at: float | None = None
    grants: tuple[str, ...] = ()

    def written(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, written: dict[str, Any]) -> Self:
        """Return what `written` returned. Raises ValueError, TypeError or KeyError for anything else."""
        values = {**written, "kind": LoginKind(written["kind"]), "grants": tuple(written["grants"])}
        return cls(**values)
