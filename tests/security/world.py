"""A server with tenants who do not trust each other, and canaries wherever one might reach for them.

What belongs to the hidden tenant holds `MARK`, in any case of letters; nobody else ever writes it. Names
that an attacker would guess (`vault`, `ledger`) do not, so that statements may use them.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.actions import vectors
from tests.security.raw import Answer, RawClient, rows

MARK = "zq7canary"
AMOUNT = 987_654_321_987
"""A number of the hidden tenant: it stands in statistics of its objects too."""

_VARIABLE = "CANARY_VARIABLE"

CALLERS: dict[str, list[str]] = {
    "reader": ["shared=read"],
    "writer": ["shared=read,write"],
    "keeper": ["shared=admin"],
    "selfer": [],
}
"""Users → their grants, beside that on a profile of their own name."""

ANONYMOUS = "anonymous"
OWNER, _BOSS = f"{MARK}-owner", "boss"
_GRANTS = {
    **CALLERS,
    "leaver": ["shared=read,write"],
    OWNER: ["vault=admin", f"{MARK}=admin", f"profile:{MARK}=admin", "profile:somebody=admin"],
    _BOSS: ["*=admin"],
}


def password(user: str) -> str:
    """Return the password of a user."""
    return f"{MARK} password of {user}"


class Listener:
    """Listens on loopback, and counts who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            connection.close()
            if self._is_closing:
                return
            self.connections += 1

    _is_closing = False

    def close(self) -> None:
        """Stop listening."""
        self._is_closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Held:
    """What the hidden tenant holds and others may have got hold of."""

    ticket: bytes
    statement: bytes
    transaction: bytes
    query_id: str
    poll: bytes


