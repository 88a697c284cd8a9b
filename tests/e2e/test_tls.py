"""TLS: encrypted connections, files that change, certificates of clients, and where a server may listen."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from flight_server.cli import main
from flight_server.errors import FailedPreconditionError
from flight_server.flight.credentials import TlsFiles
from flight_server.settings.tls import TlsSettings
from flight_server.testing import Server, serve
from tests import flight_sql

PASSWORD = "a long password"


class Authority:
    """Signs certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        certificate = _unsigned(self._name, self._name, self._key).add_extension(basic, critical=True)
        self.pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, common_name: str, *alternatives: x509.GeneralName) -> tuple[bytes, bytes]:
        """Return a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), *alternatives])
        made = _unsigned(subject, self._name, key).add_extension(names, critical=False)
        certificate = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now - day, now + day
    )


def write(folder: Path, certificate: bytes, key: bytes) -> dict[str, str]:
    """Write the files of a server and return its section of the settings."""
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")}


def connect(
    server: Server, root: bytes, certificate: bytes | None = None, key: bytes | None = None
) -> flight.FlightClient:
    return flight.FlightClient(
        f"grpc+tls://localhost:{server.port}", tls_root_certs=root, cert_chain=certificate, private_key=key
    )


def actions(client: flight.FlightClient, **options: object) -> list[flight.ActionType]:
    return list(client.list_actions(flight.FlightCallOptions(timeout=5, **options)))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("ours")


@pytest.fixture(scope="module")
def encrypted(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    tls = write(folder, *authority.issue("server"))
    users = {"ann": {"password": PASSWORD, "grants": ["*=admin"]}}
    with serve(users=users, tls=tls) as running:
        yield running, folder


def test_clients_of_both_kinds_connect_encrypted(
    encrypted: tuple[Server, Path], authority: Authority
) -> None:
    server, _ = encrypted
    assert server.uri == f"grpc+tls://127.0.0.1:{server.port}"
    options = {
        "username": "ann",
        "password": PASSWORD,
        "adbc.flight.sql.client_option.tls_root_certs": authority.pem.decode(),
    }
    with (
        dbapi.connect(f"grpc+tls://localhost:{server.port}", options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    with connect(server, authority.pem) as client:
        token = client.authenticate_basic_token("ann", PASSWORD)
        assert flight_sql.query(client, "SELECT 1", flight.FlightCallOptions(headers=[token])).num_rows == 1
    with (
        flight.connect(f"grpc://127.0.0.1:{server.port}") as plain,
        pytest.raises(flight.FlightUnavailableError),
    ):
        actions(plain)


def test_a_new_certificate_counts_without_a_restart(
    encrypted: tuple[Server, Path], authority: Authority
) -> None:
    server, folder = encrypted
    other = Authority("another")
    with connect(server, other.pem) as client, pytest.raises(flight.FlightUnavailableError):
        actions(client)
    with connect(server, authority.pem) as client:
        (folder / "cert.pem").write_text("nonsense")
        client.authenticate_basic_token("ann", PASSWORD)
    assert "the files of [tls] cannot be used, the former ones stay" in server.logged()
    write(folder, *other.issue("server"))
    with connect(server, other.pem) as client:
        token = client.authenticate_basic_token("ann", PASSWORD)
        assert len(actions(client, headers=[token])) > 10


def typed(server: Server, words: str, roots: Path | None, identity: dict[str, str]) -> str:
    """Return what `flight-server profiles` says, with variables that name these files."""
    files = {"ROOTS": roots and str(roots), **{name.upper(): file for name, file in identity.items()}}
    variables = {f"FLIGHT_SERVER_TLS_{name}": file for name, file in files.items()}
    uri = f"grpc+tls://localhost:{server.port}"
    return CliRunner(env=variables).invoke(main, ["profiles", *words.split(), "--uri", uri]).output.strip()


@pytest.mark.slow
def test_a_certificate_says_who_calls(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    tls = {**write(tmp_path, *authority.issue("server")), "client_ca": str(tmp_path / "ca.pem")}
    users = {
        "job": {"certificates": ["URI:spiffe://example/job"], "grants": ["testing=read"]},
        "tool": {"certificates": ["CN=tool"]},
        "ann": {"password": PASSWORD, "grants": ["*=admin"]},
    }
    who = "SELECT DISTINCT principal FROM sys.sessions"
    with serve(users=users, tls=tls) as server:
        job = authority.issue("x", x509.UniformResourceIdentifier("spiffe://example/job"))
        with connect(server, authority.pem, *job) as client:
            assert flight_sql.query(client, who)["principal"].to_pylist() == ["job"]
            token = client.authenticate_basic_token("ann", PASSWORD)
            asked = flight_sql.query(client, who, flight.FlightCallOptions(headers=[token]))
            assert set(asked["principal"].to_pylist()) == {"ann", "job"}
        with connect(server, authority.pem, *authority.issue("tool")) as client:
            assert flight_sql.query(client, who)["principal"].to_pylist() == ["tool"]
        known = tmp_path / "ca.pem", write(tmp_path, *authority.issue("tool"))
        assert typed(server, "list", *known) == ""
        assert typed(server, "create tool", *known) == "profile tool has bucket profile:tool"
        assert "no trial of profile tool has ended well" in typed(server, "report tool", *known)
        assert "FLIGHT_SERVER_TLS_ROOTS names the authority" in typed(server, "list", None, {})
        assert "gone.pem: No such file" in typed(server, "list", tmp_path / "gone.pem", {})
        refused = pytest.raises(flight.FlightUnauthenticatedError)
        with connect(server, authority.pem, *authority.issue("stranger")) as client, refused:
            actions(client)
        for none in ((None, None), Authority("other").issue("tool")):
            with (
                connect(server, authority.pem, *none) as client,
                pytest.raises(flight.FlightUnavailableError),
            ):
                actions(client)


PUBLIC = "0.0.0.0"  # noqa: S104
REFUSED = [
    # host, TLS, users
    (PUBLIC, False, False),
    (PUBLIC, True, False),
    (PUBLIC, False, True),
    ("::", False, True),
    ("server.example", True, False),
]
ALLOWED = [
    # host, TLS, users, allow_insecure
    ("127.0.0.1", False, False, False),
    ("localhost", False, True, False),
    ("127.0.0.1", True, False, False),
    (PUBLIC, True, True, False),
    (PUBLIC, False, False, True),
]


def test_a_server_says_what_is_wrong_with_its_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = authority.issue("server")
    tls = write(tmp_path, certificate, authority.issue("server")[1])
    with pytest.raises(FailedPreconditionError, match="a key that is not the certificate's"):
        TlsFiles(TlsSettings(**tls)).credentials()


def section(tls: bool, auth: bool, authority: Authority, folder: Path) -> dict[str, dict[str, str]]:
    found = {"tls": write(folder, *authority.issue("server"))} if tls else {}
    return found | ({"auth": {"users_file": str(folder / "users.json")}} if auth else {})


@pytest.mark.parametrize(("host", "tls", "auth"), REFUSED)
def test_the_command_does_not_serve_openly_on_a_public_address(
    host: str, tls: bool, auth: bool, authority: Authority, tmp_path: Path
) -> None:
    given = section(tls, auth, authority, tmp_path).items()
    lines = [f"{name}.{key} = {value!r}" for name, values in given for key, value in values.items()]
    (tmp_path / "server.toml").write_text("\n".join(lines))
    done = CliRunner().invoke(main, ["serve", "--host", host, "--config", str(tmp_path / "server.toml")])
    assert done.exit_code == 1
    assert f"host: {host!r} is not a loopback address" in done.output
    assert ("without authentication" in done.output) is not auth
    assert ("without TLS" in done.output) is not tls


@pytest.mark.slow
@pytest.mark.parametrize(("host", "tls", "auth", "insecure"), ALLOWED)
def test_a_server_starts_where_it_is_safe_or_told_so(
    host: str, tls: bool, auth: bool, insecure: bool, authority: Authority, tmp_path: Path
) -> None:
    with serve(host=host, allow_insecure=insecure, **section(tls, auth, authority, tmp_path)) as server:
        assert server.uri.startswith("grpc+tls://" if tls else "grpc://")
