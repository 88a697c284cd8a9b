"""The server's certificate, and whose certificates it believes."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from flight_server.settings.section import Section, absolute

_File = Annotated[Path, AfterValidator(absolute)]


class TlsSettings(Section):
    """PEM files of TLS; without a `certificate` nothing is encrypted.

    With `client_ca` every client has to show a certificate that this authority has signed.
    """

    certificate: _File | None = None
    key: _File | None = None
    client_ca: _File | None = None

    @property
    def is_on(self) -> bool:
        """Whether connections are encrypted."""
        return self.certificate is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a 'certificate' needs its 'key', and a key its certificate")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("'client_ca' needs a 'certificate' of the server")
        return self
