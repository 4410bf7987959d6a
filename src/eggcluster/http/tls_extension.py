"""ASGI's extension `tls`: what an application is told of the encrypted connection. Runs in the app workers."""

import ssl
from typing import Any

# Attribute types by OpenSSL's names, RFC 4514, 3; another type keeps its name.
SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

Subject = tuple[tuple[tuple[str, str], ...], ...]

_suites: dict[str, int] = {}


def tls_extension(connection: ssl.SSLObject) -> dict[str, Any]:
    """Return the extension for a connection; certificates in PEM. The server's own cannot be read from there."""
    certificate = connection.getpeercert(binary_form=True)
    checked: Any = (connection.getpeercert() if certificate else None) or {}
    cipher = connection.cipher()
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate)] if certificate else [],
        "client_cert_name": distinguished_name(checked["subject"]) if "subject" in checked else None,
        "client_cert_error": None,
        "tls_version": VERSIONS.get(connection.version() or ""),
        "cipher_suite": _suite(connection.context, cipher[0]) if cipher else None,
    }


def distinguished_name(subject: Subject) -> str:
    """Return a certificate's subject, as `getpeercert` has it, as one string (RFC 4514, 2): the last part first."""
    return ",".join("+".join(f"{SHORT_NAMES.get(t, t)}={_escaped(v)}" for t, v in part) for part in reversed(subject))


def _escaped(value: str) -> str:
    """Return a value in which nothing looks like syntax (RFC 4514, 2.4)."""
    text = "".join(f"\\{each}" if each in '"+,;<>\\' else "\\00" if each == "\0" else each for each in value)
    if text.startswith((" ", "#")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(value) > 1 else text


def _suite(context: ssl.SSLContext, name: str) -> int | None:
    """Return the number of a cipher suite (RFC 8446, B.4); None if OpenSSL does not tell it."""
    if name not in _suites:  # OpenSSL's ids have the suite's two bytes at their end
        _suites.update({each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()})
    return _suites.get(name)
