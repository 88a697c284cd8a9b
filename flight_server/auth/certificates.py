"""Names in client certificates, by which they are a user's."""

from datetime import UTC
from functools import lru_cache
from typing import TypeAlias

from cryptography import x509

_Kind: TypeAlias = type[x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier]

_KINDS: dict[_Kind, str] = {
    x509.DNSName: "DNS",
    x509.RFC822Name: "EMAIL",
    x509.UniformResourceIdentifier: "URI",
}


@lru_cache(maxsize=1024)
def names(pem: bytes) -> tuple[frozenset[str], float]:
    """Return the names of a certificate that TLS has verified, and until when it is good.

    These are its subject as RFC 4514 writes it, `CN=…` alone, and `DNS:…`, `EMAIL:…` and `URI:…` of its
    alternative names; the moment is in seconds since 1970 UTC.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    subject = certificate.subject
    commons = [str(name.value) for name in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    found = {subject.rfc4514_string(), *(f"CN={name}" for name in commons if len(commons) == 1)}
    for kind, prefix in _KINDS.items():
        found.update(f"{prefix}:{value}" for value in _alternatives(certificate, kind))
    return frozenset(found), certificate.not_valid_after_utc.astimezone(UTC).timestamp()


def _alternatives(certificate: x509.Certificate, kind: _Kind) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(map(str, extension.value.get_values_for_type(kind)))
