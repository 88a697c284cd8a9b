"""Who may see and cancel which query, what is remembered of them, and how long their tickets are good for."""

from types import SimpleNamespace
from typing import cast

import pytest

from flight_server.domain.call import CallContext
from flight_server.domain.identity import LOCAL, Grant, Identity
from flight_server.errors import CallCancelledError, NotFoundError, ResourceExhaustedError
from flight_server.services import handles as handles_module
from flight_server.services.cancel import CancelService
from flight_server.services.handles import Handles
from flight_server.services.held import HeldMessages
from flight_server.services.queries import CancelStatus, Queries

HOUR = 3600.0


def call_of(name: str) -> CallContext:
    """Return what these services read of a call."""
    identity = Identity(name, (Grant("testing", frozenset(("read", "admin"))),))
    return cast("CallContext", SimpleNamespace(identity=identity, session_id="s", bucket="testing"))


ADA, BOB = call_of("ada"), call_of("bob")


def test_a_query_is_its_principals_and_the_admins() -> None:
    queries = Queries()
    query = queries.open(ADA, "SELECT 1")
    assert [len(queries.all(who)) for who in (ADA.identity, BOB.identity, LOCAL)] == [1, 0, 1]
    with pytest.raises(NotFoundError, match="no query"):
        queries.cancel(BOB.identity, query.id)
    assert queries.cancel(LOCAL, query.id) is CancelStatus.CANCELLED


def test_a_ticket_of_somebody_else_cancels_nothing() -> None:
    queries = Queries()
    handles = Handles((b"key",), HeldMessages(1024))

    class Query:
        def query_id(self, call: CallContext, handle: bytes) -> str:
            return str(handles.open("statement", call, handle).fields["query"])

    cancel = CancelService(Query(), queries, handles)
    handle = handles.seal("statement", ADA, {"query": queries.open(ADA, "SELECT 1").id})
    with pytest.raises(NotFoundError, match="not yours"):
        cancel.cancel_info(BOB, handle, None)
    assert cancel.cancel_info(ADA, handle, None) is CancelStatus.CANCELLED
    assert cancel.cancel_info(ADA, handle, None) is CancelStatus.CANCELLED
    planned_elsewhere = handles.seal("statement", ADA, {"query": Queries().new_id()})
    with pytest.raises(NotFoundError, match="runs in another process"):
        cancel.cancel_info(ADA, planned_elsewhere, None)


def test_a_cancelled_execution_stops_what_runs_and_what_would() -> None:
    queries, stopped = Queries(), []
    query = queries.open(ADA, "SELECT 1")
    with pytest.raises(CallCancelledError), queries.running(query) as execution:
        with execution.stopped_by(lambda: stopped.append(1)):
            queries.cancel_session(ADA)
        execution.check()
    assert stopped == [1]
    assert query.state == "cancelled"
    with pytest.raises(CallCancelledError, match="plan it again"):
        queries.open(ADA, "SELECT 1", query.id)


def test_what_is_remembered_is_bounded() -> None:
    queries = Queries()
    for turn in range(2_000):
        with queries.running(queries.open(ADA, f"SELECT {turn} /* {'x' * 10_000} */")):
            pass
    known = queries.all(LOCAL)
    assert len(known) == 500
    assert max(len(query.sql) for query in known) < 5_000
    assert {query.state for query in known} == {"finished"}


def test_results_make_room_for_parameters_and_not_the_other_way_round() -> None:
    held = HeldMessages(100)
    for name in ("old", "new"):
        held.begin(name, "ann")
        assert held.add(name, b"x" * 40)
        held.finish(name)
    key = held.keep((b"p" * 50,), "ann")
    assert [held.result("old"), held.result("new")] == [None, [b"x" * 40]]
    held.begin("large", "ann")
    assert held.add("large", b"x" * 40)
    assert not held.add("large", b"x" * 40)
    assert held.result("large") is None
    assert held.parameters(key) == [b"p" * 50]
    held.keep((b"q" * 60,), "ann")
    assert held.parameters(key) is None
    with pytest.raises(ResourceExhaustedError, match="at most 100 are held"):
        held.keep((b"q" * 101,), "ann")


def test_whoever_holds_most_makes_room_and_not_others() -> None:
    held = HeldMessages(100)
    for name, owner in (("own", "ann"), ("first", "bob"), ("second", "bob"), ("third", "bob")):
        held.begin(name, owner)
        assert held.add(name, b"x" * 30) is True
        held.finish(name)
    assert [held.result(name) is None for name in ("own", "first", "second", "third")] == [0, 1, 0, 0]
    keys = [held.keep((b"p" * 30,), owner) for owner in ("ann", "bob", "bob", "bob", "bob")]
    assert [held.parameters(key) is None for key in keys] == [False, True, True, False, False]
    assert held.parameters(held.keep((b"p" * 60,), "cat")) == [b"p" * 60]


def test_a_ticket_is_renewed_up_to_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    clock = SimpleNamespace(time=lambda: now)
    monkeypatch.setattr(handles_module, "time", clock)
    handles = Handles((b"key",), HeldMessages(1024))
    handle = handles.seal("statement", ADA, {"x": 1}, expires=now + HOUR)
    renewed = handles.renew("statement", ADA, handle, now + 2 * HOUR)
    assert renewed.expires == now + 2 * HOUR
    assert handles.renew("statement", ADA, renewed.handle, now + 99 * HOUR).expires == now + 24 * HOUR
    now += 1.5 * HOUR
    with pytest.raises(NotFoundError, match="has expired"):
        handles.open("statement", ADA, handle)
    with pytest.raises(NotFoundError, match="has expired"):
        handles.renew("statement", ADA, handle, now + HOUR)
    assert handles.open("statement", ADA, renewed.handle).fields == {"x": 1}