@dataclass(slots=True)
class World:
    """The server, its callers, its canaries."""

    server: Server
    listener: Listener
    files: dict[str, Path]
    held: Held
    clients: dict[str, RawClient] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Host and port of the server."""
        return f"{self.server.host}:{self.server.port}"

    def client(self, user: str) -> RawClient:
        """Return the connection of a user, the same one each time."""
        if user not in self.clients:
            self.clients[user] = self.connect(user)
        return self.clients[user]

    def connect(self, user: str) -> RawClient:
        """Open a connection of a user."""
        return RawClient(self.address, None if user == ANONYMOUS else user, password(user))

    def check_untouched(self) -> None:
        """Check that nobody has reached what the canaries stand beside, and that the server is well."""
        assert self.server.process.poll() is None
        assert self.listener.connections == 0
        for path in self.files.values():
            assert path.read_text().startswith(MARK), f"{path} was changed"
        owner = self.client(OWNER)
        found = owner.sql(f"SELECT count(*), sum(amount) FROM vault.ledger WHERE note LIKE '{MARK}%'")
        assert found.is_ok, found.details
        assert self.client("reader").sql("SELECT name FROM shared.people").is_ok


def foreign(answer: Answer) -> bytes:
    """Return some of what an answer holds of the hidden tenant; nothing where it holds nothing."""
    received = answer.received()
    for wanted in (MARK.encode(), str(AMOUNT).encode(), AMOUNT.to_bytes(8, "little")):
        at = received.find(wanted.lower())
        if at >= 0:
            return received[max(0, at - 60) : at + 80]
    return b""


@contextmanager
def world(folder: Path, **settings: Any) -> Iterator[World]:
    """Start the server and fill it."""
    buckets = {
        "primary": {"uri": str(folder / "data" / "primary")},
        "shared": {"uri": str(folder / "data" / "shared"), "aliases": ["common"]},
        "vault": {"uri": str(folder / "data" / "vault" / MARK), "aliases": [f"{MARK}-alias"]},
        MARK: {"uri": str(folder / "data" / MARK)},
        "profile:*": {"uri": str(folder / "data" / "profiles" / "{name}")},
    }
    users = {name: {"password": password(name), "grants": grants} for name, grants in _GRANTS.items()}
    limits = {"statement_timeout": 2, **settings.pop("limits", {})}
    os.environ[_VARIABLE] = f"{MARK} in the environment"
    with ExitStack() as stack:
        stack.callback(os.environ.pop, _VARIABLE)
        listener = Listener()
        stack.callback(listener.close)
        server = stack.enter_context(
            serve(buckets, data_dir=folder / "data", users=users, limits=limits, **settings)
        )
        files = _canary_files(folder)
        made = World(server, listener, files, Held(b"", b"", b"", "", b""))
        try:
            made.held = _fill(made)
            yield made
        finally:
            for client in made.clients.values():
                client.close()


def _canary_files(folder: Path) -> dict[str, Path]:
    """Return files that nobody may read, by where they lie."""
    outside = folder / "outside"
    outside.mkdir()
    files = {
        "data": folder / "data" / "canary.csv",
        "vault": folder / "data" / "vault" / "canary.csv",
        "shared": folder / "data" / "shared" / "canary.csv",
        "outside": outside / "canary.csv",
    }
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{MARK},a\n1,{MARK} in a file\n")
    return files


_BY_THE_OWNER = (
    f"CREATE TABLE vault.ledger (id BIGINT PRIMARY KEY, amount BIGINT, note VARCHAR DEFAULT '{MARK}', "
    f"{MARK}_column INTEGER, CONSTRAINT {MARK}_check CHECK (note <> '{MARK}'))",
    f"INSERT INTO vault.ledger SELECT i, {AMOUNT}, '{MARK} note ' || i, i FROM range(20) r(i)",
    f"COMMENT ON TABLE vault.ledger IS '{MARK} comment'",
    f"CREATE VIEW vault.view_{MARK} AS SELECT *, '{MARK}' AS {MARK}_text FROM vault.ledger",
    f"CREATE TABLE vault.{MARK}_table AS SELECT 1 AS i",
    "DELETE FROM vault.ledger WHERE id > 15",
    f"CREATE TABLE {MARK}.t AS SELECT '{MARK}' AS i",
    "CREATE SCHEMA vault_schema",
    f"CREATE TABLE vault_schema.t AS SELECT '{MARK}' AS i",
    f"CREATE TEMP TABLE {MARK}_temp AS SELECT '{MARK}' AS i",
    f"SET VARIABLE {MARK}_variable = '{MARK}'",
    f"SET VARIABLE vault_variable = '{MARK}'",
    f"SELECT '{MARK} in a query text'",
)

_BY_THE_BOSS = (
    "CREATE TABLE shared.people (id BIGINT, name VARCHAR)",
    "INSERT INTO shared.people VALUES (1, 'ann'), (2, 'bob')",
    f"CREATE TABLE shared.child (id BIGINT REFERENCES vault.{MARK}_table (i))",
    "CREATE TABLE shared.empty (i INTEGER)",
    "CREATE VIEW shared.peek AS SELECT id FROM vault.ledger",
    "CREATE TABLE \"primary\".own AS SELECT 'nobody else' AS i",
)


def _fill(made: World) -> Held:
    owner, boss = made.client(OWNER), made.client(_BOSS)
    for profile in (MARK, "somebody"):
        _must(boss.action("create_profile", b'{"profile": "%s"}' % profile.encode()))
    _must(made.client("selfer").action("create_profile", b'{"profile": "selfer"}'))
    for sql in _BY_THE_OWNER:
        _must(owner.sql(sql, _IN_VAULT if "TEMP" not in sql else ()))
    owner.sql(f"SELECT {MARK}_wrong FROM vault.ledger")
    for sql in _BY_THE_BOSS:
        _must(boss.sql(sql))
    _fill_profile(made)
    return _hold(made, owner)


_IN_VAULT = (("x-lakehouse-bucket", "vault"),)


def _fill_profile(made: World) -> None:
    """Give the hidden profile, and one that a caller reads, texts with vectors."""
    for user, profile, word in (
        (OWNER, MARK, MARK),
        (OWNER, "somebody", MARK),
        ("selfer", "selfer", "plain"),
    ):
        with flight.connect(made.server.uri) as client:
            token = client.authenticate_basic_token(user, password(user))
            with_token = flight.FlightCallOptions(headers=[token])
            columns = {
                "id": [1, 2],
                "text": [f"{word} one", f"{word} two"],
                "v": vectors([[0.0, 1.0], [1.0, 0.5]]),
            }
            table = pa.table(columns)
            writer, reader = client.do_put(
                flight.FlightDescriptor.for_path(f"profile:{profile}", "docs"), table.schema, with_token
            )
            with writer:
                writer.write_table(table)
                writer.done_writing()
                reader.read()


def _hold(made: World, owner: RawClient) -> Held:
    described = flight_sql.statement_query("FROM vault.ledger").serialize()
    planned, begun_poll = owner.call("GetFlightInfo", described), owner.call("PollFlightInfo", described)
    _must(planned)
    info, polled = flight_sql.decode(planned.messages[0]), flight_sql.decode(begun_poll.messages[0])
    (ticket,) = flight_sql.decode(info[3][0])[1]
    request = flight_sql.packed("ActionCreatePreparedStatementRequest", query="FROM vault.ledger")
    prepared = _result(owner.action("CreatePreparedStatement", request))
    begun = owner.action("BeginTransaction", flight_sql.packed("ActionBeginTransactionRequest"))
    (found,) = rows(owner.sql("SELECT max(id) AS id FROM sys.queries"))
    return Held(ticket, prepared[1][0], _result(begun)[1][0], found["id"], polled.get(2, [described])[0])


def _result(answer: Answer) -> flight_sql.Decoded:
    """Return the message that an action of Flight SQL answered with."""
    _must(answer)
    (body,) = flight_sql.decode(answer.messages[0])[1]
    return flight_sql.unpacked(body)


def _must(answer: Answer) -> None:
    assert answer.is_ok, (answer.code, answer.details)
