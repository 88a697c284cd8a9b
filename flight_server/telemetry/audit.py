"""The audit log: one line of JSON for each login, change of users, admin action and denied call.

It goes to the logger `flight_server.audit`. No line holds a password, a token or a key.
"""

import json
import logging

_LOG = logging.getLogger("flight_server.audit")


def record(event: str, /, **fields: object) -> None:
    """Write one line; fields that are None are left out."""
    told = {name: value for name, value in fields.items() if value is not None}
    _LOG.info("%s", json.dumps({"event": event, **told}, default=str))
