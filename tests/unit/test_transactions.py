"""How many transactions somebody may have open."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from flight_server.domain.call import CallContext
from flight_server.domain.identity import Identity
from flight_server.errors import ResourceExhaustedError
from flight_server.services import transactions
from flight_server.services.sessions import SessionService
from flight_server.services.transactions import TransactionService


def test_one_caller_has_a_bounded_number_open_and_keeps_nobody_from_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transactions, "_MOST_OWN", 2)
    sessions = SessionService((b"key",), 60, 10, 10)
    committer: Any = None
    dispatcher: Any = None
    service = TransactionService(committer, sessions, dispatcher, 60)

    def call_of(name: str) -> CallContext:
        _, session = sessions.mint(name)
        return cast("CallContext", SimpleNamespace(identity=Identity(name, ()), session_id=session.id))

    ann, bob = call_of("ann"), call_of("bob")
    for _ in range(2):
        service.begin(ann)
    with pytest.raises(ResourceExhaustedError, match="you have 2 transactions open"):
        service.begin(ann)
    service.begin(bob)
    sessions.close(ann.session_id)
    service.begin(call_of("ann"))
