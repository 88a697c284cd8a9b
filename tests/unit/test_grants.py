"""Grant sets: who shares an engine process, and what it reaches."""

import pytest

from flight_server.domain.bucket import Bucket, BucketPattern, BucketRegistry
from flight_server.domain.grants import GrantSets
from flight_server.domain.identity import LOCAL, Identity, bound, parse_grant


@pytest.fixture
def registry() -> BucketRegistry:
    names = ("primary", "testing", "frozen")
    buckets = [Bucket(name, f"file:///data/{name}", read_only=name == "frozen") for name in names]
    return BucketRegistry(buckets, BucketPattern("file:///data/profiles"))


def who(name: str, *grants: str) -> Identity:
    return Identity(name, bound([parse_grant(text) for text in grants], name))


def reached(sets: GrantSets, identity: Identity) -> dict[str, bool]:
    return {bucket.name: bucket.may_write for bucket in sets.of(identity).buckets}


def test_callers_share_a_set_when_they_reach_the_same(registry: BucketRegistry) -> None:
    sets = GrantSets(registry, is_shared=True)
    ann = who("ann", "primary=read,write", "frozen=write", "profile:{user}=write")
    assert reached(sets, ann) == {"primary": True, "frozen": False}
    assert sets.of(ann) is sets.of(ann) == sets.of(who("bob", "primary=write", "fr*=read", "profile:b*=read"))
    assert sets.of(ann) != sets.of(who("reader", "primary=read", "frozen=read"))
    registry.learn([("ann", True), ("bob", True)])
    assert reached(sets, ann) == {"primary": True, "frozen": False, "profile:ann": True}
    assert "profile:ann" in sets.of(ann)
    assert "profile:bob" not in sets.of(ann)
    registry.learn([("ann", False)])
    assert "profile:ann" not in sets.of(ann)


def test_who_sees_the_pattern_keeps_the_set_when_profiles_are_made(registry: BucketRegistry) -> None:
    sets = GrantSets(registry, is_shared=True)
    admin, reader = who("admin", "*=admin"), who("reader", "profile:*=read", "profile:{user}=write")
    before = sets.of(admin)
    registry.learn([("ann", True), ("reader", True)])
    assert sets.of(admin) == before
    assert before.pattern is not None
    assert not before.pattern.read_only
    pattern = sets.of(reader).pattern
    assert pattern is not None
    assert pattern.read_only
    assert reached(sets, reader) == {"profile:reader": True}


def test_a_task_reaches_what_it_touches_and_nobody_reaches_nothing(registry: BucketRegistry) -> None:
    sets = GrantSets(registry, is_shared=True)
    assert {each.name for each in sets.over("testing", "testing", "gone").buckets} == {"testing"}
    assert not sets.first.buckets
    assert sets.first.pattern is None
    assert sets.of(who("stranger")) == sets.first


def test_a_server_without_users_has_one_set(registry: BucketRegistry) -> None:
    sets = GrantSets(registry, is_shared=False)
    assert sets.first is sets.of(LOCAL) is sets.over("testing")
    assert reached(sets, LOCAL) == {"primary": True, "testing": True, "frozen": False}
    assert sets.first.pattern == registry.pattern
