"""What a cluster finds around it: ports that others hold, keys and certificates, a network of its own, a Redis."""

import contextlib
import ctypes
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.waiting import wait_until

T = TypeVar("T")
CLONE_NEWNET = 0x40000000  # <linux/sched.h>


def free_port() -> str:
    """A loopback port that was free a moment ago."""
    with taken_port() as port:
        return port


@contextlib.contextmanager
def taken_port(*, listening: bool = True, reuse_port: bool = False) -> Iterator[str]:
    """A loopback port that this process holds."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        sock.bind(("127.0.0.1", 0))
        if listening:
            sock.listen()
        yield str(sock.getsockname()[1])


def key_pair(folder: Path, name: str) -> tuple[str, str]:
    """A new key and its self-signed certificate, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / f"{name}.key", folder / f"{name}.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(key_file), str(certificate_file)


def own_network(*setup: str) -> list[str]:
    """A launcher that runs its command in a network namespace of its own, prepared by these shell commands; the test
    is skipped where that cannot be had."""
    prepare = " && ".join(("ip link set lo up", *setup))
    launcher = ["unshare", "--net", "sh", "-c", f'{prepare} && exec "$@"', "-"]
    try:
        subprocess.run([*launcher, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a network namespace of its own: {error}")
    return launcher


def in_network_of(pid: int, work: Callable[[], T]) -> T:
    """What `work` gives when its sockets are opened in the network of that process. It must not start threads."""

    def enter_and_work() -> T:
        with open(f"/proc/{pid}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return work()

    with ThreadPoolExecutor(1) as pool:  # a network namespace is a thread's own: this one ends with the pool
        return pool.submit(enter_and_work).result()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[Any]:
    """A real one of the test's own, on a Unix socket in `folder`; a client of it. Skips where it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    path = folder / "redis.sock"
    settings = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log, subprocess.Popen([program, *settings], stdout=log) as server:
        try:
            # Not by a statement: its types are others where the separate stubs for old versions are installed, too.
            with import_module("redis").Redis(unix_socket_path=str(path), decode_responses=True) as client:
                wait_until(lambda: path.exists() and client.ping(), "Redis answers")
                yield client
        finally:
            server.terminate()
