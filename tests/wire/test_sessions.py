"""Sessions by token, by peer, and for one call."""

import time

import pytest

from flight_server.errors import FailedPreconditionError, ResourceExhaustedError, UnauthenticatedError
from flight_server.services.sessions import SessionService

PEER = "ipv4:127.0.0.1:4000"
FAR = "ipv4:203.0.113.9:4000"


def build(keys=(b"k",), idle=60.0, most=10):
    return SessionService(keys, idle, most, most)


def test_a_token_finds_its_session_from_any_peer():
    sessions = build()
    token, session = sessions.mint("local")
    assert sessions.resume(token, None, PEER, "local") is session
    assert sessions.resume(token, None, FAR, "local") is session


def test_another_worker_makes_the_session_anew_from_the_token():
    token, session = build((b"old",)).mint("local")
    assert build((b"old", b"new")).resume(token, None, PEER, "x").id == session.id


@pytest.mark.parametrize("token", ["x", "a.b.c", "WyJhIl0.awM78Q.AAAA"])
def test_forged_tokens_are_unauthenticated(token):
    with pytest.raises(UnauthenticatedError):
        build().resume(token, None, PEER, "local")
    foreign, _ = build((b"other",)).mint("local")
    with pytest.raises(UnauthenticatedError):
        build().resume(foreign, None, PEER, "local")


def test_loopback_peers_keep_a_session_and_others_have_a_cookie():
    sessions = build()
    near = sessions.resume(None, None, PEER, "local")
    assert near is sessions.resume(None, None, PEER, "local")
    assert not near.is_new
    far = sessions.resume(None, None, FAR, "local")
    assert far.is_new
    assert far is not sessions.resume(None, None, FAR, "local")
    assert far is sessions.resume(None, far.key, FAR, "local")
    assert sessions.resume(None, "forged", PEER, "local") is near


def test_closing_is_idempotent_and_told_once():
    sessions, closed = build(), []
    sessions.on_close(lambda session: closed.append(session.id))
    _, session = sessions.mint("local")
    sessions.close(session.id)
    sessions.close(session.id)
    assert closed == [session.id]


def test_idle_sessions_end_but_not_under_a_call():
    sessions = build(idle=0.01)
    _, busy = sessions.mint("local")
    sessions.enter(busy)
    _, idle = sessions.mint("local")
    time.sleep(0.02)
    sessions.mint("local")
    assert sessions.get(busy.id) is busy
    with pytest.raises(FailedPreconditionError):
        sessions.get(idle.id)


def test_too_many_sessions_are_refused_but_empty_peer_sessions_make_room():
    sessions = build(most=2)
    sessions.resume(None, None, PEER, "local")
    sessions.mint("local")
    sessions.mint("local")
    with pytest.raises(ResourceExhaustedError):
        sessions.mint("local")
    assert len(sessions) == 2
