"""Bodies of actions ↔ values.

Flight SQL actions wrap request and result in an Any; Flight's own actions carry the bare message;
ours carry JSON.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire import messages

LONGEST_JSON = 1024 * 1024
"""Bytes of JSON that are read: a MiB may take a tenth of a second, in which nobody else is served."""


def decode_action(request: bytes) -> tuple[str, bytes]:
    """Return (type, body) of a serialized Action."""
    action = messages.parse("Action", request)
    return action.type, action.body


def unpack_request(name: str, body: bytes) -> Any:
    """Return the Flight SQL message of that name out of an action's body.

    Raises InvalidArgumentError when the body holds anything else.
    """
    found, value = messages.unpack(body)
    if found != name:
        raise InvalidArgumentError(f"the action's body must hold {name}, got {found[:100]!r}")
    return messages.parse(name, value)


def decode_json(body: bytes, longest: int = LONGEST_JSON) -> dict[str, Any]:
    """Return the JSON object of an action's body; an empty body is an empty object.

    Raises InvalidArgumentError for anything else, and for one of more bytes than `longest`.
    """
    if not body:
        return {}
    if len(body) > longest:
        raise InvalidArgumentError(
            f"the action's body has {len(body)} bytes, at most {longest} are read: ask for less at once"
        )
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError("the action's body must be a JSON object in UTF-8") from error
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"the action's body must be a JSON object, got {type(value).__name__}")
    return value


def encode_json(value: object) -> bytes:
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def check_keys(action: str, options: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse a body with keys that an action does not take. Raises InvalidArgumentError."""
    unknown = sorted(options.keys() - set(known))
    if unknown:
        takes = f"takes only {', '.join(known)}, got also" if known else "takes no keys, got"
        raise InvalidArgumentError(f"{action} {takes} {unknown[0][:100]!r}")


def check_names(options: Mapping[str, object], names: Sequence[str]) -> None:
    """Refuse a body without one of the names, which are texts. Raises InvalidArgumentError."""
    for name in names:
        if not isinstance(options.get(name), str) or not options[name]:
            raise InvalidArgumentError(f"the body must name a '{name}'")
