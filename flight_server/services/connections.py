"""Tells one connection of a local peer from a later one that has the same address.

gRPC does not say when a connection ends, and a port that a dead client had is soon another's. The
kernel's list of sockets tells the two apart: each has its own inode. Reading it takes milliseconds, so
the answer is remembered while the peer's calls keep coming: no port is another's so soon.
"""

import time
from pathlib import Path
from urllib.parse import unquote

from flight_server.domain.recent import RecentMap

_REMEMBERED = 1_000
_REMEMBERED_SECONDS = 0.1

_ESTABLISHED = "01"
_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_REMOTE, _STATE, _INODE = 2, 3, 9


class Sockets:
    """The sockets of peers; used from the event loop only."""

    def __init__(self) -> None:
        self._known: RecentMap[str, tuple[float, frozenset[str]]] = RecentMap(_REMEMBERED)

    def of(self, peer: str) -> frozenset[str]:
        """Return the sockets of a peer, as they were at the first of its calls that keep coming."""
        now = time.monotonic()
        at, sockets = self._known.get(peer) or (0.0, frozenset())
        if now - at > _REMEMBERED_SECONDS:
            sockets = sockets_of(peer)
        self._known.put(peer, (time.monotonic(), sockets))
        return sockets


def sockets_of(peer: str) -> frozenset[str]:
    """Return the inodes of sockets that are connected to a peer's port; none where there is no such list.

    `peer` is written as gRPC does: `ipv4:127.0.0.1:5678`. Sockets of other programs may be among them.
    """
    _, _, port = unquote(peer).rpartition(":")
    if not port.isdecimal():
        return frozenset()
    wanted = f":{int(port):04X}"
    rows = [
        line.split() for table in _TABLES if table.exists() for line in table.read_text().splitlines()[1:]
    ]
    return frozenset(
        row[_INODE] for row in rows if row[_REMOTE].endswith(wanted) and row[_STATE] == _ESTABLISHED
    )
