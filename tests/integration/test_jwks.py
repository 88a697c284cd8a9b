"""Keys of a JWKS document, fetched over https from a server of the test's own."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from pydantic import ValidationError

from flight_server.auth.jwt import FetchedKeys, JwtCheck
from flight_server.auth.refused import RefusedError
from flight_server.settings.auth import JwtSettings
from tests.e2e.test_tls import Authority, write
from tests.security.credentials import AUDIENCE, ISSUER, claims

OLD, NEW = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()


def document(**keys: ed25519.Ed25519PrivateKey) -> bytes:
    written = jwt.algorithms.OKPAlgorithm
    public = [json.loads(written.to_jwk(key.public_key())) | {"kid": kid} for kid, key in keys.items()]
    return json.dumps({"keys": public}).encode()


class Issuer(HTTPServer):
    """Answers with a document, or with an error, and counts how often it was asked."""

    answer, status, asked = b"", 200, 0


class _Handler(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    authority = Authority("ours")
    files = write(tmp_path, *authority.issue("localhost"))
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = Issuer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["certificate"], files["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def token(key: ed25519.Ed25519PrivateKey, kid: str) -> str:
    return jwt.encode(claims(), key, "EdDSA", headers={"kid": kid})


def test_keys_are_fetched_when_they_are_needed_and_not_too_often(issuer: Issuer) -> None:
    url = f"https://localhost:{issuer.server_port}/keys"
    settings = JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks_url=url)

    async def run() -> None:
        check = JwtCheck(settings, FetchedKeys(url, least_seconds=0.3))
        issuer.answer = document(old=OLD)
        assert (await check.login(token(OLD, "old"))).name == "ann"
        issuer.answer = document(old=OLD, new=NEW)
        for _ in range(20):
            with pytest.raises(RefusedError):
                await check.login(token(NEW, "new"))
        assert issuer.asked == 1
        await asyncio.sleep(0.35)
        assert (await check.login(token(NEW, "new"))).name == "ann"
        with pytest.raises(RefusedError):
            await check.login(token(OLD, "new"))
        for issuer.status, issuer.answer in ((500, b""), (302, b""), (200, b"nonsense")):
            await asyncio.sleep(0.35)
            with pytest.raises(RefusedError):
                await check.login(token(NEW, "unknown"))
            assert (await check.login(token(OLD, "old"))).name == "ann"
        assert issuer.asked == 5

    asyncio.run(run())


@pytest.mark.parametrize(
    "url", ["http://localhost/keys", "https://user:word@host/keys", "file:///etc/passwd"]
)
def test_keys_come_over_https_only(url: str) -> None:
    with pytest.raises(ValidationError):
        JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks_url=url)
