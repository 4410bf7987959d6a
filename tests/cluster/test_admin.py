"""The admin port of a real cluster: probes, the metrics over workers' deaths, the token, the time before the close."""

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.openmetrics import parser

from tests.cluster.harness import HELLO, Launched, Project
from tests.waiting import DEADLINE, wait_until

parse: Any = parser.text_string_to_metric_families  # it has no types

BLOCKING = """
import threading
from eggcluster import Application

async def api(scope, receive, send):
    if scope["path"] == "/block":
        threading.Event().wait()
    status = int(scope["path"][1:] or 200)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})

app = Application(api)
"""


def admin(cluster: Launched, path: str, **rest: Any) -> httpx.Response:
    status = cluster.status()
    assert status is not None
    address = status["admin"]
    uds = address.removeprefix("unix:") if address.startswith("unix:") else None
    with httpx.Client(transport=httpx.HTTPTransport(uds=uds), timeout=DEADLINE) as client:
        return client.get(f"http://{'admin' if uds else address}{path}", **rest)


def samples(cluster: Launched) -> dict[str, float]:
    """The counters by name and labels."""
    found = {}
    for family in parse(admin(cluster, "/metrics").text):
        if family.type in ("counter", "histogram"):
            for sample in family.samples:
                found[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value
    return found


def end(process: psutil.Process) -> None:
    process.kill()
    wait_until(lambda: not process.is_running(), "it is dead")


def responses(cluster: Launched, status: str = "2xx") -> float:
    wanted = f"('status', '{status}')"
    return sum(v for name, v in samples(cluster).items() if name.startswith("eggcluster_http_resp") and wanted in name)


def test_probes_metrics_and_status_are_answered(project: Project) -> None:
    cluster = project.write(app=BLOCKING).start("--workers", "2", "--admin", "0").wait_ready()
    assert admin(cluster, "/live").text == "serving\n"
    assert admin(cluster, "/ready").text == "2 app workers take connections, 1 have to\n"
    own = cluster.status()
    assert own is not None
    assert admin(cluster, "/status").json()["pid"] == cluster.pid
    for path in ("/", "/404", "/500"):
        cluster.get(path)
    assert [responses(cluster, each) for each in ("2xx", "4xx", "5xx")] == [1, 1, 1]
    assert f"admin port on {own['admin']}" in cluster.log
    assert own["admin"].startswith("127.0.0.1:")
    assert cluster.close() == 0


def test_no_counter_goes_back_and_none_is_lost_over_kills_and_recycling(project: Project) -> None:
    socket_path = project.folder / "admin.sock"
    options = ("--workers", "2", "--max-requests", "20", "--admin", f"unix:{socket_path}")
    cluster = project.write(app=BLOCKING).start(*options).wait_ready()
    assert socket_path.stat().st_mode & 0o777 == 0o600
    seen: dict[str, float] = {}
    for turn in range(120):
        assert cluster.get().status_code == 200
        if turn % 50 == 25:  # between requests: each one that a client has got was counted
            end(psutil.Process(cluster.workers()[1 + turn // 50]))
            wait_until(lambda: len(cluster.workers()) == 2, "it is replaced")
        now = samples(cluster)
        assert all(now[name] >= value for name, value in seen.items()), (seen, now)
        seen = now
    assert responses(cluster) == 120
    killed = [value for name, value in seen.items() if "deaths_total" in name and "SIGKILL" in name]
    assert sum(killed) == 2
    assert cluster.close() == 0
    assert not socket_path.exists()


def test_a_blocked_application_is_not_ready_and_the_master_says_so(project: Project) -> None:
    options = ("--workers", "1", "--admin", "0", "--worker-timeout", "0")
    cluster = project.write(app=BLOCKING).start(*options).wait_ready()
    assert admin(cluster, "/ready").status_code == 200

    def block() -> None:
        with pytest.raises(httpx.HTTPError):
            cluster.get("/block")

    blocked = threading.Thread(target=block)
    blocked.start()
    wait_until(lambda: admin(cluster, "/ready").status_code == 503, "not ready")
    assert admin(cluster, "/live").status_code == 200
    psutil.Process(cluster.workers()[1]).kill()
    blocked.join(DEADLINE)
    wait_until(lambda: admin(cluster, "/ready").status_code == 200, "ready again")
    assert cluster.close() == 0


def test_more_workers_may_have_to_be_ready(project: Project) -> None:
    options = ("--workers", "2", "--ready-workers", "2", "--admin", "0", "--env", "local")
    cluster = project.write(app=HELLO).start(*options).wait_ready()
    assert admin(cluster, "/ready").status_code == 200
    psutil.Process(cluster.workers()[1]).kill()  # its slot stays empty in this env
    wait_until(lambda: admin(cluster, "/ready").status_code == 503, "not ready")
    assert cluster.close() == 0


def test_a_token_opens_all_but_the_probes(project: Project) -> None:
    token = project.folder / "token"
    token.write_text("s3cret\n")
    cluster = project.write(app=HELLO).start("--admin", "0", "--admin-token-file", str(token)).wait_ready()
    assert [admin(cluster, path).status_code for path in ("/live", "/ready", "/metrics", "/status")] == [
        200, 200, 401, 401,
    ]  # fmt: skip
    assert admin(cluster, "/metrics", headers={"authorization": "Bearer s3cret"}).status_code == 200
    assert cluster.close() == 0


def test_before_it_closes_the_cluster_serves_on_while_it_is_not_ready(project: Project) -> None:
    cluster = project.write(app=HELLO).start("--admin", "0", "--shutdown-delay", "3600").wait_ready()
    os.kill(cluster.pid, signal.SIGTERM)
    wait_until(lambda: admin(cluster, "/ready").status_code == 503, "not ready")
    assert "leaving" in admin(cluster, "/ready").text
    for _ in range(5):
        assert cluster.get().status_code == 200
    os.kill(cluster.pid, signal.SIGTERM)  # again: at once
    assert cluster.wait_exit() == 0
    assert "closing after 3600s" in cluster.log


def test_after_the_delay_the_cluster_closes(project: Project) -> None:
    cluster = project.write(app=HELLO).start("--shutdown-delay", "0.3").wait_ready()
    os.kill(cluster.pid, signal.SIGTERM)
    assert cluster.wait_exit() == 0
    assert "the shutdown delay is over, closing" in cluster.log


@pytest.mark.parametrize("content", ["", " \n", "two words", "é", None])
def test_a_token_that_is_none_is_one_line(project: Project, content: str | None) -> None:
    token = project.folder / "token"
    if content is not None:
        token.write_text(content)
    cluster = project.write(app=HELLO).start("--admin", "0", "--admin-token-file", str(token))
    assert cluster.wait_exit() == 2
    lines = [line for line in cluster.log.splitlines() if "token" in line]
    assert len(lines) == 1
    assert str(token) in lines[0]


def test_an_address_that_is_taken_is_one_line(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cluster = project.write(app=HELLO).start("--admin", str(port))
        assert cluster.wait_exit() == 2
    assert f"admin: 127.0.0.1:{port} cannot be bound: Address already in use" in cluster.log
    assert "Traceback" not in cluster.log


def test_what_clients_send_costs_no_more_than_their_connection(project: Project, tmp_path: Path) -> None:
    cluster = project.write(app=HELLO).start("--admin", "0").wait_ready()
    status = cluster.status()
    assert status is not None
    host, _, port = status["admin"].rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    for data in (
        b"\0" * 10_000,
        b"GET /live HTTP/1.1\r\n\r\n",
        b"POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as client:
            client.sendall(data)
            assert client.recv(4096).startswith(b"HTTP/1.1 4")
    assert admin(cluster, "/live").status_code == 200
    for client in silent:
        client.close()
    assert cluster.close() == 0


@pytest.mark.parametrize("begun", [b"", b"GET /live HTTP/1.1\r\n"], ids=["silent", "unfinished"])
def test_a_crowd_leaves_room_for_a_probe_and_descriptors_to_a_replacement(project: Project, begun: bytes) -> None:
    """Its connections would be more than the master may have open."""
    few = ("bash", "-c", 'ulimit -n 256; exec "$@"', "-")
    cluster = project.write(app=HELLO).start("-w", "2", "--admin", "0", launcher=few).wait_ready()
    status = cluster.status()
    assert status is not None
    host, _, port = status["admin"].rpartition(":")
    victim = cluster.workers()[1]
    with contextlib.ExitStack() as crowd:
        for _ in range(400):
            client = crowd.enter_context(socket.create_connection((host, int(port)), timeout=DEADLINE))
            with contextlib.suppress(ConnectionError):  # it has made room already
                client.sendall(begun)
        assert admin(cluster, "/live").text == "serving\n"
        assert len(os.listdir(f"/proc/{cluster.pid}/fd")) < 192, "the reserve is left"
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: cluster.workers().get(1) not in (None, victim), "it is replaced")
    assert "could not be started" not in cluster.log
    assert "system resource" not in cluster.log
    assert cluster.close() == 0
