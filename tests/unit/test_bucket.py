import pytest

from flight_server.domain.bucket import RESERVED_NAMES, Bucket, BucketRegistry, is_valid_name
from flight_server.domain.identity import LOCAL, Grant, Identity
from flight_server.errors import InvalidArgumentError, NotFoundError

REGISTRY = BucketRegistry(
    [
        Bucket("primary", "file:///p", ("", "data", "local")),
        Bucket("testing", "file:///t"),
        Bucket("profile:user", "file:///u"),
    ]
)


@pytest.mark.parametrize("name", ["a", "0", "testing", "profile:user", "a.b-c_d", "a" * 63, "a:" + "b" * 63])
def test_name_is_valid(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "A", "a b", "../x", "/", ".a", "a:", ":a", "a:b:c", "a" * 64, "a\n", "ä", *sorted(RESERVED_NAMES)],
)
def test_name_is_not_valid(name: str) -> None:
    assert not is_valid_name(name)


@pytest.mark.parametrize("written", ["", "data", "local", "primary"])
def test_aliases_resolve_to_primary(written: str) -> None:
    assert REGISTRY.resolve(LOCAL, written).name == "primary"


def test_unknown_bucket_is_not_found_and_lists_the_valid_ones() -> None:
    with pytest.raises(NotFoundError, match="primary, testing, profile:user"):
        REGISTRY.resolve(LOCAL, "elsewhere")


@pytest.mark.parametrize("written", ["testing", "elsewhere"])
def test_bucket_that_a_caller_may_not_read_is_as_one_that_is_not_there(written: str) -> None:
    ann = Identity("ann", (Grant("profile:*", frozenset({"read"})),))
    with pytest.raises(NotFoundError) as caught:
        REGISTRY.resolve(ann, written)
    assert caught.value.message == f"no bucket {written!r}; the buckets here are: profile:user"
    with pytest.raises(NotFoundError, match="the profiles here are: none"):
        REGISTRY.profile(Identity("bob", ()), "user")


@pytest.mark.parametrize("written", ["../../etc", "a/b", "Testing", "x" * 500, "\0"])
def test_text_that_is_no_name_is_an_invalid_argument(written: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not a bucket name"):
        REGISTRY.resolve(LOCAL, written)


@pytest.mark.parametrize(
    ("key", "located"),
    [
        ("a/b.parquet", ("testing", "testing", "a/b.parquet")),
        ("lakehouse://data/a.parquet", ("primary", "data", "a.parquet")),
        ("lakehouse://profile:user/a.parquet", ("profile:user", "profile:user", "a.parquet")),
        ("lakehouse-profile-user://a/b.parquet", ("profile:user", "profile:user", "a/b.parquet")),
        ("lakehouse://nowhere/a.parquet", (None, "nowhere", "a.parquet")),
        ("lakehouse-nowhere://a.parquet", (None, "lakehouse-nowhere", "a.parquet")),
    ],
)
def test_legacy_url_wins_over_the_bucket_field(key: str, located: tuple[str | None, str, str]) -> None:
    assert REGISTRY.locate("testing", key) == located


def test_sanitised_name_that_two_buckets_share_is_unknown() -> None:
    registry = BucketRegistry([Bucket("profile:user", "file:///a"), Bucket("profile.user", "file:///b")])
    located = registry.locate("", "lakehouse-profile-user://k")
    assert located == (None, "lakehouse-profile-user", "k")
