"""Buckets that a pattern makes: for any number of profiles, seen by every server of a catalog at once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.testing import serve
from tests import flight_sql
from tests.actions import act, act_all, put

pytestmark = pytest.mark.slow

ONE = pa.table({"x": [1]})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Path]]:
    """Two servers of one catalog, whose profiles lie at a place of their own; and that place."""
    folder = tmp_path_factory.mktemp("pattern")
    buckets = {
        "primary": {"uri": str(folder / "primary")},
        "profile:fixed": {"uri": str(folder / "fixed")},
        "profile:*": {"uri": str(folder / "people" / "{name}" / "lake")},
    }
    with (
        serve(buckets, data_dir=folder) as first,
        serve(buckets, data_dir=folder) as second,
        flight.connect(first.uri) as one,
        flight.connect(second.uri) as other,
    ):
        yield one, other, folder / "people"


def test_what_one_server_makes_or_drops_the_other_sees_at_once(pair: tuple[Any, Any, Path]) -> None:
    one, other, people = pair
    for name in ("ann", "bob"):
        act(one, "create_profile", profile=name)
        put(other, (f"profile:{name}", "t"), ONE)
        assert flight_sql.query(one, f'FROM "profile:{name}".t')["x"].to_pylist() == [1]
        assert [*people.glob(f"{name}/lake/_objects/*/*.parquet")]
    assert [row["profile"] for row in act_all(other, "list_profiles")] == ["ann", "bob", "fixed"]
    act(other, "drop_profile", profile="bob")
    with pytest.raises(pa.ArrowKeyError, match="no schema 'profile:bob'"):
        flight_sql.query(one, 'FROM "profile:bob".t')
    with pytest.raises(pa.ArrowKeyError, match="no schema 'profile:bob'"):
        put(one, ("profile:bob", "t"), ONE)
    act(one, "create_profile", profile="bob")
    with pytest.raises(pa.ArrowKeyError, match="no table"):
        flight_sql.query(one, 'FROM "profile:bob".t')


def test_made_profiles_are_not_searched_for_bare_names(pair: tuple[Any, Any, Path]) -> None:
    one, _, _ = pair
    act(one, "create_profile", profile="cleo")
    put(one, ("profile:cleo", "only_of_cleo"), ONE)
    put(one, ("profile:fixed", "only_of_fixed"), ONE)
    assert flight_sql.query(one, "FROM only_of_fixed").num_rows == 1
    with pytest.raises(pa.ArrowKeyError, match="no table 'only_of_cleo'"):
        flight_sql.query(one, "FROM only_of_cleo")


def test_of_many_names_a_message_offers_only_those_that_are_near(pair: tuple[Any, Any, Path]) -> None:
    one, _, _ = pair
    for number in range(250):
        act(one, "create_profile", profile=f"many{number:03}")
    put(one, ("profile:many100", "docs"), ONE)
    for sql, said in (
        ("FROM vector_search('docs', '[1]', profile => 'many10')", "did you mean profile:many"),
        ('FROM "profile:mani100".docs', "did you mean profile:many100"),
        ('FROM "profile:many100".dogs', "did you mean profile:many100.docs?"),
        ('FROM "zzz".docs', "FROM information_schema.schemata lists the schemas"),
    ):
        with pytest.raises(pa.ArrowKeyError, match=re.escape(said)) as raised:
            flight_sql.query(one, sql)
        assert str(raised.value).count("many") <= 5
    with pytest.raises(
        pa.ArrowKeyError, match=r"no profile 'many10'; did you mean many\d+ or .* list_profiles lists"
    ):
        act(one, "activate_profile", profile="many10")


@pytest.mark.slow
def test_without_a_pattern_no_profile_can_be_made(tmp_path: Path) -> None:
    with (
        serve({"primary": {"uri": str(tmp_path)}}) as server,
        flight.connect(server.uri) as client,
        pytest.raises(pa.ArrowInvalid, match="the configuration has no"),
    ):
        act(client, "create_profile", profile="ann")
