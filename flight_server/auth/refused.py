"""The one answer to whoever cannot log in."""

from flight_server.errors import UnauthenticatedError


class RefusedError(UnauthenticatedError):
    """Credentials that are not good; the client is not told why, the audit log is (`reason`)."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "not logged in: a user name with its password, or a token, is needed, and it must be right, not "
            "expired and not revoked"
        )
        self.reason = reason
