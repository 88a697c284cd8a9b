"""Forged, expired, revoked and foreign credentials by every method, command and action: nobody gets in."""

from collections.abc import Iterator
from typing import TypeAlias

import grpc
import pyarrow.flight as flight
import pytest

from flight_server.auth.changes import UserChanges
from flight_server.auth.users import UsersFile
from flight_server.testing import Server, serve
from tests import flight_sql
from tests.security import credentials
from tests.security.raw import Answer, RawClient

pytestmark = pytest.mark.slow

METHODS = ("GetFlightInfo", "PollFlightInfo", "GetSchema")
Requests: TypeAlias = list[tuple[str, bytes | list[bytes]]]
COMMANDS = [name for name in flight_sql._FIELDS if name.startswith("Command")]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "issuer.pem").write_bytes(credentials.PUBLIC_PEM)
    jwt = {
        "issuer": credentials.ISSUER,
        "audience": credentials.AUDIENCE,
        "public_key_file": str(folder / "issuer.pem"),
        "grants_claim": "lakehouse_grants",
    }
    users = {"ann": {"password": credentials.PASSWORD, "grants": ["*=admin"]}}
    with serve(users=users, auth={"jwt": jwt, "failed_logins": 10_000}) as running:
        yield running


@pytest.fixture(scope="module")
def client(guarded: Server) -> Iterator[RawClient]:
    raw = RawClient(guarded.uri.removeprefix("grpc://"), None)
    yield raw
    raw.close()


@pytest.fixture(scope="module")
def issued(guarded: Server) -> credentials.Issued:
    with flight.connect(guarded.uri) as known:
        _, token = known.authenticate_basic_token("ann", credentials.PASSWORD)
    changes = UserChanges(UsersFile(guarded.data_dir / "users.json"))
    return credentials.issue(changes, token.decode().removeprefix("Bearer "))


@pytest.fixture(scope="module")
def requests(client: RawClient, issued: credentials.Issued) -> Requests:
    """Every method with every command, and every action that the server lists to those whom it knows."""
    known = client.call("ListActions", b"", [("authorization", f"Bearer {issued.bearer}")])
    names = [flight_sql.decode(message)[1][0].decode() for message in known.messages]
    assert len(names) > 20
    commands = {name: flight_sql.descriptor(name).serialize() for name in COMMANDS}
    return [
        *((method, sent) for sent in commands.values() for method in METHODS),
        *(("DoPut", [flight_sql.field(1, sent)]) for sent in commands.values()),
        *(("DoGet", flight_sql.field(1, flight_sql.packed(name))) for name in COMMANDS),
        *(("DoAction", flight_sql.field(1, name)) for name in names),
        ("DoGet", b""),
        ("DoExchange", [b""]),
        ("ListFlights", b""),
        ("ListActions", b""),
    ]


def refused(client: RawClient, requests: Requests, headers: list[tuple[str, str]]) -> list[str]:
    """Return the requests that were not answered as those of nobody."""
    answers: list[tuple[str, Answer]] = [
        (f"{method} {request!r}", client.call(method, request, headers)) for method, request in requests
    ]
    return [
        f"{name}: {answer.code} {answer.details}"
        for name, answer in answers
        if answer.code is not grpc.StatusCode.UNAUTHENTICATED or answer.messages or "ann" in answer.details
    ]


def test_no_bad_token_gets_anywhere(
    guarded: Server, client: RawClient, issued: credentials.Issued, requests: Requests
) -> None:
    bearers = {
        **credentials.bad_bearers(guarded, issued),
        **{f"JWT {kind}": token for kind, token in credentials.bad_jwts().items()},
    }
    assert len(bearers) > 30
    for kind, token in bearers.items():
        assert refused(client, requests, [("authorization", f"Bearer {token}")]) == [], kind
        assert (
            client.call("Handshake", [], [("authorization", f"Bearer {token}")]).code.name
            == "UNAUTHENTICATED"
        )


def test_nothing_and_nonsense_get_nowhere(
    client: RawClient, issued: credentials.Issued, requests: Requests
) -> None:
    for header in (
        ("x-nothing", "x"),
        ("authorization", "Digest x"),
        ("authorization", "Basic !"),
        ("authorization", "Bearer"),
        ("cookie", f"lakehouse-session={issued.bearer}"),
    ):
        assert refused(client, requests, [header]) == [], header


def test_wrong_passwords_get_nowhere(
    client: RawClient, issued: credentials.Issued, requests: Requests
) -> None:
    each = list({method: (method, request) for method, request in requests}.values())
    tried = (("ann", "wrong", each), ("nobody", "x", each[-1:]), ("former", credentials.PASSWORD, each[-1:]))
    for name, password, some in tried:
        header = ("authorization", credentials.basic(name, password))
        assert refused(client, some, [header]) == [], name
        assert client.call("Handshake", [], [header]).code.name == "UNAUTHENTICATED"


def test_good_tokens_do_get_in(client: RawClient, issued: credentials.Issued) -> None:
    """Without it the tests above would pass on a server that lets nobody in."""
    for token in (issued.bearer, issued.good, credentials.signed(), credentials.signed(aud=["x", "flight"])):
        assert client.call("ListActions", b"", [("authorization", f"Bearer {token}")]).is_ok


def test_a_jwt_brings_its_grants(client: RawClient) -> None:
    token = credentials.signed(sub="guest", lakehouse_grants=["testing=read"])
    answer = client.sql("SELECT name FROM sys.buckets", [("authorization", f"Bearer {token}")])
    assert answer.is_ok
    told = b"".join(answer.messages)
    assert b"testing" in told
    assert b"primary" not in told
    wrong = credentials.signed(sub="guest", lakehouse_grants=["testing=fly"])
    assert (
        client.call("ListActions", b"", [("authorization", f"Bearer {wrong}")]).code.name == "UNAUTHENTICATED"
    )
