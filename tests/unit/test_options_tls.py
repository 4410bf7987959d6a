"""TLS options: files that are there, a key that fits, a passphrase that opens it and is never shown."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from eggcluster.errors import OptionsError
from eggcluster.options import CommandLine, parse_options

PASSPHRASE = "correct horse"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_key(path: Path, passphrase: str = "", rsa_bits: int = 0) -> Key:
    key: Key = ec.generate_private_key(ec.SECP256R1())
    if rsa_bits:
        key = rsa.generate_private_key(65537, rsa_bits)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, pkcs8, encryption))
    return key


def write_certificate(path: Path, key: Key) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start.replace(year=2120))
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tls")
    (base / "app.py").write_text("async def app(scope, receive, send): ...\n")
    write_certificate(base / "cert.pem", write_key(base / "key.pem"))
    write_certificate(base / "locked-cert.pem", write_key(base / "locked-key.pem", PASSPHRASE))
    write_key(base / "other-key.pem")
    write_certificate(base / "weak-cert.pem", write_key(base / "weak-key.pem", rsa_bits=1024))
    (base / "text.pem").write_text("no PEM\n")
    return base


def problems(base: Path, environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    paths = {name: str(base / value) if name.startswith("https") else value for name, value in flags.items()}
    try:
        parse_options(CommandLine(paths, base_dir=str(base)), environ=environ or {})
    except OptionsError as error:
        return error.problems
    return []


def test_a_fitting_pair_moves_the_port(base: Path) -> None:
    key, cert = str(base / "key.pem"), str(base / "cert.pem")
    options = parse_options(environ={}, base_dir=str(base), https_key=key, https_cert=cert, https_ca=cert)
    assert options.port == 8443


def test_one_without_the_other(base: Path) -> None:
    assert problems(base, https_key="key.pem") == [f'--https-key: "{base}/key.pem" needs --https-cert, too']
    assert problems(base, https_cert="cert.pem") == [f'--https-cert: "{base}/cert.pem" needs --https-key, too']
    [line] = problems(base, https_ca="cert.pem")
    assert line.endswith("needs --https-key and --https-cert, too")


def test_files_that_are_missing(base: Path) -> None:
    lines = problems(base, https_key="nokey.pem", https_cert="nocert.pem")
    assert lines == [
        f'--https-key: "{base}/nokey.pem" does not exist; name an existing file',
        f'--https-cert: "{base}/nocert.pem" does not exist; name an existing file',
    ]


def test_a_key_that_does_not_fit(base: Path) -> None:
    [line] = problems(base, https_key="other-key.pem", https_cert="cert.pem")
    assert line.startswith(f'--https-key: "{base}/other-key.pem" does not fit the certificate "{base}/cert.pem"')


def test_a_key_of_another_kind(base: Path) -> None:
    [line] = problems(base, https_key="weak-key.pem", https_cert="cert.pem")
    assert "does not fit the certificate" in line


def test_a_weak_certificate_is_not_blamed_on_the_key(base: Path) -> None:
    for line in problems(base, https_key="weak-key.pem", https_cert="weak-cert.pem"):
        assert line.startswith("--https-cert: ")  # whether it is refused depends on OpenSSL's security level
        assert "too weak" in line


def test_files_that_are_no_pem(base: Path) -> None:
    [line] = problems(base, https_key="text.pem", https_cert="cert.pem")
    assert "--https-key" in line
    assert "contains no readable private key" in line
    [line] = problems(base, https_key="key.pem", https_cert="text.pem")
    assert "--https-cert" in line
    assert "contains no readable certificate" in line
    [line] = problems(base, https_key="key.pem", https_cert="cert.pem", https_ca="text.pem")
    assert "--https-ca" in line


def test_a_locked_key(base: Path) -> None:
    pair: dict[str, Any] = {"https_key": "locked-key.pem", "https_cert": "locked-cert.pem"}
    assert problems(base, {"EGG_HTTPS_KEY_PASSWORD": PASSPHRASE}, **pair) == []
    [line] = problems(base, {"EGG_HTTPS_KEY_PASSWORD": "wrong one"}, **pair)
    assert line == f'EGG_HTTPS_KEY_PASSWORD: its value does not open the key "{base}/locked-key.pem"'
    [line] = problems(base, **pair)
    assert line.endswith("is encrypted; give its passphrase in EGG_HTTPS_KEY_PASSWORD")


def test_debug_port(base: Path) -> None:
    pair: dict[str, Any] = {"https_key": "key.pem", "https_cert": "cert.pem"}
    assert problems(base, **pair, debug_port="7002") == []
    [line] = problems(base, debug_port="7002")
    assert line.startswith("--debug-port: 7002 is for plain HTTP beside HTTPS")
    [line] = problems(base, **pair, debug_port="8443")
    assert line == "--debug-port: 8443 is already the port for HTTPS; give another port"
