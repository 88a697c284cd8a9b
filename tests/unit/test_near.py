import pytest

from flight_server.domain.near import near, offer

MANY = [f"ann{number:04}" for number in range(5000)]


@pytest.mark.parametrize("wanted", ["amn0123", "Ann0123", "xann0123"])
def test_a_name_with_a_slip_in_it_is_found_among_many(wanted: str) -> None:
    assert "ann0123" in near(wanted, MANY)


def test_few_names_are_listed_and_of_many_those_that_are_near() -> None:
    assert offer("x", ["a", "b"], "things", more="SHOW things") == "the things here are: a, b"
    assert offer("x", [], "things") == "the things here are: none"
    assert offer("bob", MANY, "things", more="SHOW things") == "SHOW things lists the things"
    assert "ann4242" in offer("ann42420", MANY, "things", more="SHOW things")


def test_names_that_a_caller_may_not_know_of_stay_out() -> None:
    for names in (["mine", "secret"], [*MANY, "mine", "secret"]):
        assert "secret" not in offer("secre", names, "things", lambda name: name != "secret", "SHOW things")


def test_names_that_nothing_can_have_are_compared_with_nothing() -> None:
    assert near("ann0123", ["ann0123" * 1_000]) == near("ann0123" * 1_000, ["ann0123" * 1_000]) == []
