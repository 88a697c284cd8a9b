"""TLS of the gRPC server: files that are read again when they change."""

import logging
import ssl
from pathlib import Path

import grpc

from flight_server.errors import FailedPreconditionError
from flight_server.settings.tls import TlsSettings

_LOG = logging.getLogger("flight_server.tls")


class TlsFiles:
    """The certificate, key and client authority of the settings, as gRPC wants them."""

    def __init__(self, settings: TlsSettings) -> None:
        found = (settings.certificate, settings.key, settings.client_ca)
        self._files = tuple(path for path in found if path is not None)
        self._has_clients = settings.client_ca is not None
        self._stamps: tuple[tuple[int, int], ...] = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files; connections that there are stay.

        Raises FailedPreconditionError when a file cannot be read, or the key is not the certificate's.
        """
        try:
            first = self._read()
        except OSError as error:
            raise FailedPreconditionError(f"the files of [tls] cannot be used: {_said(error)}") from error
        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            first,
            self._changed,  # type: ignore[arg-type]  # the stubs do not know that None is "as before"
            require_client_authentication=self._has_clients,
        )
        return made

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the files' contents when they have changed; gRPC asks at each new connection."""
        try:
            return None if self._found() == self._stamps else self._read()
        except OSError as error:
            _LOG.error("the files of [tls] cannot be used, the former ones stay: %s", _said(error))
            return None

    def _read(self) -> grpc.ServerCertificateConfiguration:
        self._stamps = self._found()
        certificate, key, *authority = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)  # gRPC would not say what is wrong with them
        for path in authority:
            context.load_verify_locations(path)
        return grpc.ssl_server_certificate_configuration(
            [(key.read_bytes(), certificate.read_bytes())],
            authority[0].read_bytes() if authority else None,
        )

    def _found(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _said(error: OSError) -> str:
    """Return what is wrong, for whoever starts the server."""
    if isinstance(error, ssl.SSLError):
        return f"no PEM, or a key that is not the certificate's ({error.reason or 'unknown'})"
    return f"{error.filename}: {error.strerror}"
