"""Watchers and children that want too much: the master's memory, its log and its descriptors are bounded."""

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from eggcluster import Cluster
from eggcluster.kernel.unix_socket import connect_unix
from eggcluster.master.control.clients import MAX_WATCHERS
from tests.cluster.harness import HELLO, Launched, Project
from tests.cluster.remote import ask, obedient
from tests.cluster.test_messenger import log_of, running
from tests.cluster.test_messenger_load import SEND, master_of
from tests.waiting import until, wait_until

MIB = 1024 * 1024


@contextmanager
def command(project: Project, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A command that runs meanwhile."""
    line = [sys.executable, "-m", "eggcluster", *arguments]
    with subprocess.Popen(line, cwd=project.folder, env=project.environ, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_messages_that_nobody_reads_take_bounded_memory(project: Project) -> None:
    """As with Ctrl-Z, or in a pager: 300 MB pass by."""
    obedient(project)

    async def scenario() -> None:
        async with running(project, workers=1) as cluster:
            master = await master_of(cluster)
            flood = SEND.format(count=1500, call="send_to_agent('large', bytes(200_000))")
            with command(project, "messages", "--payload", "--json") as watching:
                assert watching.stdout is not None
                ticking = asyncio.ensure_future(tick(cluster))
                first = json.loads(await asyncio.to_thread(watching.stdout.readline))
                ticking.cancel()
                assert first["action"] in ("run", "tick")
                watching.send_signal(signal.SIGSTOP)
                before = master.memory_info().rss
                await ask(cluster.messenger, "app#1", flood)
                grown = master.memory_info().rss - before
                assert grown < 64 * MIB, f"{grown / MIB:.1f} MiB"

    async def tick(cluster: Cluster) -> None:
        while True:
            cluster.messenger.send_to_agent("tick")
            await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_forgotten_watchers_do_not_keep_status_reload_and_stop_out(project: Project) -> None:
    cluster = project.write(app=HELLO).start("app:app", "--name", "board", "-w", "1").wait_ready()
    (path,) = Path(project.environ["EGG_RUNTIME_DIR"]).glob("*/control.sock")
    forgotten = []
    for _ in range(2 * MAX_WATCHERS):
        sock = connect_unix(str(path))
        sock.sendall(b'{"command": "events"}\n')
        forgotten.append(sock)
    assert "serving" in cluster.command("status", "--name", "board").stdout
    assert cluster.command("reload", "--name", "board").returncode == 0
    assert cluster.command("stop", "--name", "board").returncode == 0
    for sock in forgotten:
        sock.close()


FLOOD = """
import gc
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import app
channel = next(each for each in gc.get_objects() if type(each) is Channel and not each.closed)
report = encode_frame(FrameKind.REPORT, Target.ADDRESS, ["app-start", {}], source=app(me.slot).pack())
status = encode_frame(FrameKind.REQUEST, Target.MASTER, ["status", None], source=app(me.slot).pack())
channel.write(30_000 * report + 30_000 * status)
"""


def test_a_worker_that_floods_the_master_with_reports_and_requests_stalls_nothing(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with running(project, workers=2) as cluster:
            cluster.messenger.send_to("app#1", "run", [FLOOD, None])  # its answer would come behind the flood
            await until(lambda: "too many requests and reports" in log_of(project))
            for _ in range(10):
                assert (await cluster.status())["phase"] == "serving"
                assert await ask(cluster.messenger, "app#2", "return me.slot") == 2
            assert log_of(project).count("too many requests and reports") == 1
            assert log_of(project).count("app_worker#1") < 20

    asyncio.run(scenario())


def test_silent_clients_leave_descriptors_to_a_replacement(project: Project) -> None:
    """Their connections fill both workers, what is on its way to them, and what may wait in the master."""
    cluster = project.write(app=HELLO).start(
        *("app:app", "--name", "board", "-w", "2", "--sticky", "--sticky-via", "acceptor", "--sticky-hold", "60"),
        launcher=["bash", "-c", 'ulimit -n 256; exec "$@"', "-"],
    )
    cluster.wait_ready()
    victim = cluster.workers()[1]
    with many_silent_clients(cluster, 2000):
        wait_until(lambda: "few file descriptors" in cluster.log, "the master is full")
        psutil.Process(victim).kill()
        wait_until(lambda: cluster.workers().get(1) not in (None, victim), "it is replaced")
        assert "could not be started" not in cluster.log


@contextmanager
def many_silent_clients(cluster: Launched, count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    port = int(cluster.address.rpartition(":")[2])
    clients: list[socket.socket] = []
    try:
        for number in range(count):
            client = socket.socket()
            clients.append(client)
            client.setblocking(False)
            client.bind((f"127.0.{number % 200}.{1 + number % 250}", 0))
            client.connect_ex(("127.0.0.1", port))
        yield
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
