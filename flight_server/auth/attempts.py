"""Limits on guessing passwords: failures of a name, and of an address, fill buckets that leak with time."""

import ipaddress
import time
from collections.abc import Callable, Iterable
from urllib.parse import unquote

from flight_server.domain.recent import RecentMap
from flight_server.errors import ResourceExhaustedError

_REMEMBERED = 10_000
_LEAK_SECONDS = 60.0
"""How long it takes until all failures that are allowed are allowed again."""

_ADDRESS_FACTOR = 5
"""How many times as many an address may have: a company may be behind it."""

_IPV6_PREFIX = 64


class Attempts:
    """Counts failed logins; bounded, on the event loop only.

    Somebody who has logged in from an address before has a bucket there of its own: others, who fail on
    purpose, cannot keep it out.
    """

    def __init__(self, failures: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow so many failures of a name at once, and after that as many in each minute."""
        self._failures = failures
        self._clock = clock
        self._filled: RecentMap[str, tuple[float, float]] = RecentMap(_REMEMBERED)
        self._known: RecentMap[str, bool] = RecentMap(_REMEMBERED)

    def check(self, name: str, peer: str) -> None:
        """Raise ResourceExhaustedError when the name or the address has failed too often."""
        for key, most in self._buckets(name, peer):
            excess = self._level(key, most) + 1 - most
            if excess > 0:
                seconds = max(1, round(excess * _LEAK_SECONDS / most))
                raise ResourceExhaustedError(f"too many failed logins; try again in {seconds} s")

    def begin(self, name: str, peer: str) -> None:
        """Check, and count an attempt as failed until it succeeds: those beside it find no gap."""
        self.check(name, peer)
        self._add(self._buckets(name, peer), 1)

    def succeeded(self, name: str, peer: str) -> None:
        """Take an attempt back that did not fail, and remember from where it came."""
        self._add(self._buckets(name, peer), -1)
        self._known.put(f"{name}\n{host(peer)}", True)

    def _add(self, buckets: Iterable[tuple[str, int]], count: int) -> None:
        for key, most in buckets:
            self._filled.put(key, (max(0.0, self._level(key, most) + count), self._clock()))

    def _buckets(self, name: str, peer: str) -> tuple[tuple[str, int], tuple[str, int]]:
        address = host(peer)
        pair = f"{name}\n{address}"
        by_name = f"pair {pair}" if self._known.get(pair) else f"name {name}"
        return (by_name, self._failures), (f"address {address}", self._failures * _ADDRESS_FACTOR)

    def _level(self, key: str, most: int) -> float:
        level, at = self._filled.get(key) or (0.0, 0.0)
        return max(0.0, level - (self._clock() - at) * most / _LEAK_SECONDS)


def host(peer: str) -> str:
    """Return the address of a peer as gRPC writes it, without the port; of IPv6 its network."""
    address = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return address
