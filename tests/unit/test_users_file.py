import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flight_server.auth.authenticator import Authenticator
from flight_server.auth.changes import UserChanges
from flight_server.auth.passwords import PasswordCheck, hashed
from flight_server.auth.refused import RefusedError
from flight_server.auth.users import UsersFile
from flight_server.domain.identity import Grant, Identity, bound, parse_grant
from flight_server.domain.login import Login, LoginKind
from flight_server.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from flight_server.settings.auth import AuthSettings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


@pytest.fixture
def changes(path: Path) -> UserChanges:
    return UserChanges(UsersFile(path), lambda password: f"hash of {password}")


def test_changes_at_one_time_are_all_kept(changes: UserChanges, path: Path) -> None:
    names = [f"u{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: changes.add_user(name, ["primary=read"], None), names))
    assert {user.name for user in changes.users()} == set(names)
    assert sorted(each.name for each in path.parent.iterdir()) == ["users.json", "users.json.lock"]


def test_a_file_that_is_open_to_others_or_damaged_is_refused(changes: UserChanges, path: Path) -> None:
    changes.add_user("ann", [], None)
    path.chmod(0o640)
    with pytest.raises(FailedPreconditionError, match="chmod 600"):
        changes.users()
    path.chmod(0o600)
    for text in ("", "{}", "[]", json.dumps({"version": 1, "users": [{"name": "*"}], "tokens": []})):
        path.write_text(text)
        with pytest.raises(FailedPreconditionError, match="cannot be read"):
            changes.add_user("bob", [], None)
        assert path.read_text() == text


def test_a_user_begins_anew_after_being_revoked(changes: UserChanges) -> None:
    changes.add_user("ann", ["*=admin"], "x", ["CN=ann"])
    changes.add_token("ann", None)
    with pytest.raises(AlreadyExistsError):
        changes.add_user("ann", [], None)
    with pytest.raises(AlreadyExistsError, match="CN=ann stands for ann already"):
        changes.add_user("bob", [], None, ["CN=ann"])
    changes.revoke_user("ann")
    with pytest.raises(FailedPreconditionError, match="ann is revoked"):
        changes.add_token("ann", None)
    changes.add_user("ann", [], None)
    assert [user.grants for user in changes.users()] == [()]
    assert changes.tokens() == []


def test_a_login_is_worth_what_the_file_says_now(changes: UserChanges, path: Path) -> None:
    changes.add_user("ann", ["testing=read"], "x")
    authenticator = Authenticator(AuthSettings(users_file=path))
    user = changes.user("ann")
    login = Login("ann", LoginKind.PASSWORD, user.epoch)
    expected = (*user.grants, Grant("profile:ann", frozenset(("read", "write"))))
    assert authenticator.identity(login) == Identity("ann", expected)

    def refresh() -> None:
        assert authenticator.has_changed
        asyncio.run(authenticator.refresh())

    path.write_text("damaged")
    refresh()
    assert authenticator.identity(login).name == "ann"
    path.unlink()
    refresh()
    with pytest.raises(RefusedError):
        authenticator.identity(login)
    authenticator.close()


def test_unknown_names_take_as_long_as_wrong_passwords() -> None:
    check, kept = PasswordCheck(), hashed("right")

    def seconds(of: str | None) -> float:
        started = time.perf_counter()
        assert not asyncio.run(check.is_right("wrong", of))
        return time.perf_counter() - started

    unknown, wrong = (min(seconds(of) for _ in range(2)) for of in (None, kept))
    assert 0.25 < unknown / wrong < 4
    check.close()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("primary=read", "primary=read"),
        ("profile:user = write", None),
        ("profile:user=write", "profile:user=read,write"),
        ("*=admin", "*=read,write,admin"),
        ("profile:{user}=read,write", "profile:{user}=read,write"),
        ("primary", None),
        ("primary=", None),
        ("=read", None),
        ("[a-z]=read", None),
        ("Primary=read", None),
        ("primary=read,fly", None),
    ],
)
def test_grants_are_read_as_they_are_written(written: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(InvalidArgumentError, match="is no grant"):
            parse_grant(written)
    else:
        assert str(parse_grant(written)) == kept


def test_no_name_reaches_more_than_its_own_profile() -> None:
    own = [parse_grant("profile:{user}=read")]
    assert [str(grant) for grant in bound(own, "ann")] == ["profile:ann=read"]
    for name in ("*", "a*", "Ann", "ann@example.com", "a:b", "", "[a-z]"):
        assert bound(own, name) == ()


def test_a_scope_never_widens() -> None:
    scoped = Identity("x", (parse_grant("testing=read"),), (parse_grant("*=admin"),))
    assert (scoped.may("read", "testing"), scoped.may("write", "testing")) == (True, False)
    assert not scoped.may("read", "primary")
    assert not scoped.is_admin
    assert not Identity("x", (parse_grant("*=admin"),), (parse_grant("*=read"),)).is_admin
