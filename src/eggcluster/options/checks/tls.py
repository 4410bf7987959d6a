"""Checks of TLS: the files can be read, and the key fits. Runs in the process that starts a cluster."""

from collections.abc import Iterator

from eggcluster.options.checks.files import unreadable
from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.wording import shown

# OpenSSL's reasons. It keeps one certificate for each kind of key: to an EC key, an RSA certificate is not assigned.
NO_FIT = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")
FILES = ("https_key", "https_cert", "https_ca")


def check_pair(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that key and certificate are given together, can be read, and fit; a CA needs both of them."""
    given = {field: path for field in FILES if (path := getattr(options, field)) is not None}
    problems = [line for field in given for line in _not_ready(field, given, name)]
    yield from problems or (_unusable(options, name) if given else ())


def check_debug_port(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that plain HTTP is beside HTTPS, on a port of its own."""
    port = options.debug_port
    if port is None:
        return
    if options.https_key is None and options.https_cert is None:
        pair = f"{name('https_key')} and {name('https_cert')}"
        yield f"{name('debug_port')}: {port} is for plain HTTP beside HTTPS; give {pair}, too"
    elif port and (port == options.port or port in options.ports):
        yield f"{name('debug_port')}: {port} is already the port for HTTPS; give another port"


def _not_ready(field: str, given: dict[str, str], name: Naming) -> Iterator[str]:
    needed = [name(each) for each in ("https_key", "https_cert") if each not in given]
    if why := unreadable(given[field]):
        yield f"{name(field)}: {shown(given[field])} {why}"
    elif needed:
        yield f"{name(field)}: {shown(given[field])} needs {' and '.join(needed)}, too"


def _unusable(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    assert options.https_key is not None
    assert options.https_cert is not None
    for field, path in (("https_cert", options.https_cert), ("https_ca", options.https_ca)):
        if path is not None and not _has_certificates(path):
            yield f"{name(field)}: {shown(path)} contains no readable certificate; name a PEM file"
            return
    field, why = _key_trouble(options.https_key, options.https_cert, options.https_key_password)
    if why:
        value = "its value" if field == "https_key_password" else shown(getattr(options, field))
        yield f"{name(field)}: {value} {why}"


def _has_certificates(path: str) -> bool:
    import ssl  # 15 ms, and most clusters have a proxy that speaks TLS

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return False
    return True


def _key_trouble(key: str, cert: str, password: str | None) -> tuple[str, str]:
    """Return the field that is wrong and why, or two empty strings. Never ask at the terminal, as OpenSSL would."""
    import ssl

    asked = False

    def answer() -> str:
        nonlocal asked
        asked = True
        return password or ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, answer)
    except ssl.SSLError as error:
        if error.reason in NO_FIT:
            return "https_key", f"does not fit the certificate {shown(cert)}; name the key that it was made with"
        if error.reason in TOO_WEAK:
            return "https_cert", f"is too weak for OpenSSL ({error.reason}); make a stronger one"
        if asked and password:
            return "https_key_password", f"does not open the key {shown(key)}"
        if asked:
            return "https_key", "is encrypted; give its passphrase in EGG_HTTPS_KEY_PASSWORD"
        return "https_key", "contains no readable private key; name a PEM file"
    except ValueError:  # a passphrase of more than 1024 bytes
        return "https_key_password", "is too long for OpenSSL; use at most 1024 bytes"
    return "", ""
