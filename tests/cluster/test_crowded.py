"""More clients than file descriptors, which ask for nothing or too slowly: others are served all the same."""

import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.harness import HELLO, Launched, Project
from tests.cluster.surroundings import key_pair
from tests.waiting import DEADLINE

FEW = ["bash", "-c", 'ulimit -n 256; exec "$@"', "-"]
CROWD = 440
# By its own timeouts none of the crowd would end before the test does.
FOREVER = [f"--{name}-timeout=3600" for name in ("header", "body", "write", "keep-alive")]
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
KINDS = {
    "silent": b"",
    "half a head": HEAD + b"A: ",
    "idle": HEAD + b"\r\n",
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nb",
}

# Reads the whole body before it answers.
READS = """
from eggcluster import Application

async def api(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"read"})

app = Application(api)
"""


@contextlib.contextmanager
def crowd(url: str, data: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that have sent `data`, and stay."""
    address = (httpx.URL(url).host, httpx.URL(url).port)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, DEADLINE)) for _ in range(CROWD)]
        for client in clients:
            with contextlib.suppress(OSError):  # it had to make room already
                client.sendall(data)
        yield clients


def assert_others_are_served(launched: Launched, url: str) -> None:
    for _ in range(10):
        with httpx.Client(verify=False, timeout=DEADLINE) as client:  # its own certificate
            assert client.get(url).status_code == 200
    assert launched.log.count("no file descriptor is left") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_that_keeps_a_worker_waiting_shuts_out_no_others(project: Project, kind: str) -> None:
    launched = project.write(app=READS).start("--workers", "1", *FOREVER, launcher=FEW).wait_ready()
    with crowd(launched.address, KINDS[kind]):
        assert_others_are_served(launched, launched.address)


def test_a_crowd_of_half_open_handshakes_shuts_out_no_others(project: Project) -> None:
    key, certificate = key_pair(project.folder, "own")
    secure = ["--https-key", key, "--https-cert", certificate]
    launched = project.write(app=HELLO).start("--workers", "1", *FOREVER, *secure, launcher=FEW).wait_ready()
    with crowd(launched.address, b"\x16\x03\x01"):
        assert_others_are_served(launched, launched.address)


def test_a_crowd_at_a_sticky_cluster_shuts_out_no_others(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1", "--sticky", *FOREVER, launcher=FEW).wait_ready()
    with crowd(launched.address, b""):
        assert_others_are_served(launched, launched.address)
