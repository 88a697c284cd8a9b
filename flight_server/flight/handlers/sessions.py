"""Sessions: their options, and the end of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flight_server.domain.call import CallContext
from flight_server.domain.session import DUCKDB_SETTINGS
from flight_server.domain.statement import SqlStatement
from flight_server.errors import InvalidArgumentError, LakehouseError
from flight_server.flight.wire import messages
from flight_server.services.session_options import UnknownOptionError

if TYPE_CHECKING:
    from flight_server.services.query import QueryService
    from flight_server.services.session_options import SessionOptions
    from flight_server.services.sessions import SessionService

_CLOSED = 1
_INVALID_NAME, _INVALID_VALUE, _ERROR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class SessionHandlers:
    """Answers SetSessionOptions, GetSessionOptions and CloseSession; bodies are bare messages, not Any."""

    sessions: "SessionService"
    options: "SessionOptions"
    query: "QueryService"

    async def set_options(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Set options, one without a value is taken back; the result names those that could not be set."""
        request = messages.parse("SetSessionOptionsRequest", body)
        errors = []
        for option in request.session_options:
            try:
                await self._set(call, option.key, _value(option.value))
            except LakehouseError as error:
                failure = messages.create("SessionOptionError", value=_error(error))
                errors.append(messages.create("SessionOptionFailure", key=option.key, value=failure))
        return (messages.encode("SetSessionOptionsResult", errors=errors),)

    async def _set(self, call: CallContext, name: str, value: str | None) -> None:
        if value is None:
            self.options.reset(call, name)
        elif name.lower() in DUCKDB_SETTINGS:
            # Only an engine process knows which values are right.
            written = value.replace("'", "''")
            await self.query.update(call, SqlStatement(f"SET {name} = '{written}'"))
        else:
            self.options.set(call, name, value)

    async def get_options(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Return the options that have a value."""
        messages.parse("GetSessionOptionsRequest", body)
        options = [
            messages.create(
                "SessionOption", key=name, value=messages.create("SessionOptionValue", string_value=value)
            )
            for name, value in self.options.show(call).items()
        ]
        return (messages.encode("GetSessionOptionsResult", session_options=options),)

    async def close(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """End the caller's session."""
        messages.parse("CloseSessionRequest", body)
        self.sessions.close(call.session_id)
        return (messages.encode("CloseSessionResult", status=_CLOSED),)


def _value(value: Any) -> str | None:
    """Return an option's value as a text, None when it has none. Raises InvalidArgumentError for a list."""
    if value.HasField("string_list_value"):
        raise InvalidArgumentError("no option of a session is a list")
    for field in ("string_value", "int64_value", "double_value", "bool_value"):
        if value.HasField(field):
            return str(getattr(value, field))
    return None


def _error(error: LakehouseError) -> int:
    if isinstance(error, UnknownOptionError):
        return _INVALID_NAME
    return _ERROR if type(error) is LakehouseError else _INVALID_VALUE
