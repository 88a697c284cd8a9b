"""Tells one connection of a local peer from a later one that has the same address.

gRPC does not say when a connection ends, and a port that a dead client had is soon another's. The
kernel's list of sockets tells the two apart: each has its own inode. Reading it takes milliseconds, so
the answer is remembered while the peer's calls keep coming: no port is another's so soon.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from flight_server.domain.recent import RecentMap
from flight_server.services.sessions import SessionService

_REMEMBERED = 1_000
_REMEMBERED_SECONDS = 0.1
_LOOK_SECONDS = 3.0

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
    port = _port(peer)
    return frozenset(row[_INODE] for row in _established() if port and row[_REMOTE].endswith(port))


def gone(peers: Iterable[str]) -> list[str]:
    """Return the peers that no socket is connected to; none where there is no list of sockets."""
    connected = {row[_REMOTE].rpartition(":")[2] for row in _established()}
    written = {peer: _port(peer).removeprefix(":") for peer in peers}
    return [peer for peer, port in written.items() if connected and port and port not in connected]


def _port(peer: str) -> str:
    """Return the end of a peer's address as the kernel writes it, empty when it has no port."""
    _, _, port = unquote(peer).rpartition(":")
    return f":{int(port):04X}" if port.isdecimal() else ""


def _established() -> Iterator[Sequence[str]]:
    for table in _TABLES:
        if table.exists():
            rows = (line.split() for line in table.read_text().splitlines()[1:])
            yield from (row for row in rows if row[_STATE] == _ESTABLISHED)


async def end_sessions_of_gone_peers(sessions: SessionService) -> None:
    """End, for ever, the sessions of local clients that have gone without a word; nobody can use them."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        idle = sessions.idle_peers(_LOOK_SECONDS)
        left = set(await asyncio.to_thread(gone, set(idle.values()))) if idle else ()
        for session_id, peer in sessions.idle_peers(_LOOK_SECONDS).items() if left else ():
            if peer in left:
                sessions.close(session_id)
