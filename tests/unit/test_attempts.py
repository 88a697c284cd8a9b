import pytest

from flight_server.auth.attempts import Attempts, host
from flight_server.errors import ResourceExhaustedError

HERE, THERE = "ipv4:192.0.2.1:5000", "ipv4:192.0.2.9:6000"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(attempts: Attempts, name: str, peer: str, times: int) -> None:
    for _ in range(times):
        attempts.begin(name, peer)


def test_a_name_waits_after_its_failures_and_not_for_long() -> None:
    clock = Clock()
    attempts = Attempts(3, clock)
    fail(attempts, "ann", HERE, 3)
    with pytest.raises(ResourceExhaustedError, match="try again in 20 s"):
        attempts.begin("ann", THERE)
    attempts.begin("bob", HERE)
    clock.now += 21
    attempts.begin("ann", THERE)


def test_an_address_waits_whatever_names_it_tries() -> None:
    attempts = Attempts(3, Clock())
    for name in range(15):
        attempts.begin(str(name), HERE)
    with pytest.raises(ResourceExhaustedError):
        attempts.begin("another", HERE.replace("5000", "5001"))
    attempts.begin("another", THERE)


def test_others_cannot_keep_somebody_out_who_was_there_before() -> None:
    attempts = Attempts(3, Clock())
    attempts.begin("ann", HERE)
    attempts.succeeded("ann", HERE)
    fail(attempts, "ann", THERE, 3)
    fail(attempts, "ann", HERE, 3)
    with pytest.raises(ResourceExhaustedError):
        attempts.begin("ann", HERE)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (HERE, "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3::9%5D:443", "2001:db8:1:2::/64"),
        ("ipv6:[::1]:443", "::/64"),
        ("ipv6:[::ffff:192.0.2.1]:443", "192.0.2.1"),
    ],
)
def test_addresses_are_told_from_ports(peer: str, address: str) -> None:
    assert host(peer) == address
