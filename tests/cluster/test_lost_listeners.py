"""Application code that shuts down, closes or changes the sockets that it inherited: the address goes on answering."""

import http.client
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.cluster.clients import Target, homes
from tests.cluster.harness import HELLO, Launched, Project
from tests.cluster.remote import connect, obedient
from tests.cluster.surroundings import free_port, key_pair
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux says when a listener was shut down")

# GET /shut shuts down every listener of the worker that answers; /handover the sockets on which connections are handed
# over. /close closes the first descriptor of each, /closeall all of them, /cover puts other sockets at their numbers.
# /block takes the non-blocking mode from everything.
MEDDLE = """
import os, socket

def meddle(what):
    seen = set()
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        if not os.path.realpath(f"/proc/self/fd/{fd}").partition("/fd/")[2].startswith("socket:"):
            continue
        with socket.socket(fileno=os.dup(fd)) as sock:
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            hands_over = sock.type == socket.SOCK_SEQPACKET
            if what == "block":
                os.set_blocking(fd, True)
            elif what == "shut" and listens or what == "handover" and hands_over:
                sock.shutdown(socket.SHUT_RDWR)
            elif what == "close" and (listens or hands_over):
                if (inode := os.fstat(fd).st_ino) not in seen:
                    seen.add(inode)
                    os.close(fd)
            elif what == "closeall" and (listens or hands_over):
                os.close(fd)
            elif what == "cover" and (listens or hands_over):
                with socket.socket() as other:
                    os.dup2(other.fileno(), fd)
"""

SHARED = """
remote.shared = app.shared
"""

HELLO_AND_MEDDLE = (
    HELLO
    + MEDDLE
    + """
async def meddling(scope, receive, send):
    await api(scope, receive, send)
    what, _, slot = scope["path"].strip("/").partition("-")
    if what and slot in ("", str(app.slot)):
        meddle(what)

app.app = meddling
"""
)


def start(project: Project, *arguments: str) -> Launched:
    return project.write(app=HELLO_AND_MEDDLE).start(*arguments).wait_ready()


def slots(launched: Launched, count: int = 40) -> set[int]:
    """The slots that answer so many new connections."""
    return {int(answer(launched.address).partition(":")[0]) for _ in range(count)}


def answer(url: str) -> str:
    """What a new connection gets; one that is reset, at the moment of the shutdown, is tried again."""

    def once() -> str:
        try:
            return httpx.get(url, verify=False).text
        except httpx.TransportError:
            return ""

    return wait_until(once, f"{url} answers")


def meddle(launched: Launched, what: str, slot: int) -> None:
    """Have the worker in this slot do it."""
    while launched.get(f"/{what}-{slot}").text.partition(":")[0] != str(slot):
        pass


@pytest.mark.parametrize("port", [free_port, lambda: "0"], ids=["port", "any port"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_listener_that_was_shut_down_listens_again(project: Project, workers: int, port: Callable[[], str]) -> None:
    """Also at a port that the kernel has chosen; the worker that did it keeps it."""
    launched = start(project, "--workers", str(workers), "--port", port())
    before = launched.workers()
    for slot in range(1, workers + 1):
        meddle(launched, "shut", slot)
        wait_until(lambda slot=slot: launched.log.count("a worker has shut down the listener") == slot)  # type: ignore[misc]
        assert slots(launched) == set(before)
    assert launched.workers() == before
    assert launched.log.count("a worker has shut down the listener") == workers
    assert "cannot accept" not in launched.log


def test_the_plain_and_the_tls_listener_are_shut_down_at_once(project: Project) -> None:
    key, certificate = key_pair(project.folder, "own")
    debug = free_port()
    tls = ("--https-key", key, "--https-cert", certificate, "--debug-port", debug)
    launched = start(project, "--workers", "2", *tls)
    for _ in range(3):
        httpx.get(f"http://127.0.0.1:{debug}/shut")
        for url in (launched.address, f"http://127.0.0.1:{debug}"):
            assert {answer(url).partition(":")[0] for _ in range(20)} == {"1", "2"}


@pytest.mark.parametrize("via", ["bpf", "acceptor"])
def test_a_client_stays_at_its_worker(project: Project, via: str) -> None:
    launched = start(project, "--workers", "4", "--sticky", "--sticky-via", via)
    clients = [f"127.0.0.{i}" for i in range(1, 100)]
    placed = homes(Target.of(launched), clients)
    assert set(placed.values()) == {1, 2, 3, 4}
    for slot in (2, 1, 4):
        client = next(client for client, its in placed.items() if its == slot)
        with httpx.Client(transport=httpx.HTTPTransport(local_address=client)) as at_slot:
            at_slot.get(f"{launched.address}/shut")
        wait_until(partial(is_placed, launched, client, slot), "the listener listens again")
        assert homes(Target.of(launched), clients) == placed


def is_placed(launched: Launched, client: str, slot: int) -> bool:
    """Whether the client's slot answers it; at the moment of the shutdown a connection may be reset."""
    try:
        return homes(Target.of(launched), [client]) == {client: slot}
    except (ConnectionError, http.client.HTTPException):
        return False


def test_a_unix_socket_that_was_shut_down_gets_a_successor_and_new_workers(project: Project) -> None:
    path = str(project.folder / "web.sock")
    launched = start(project, "--workers", "2", "--uds", path)
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=20) as client:
        client.get("http://x/shut")
    launched.wait_log("reload done")
    assert {over(path).partition(":")[0] for _ in range(20)} <= {"1", "2"}
    assert launched.close() == 0
    assert not Path(path).exists()


def over(path: str) -> str:
    """The answer on this Unix socket: slot and pid."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=20) as client:
        return client.get("http://x/").text


def test_new_workers_for_a_new_unix_socket_are_tried_until_they_start(project: Project) -> None:
    path = str(project.folder / "web.sock")
    launched = start(project, "--workers", "1", "--uds", path)
    launched.allows_traceback = True
    project.write(app="raise RuntimeError('not yet')")
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=20) as client:
        client.get("http://x/shut")
    launched.wait_log("reload stopped, the current workers go on")
    project.write(app=HELLO_AND_MEDDLE)
    launched.wait_log("reload done")
    assert over(path).partition(":")[0] == "1"


MORE = pytest.mark.parametrize("more", [[], ["--sticky", "--sticky-via", "acceptor"], ["--sticky"]])


@MORE
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_closed_its_sockets_gets_them_back(project: Project, workers: int, more: list[str]) -> None:
    launched = start(project, "--workers", str(workers), *more)
    before = launched.workers()
    slot = int(launched.get("/close").text.partition(":")[0])
    if workers > 1 or "acceptor" not in more:  # else it has none
        launched.wait_log("on which its connections come in: put back")
    assert slots(launched) == ({slot} if more else set(before))
    assert launched.workers() == before


@MORE
@pytest.mark.parametrize("what", ["cover", "closeall"])
def test_a_worker_whose_sockets_are_lost_is_replaced(project: Project, what: str, more: list[str]) -> None:
    launched = start(project, "--workers", "2", *more)
    before = launched.workers()
    slot = int(launched.get(f"/{what}").text.partition(":")[0])
    wait_until(lambda: launched.workers().get(slot) not in (None, before[slot]), "it is replaced")
    assert re.search(r"the application has closed file descriptor \d+, on which its connections come in", launched.log)
    assert slots(launched) == ({slot} if more else set(before))


BOOT_AND_MEDDLE = (
    HELLO
    + MEDDLE
    + """
@app.on_start
def now():
    meddle({what!r})
"""
)


def test_an_application_that_closes_its_listener_while_it_boots_gets_it_back(project: Project) -> None:
    launched = project.write(app=BOOT_AND_MEDDLE.replace("{what!r}", "'close'")).start("--workers", "2").wait_ready()
    assert slots(launched) == {1, 2}


def test_an_application_that_takes_its_listeners_number_while_it_boots_is_told_so(project: Project) -> None:
    launched = project.write(app=BOOT_AND_MEDDLE.replace("{what!r}", "'cover'")).start("--workers", "1")
    launched.allows_traceback = True
    assert launched.wait_exit() == 1
    assert re.search(r"could not start: RuntimeError: the application has closed file descriptor \d+", launched.log)


def test_a_unix_socket_that_is_shut_down_while_the_workers_boot_gets_a_successor_when_they_serve(
    project: Project,
) -> None:
    path = str(project.folder / "web.sock")
    source = BOOT_AND_MEDDLE.replace("meddle({what!r})", "app.generation > 1 or meddle('shut')")
    launched = project.write(app=source).start("--workers", "1", "--uds", path).wait_ready()
    launched.wait_log("reload done")
    assert over(path).partition(":")[0] == "1"


def test_a_worker_that_can_be_handed_nothing_is_replaced(project: Project) -> None:
    launched = start(project, "--workers", "2", "--sticky", "--sticky-via", "acceptor")
    before = launched.workers()
    slot = int(launched.get("/handover").text.partition(":")[0])
    assert int(launched.get().text.partition(":")[0]) == slot  # it waited for the next one
    assert launched.workers()[slot] != before[slot]
    assert re.search(
        rf"app_worker#{slot}:\d+ broke the protocol: it takes no connections from the master", launched.log
    )


def test_so_it_is_where_nothing_is_handed_over_just_then(project: Project) -> None:
    launched = start(project, "--workers", "2")
    before = launched.workers()
    meddle(launched, "handover", 2)
    wait_until(lambda: launched.workers().get(2) not in (None, before[2]), "it is replaced")
    assert slots(launched) == {1, 2}


def test_sockets_made_blocking_do_not_stop_the_master(project: Project) -> None:
    """They are the same as its own; where a slot is not open it accepts itself what comes there."""
    launched = start(project, "--workers", "2")
    for slot, pid in launched.workers().items():
        meddle(launched, "block", slot)
        os.kill(pid, signal.SIGKILL)
        slots(launched)  # all are answered
        wait_until(lambda slot=slot, pid=pid: launched.workers().get(slot) not in (None, pid), "it is back")  # type: ignore[misc]
    assert slots(launched) == {1, 2}


@pytest.mark.parametrize(
    ("what", "said"), [("shut", "is bound anew"), ("close", "put back"), ("closeall", "is bound anew")]
)
def test_an_agent_that_loses_its_socket_is_reached_by_new_workers(project: Project, what: str, said: str) -> None:
    obedient(project, app=SHARED, agent=MEDDLE + "\nremote.meddle = meddle\n")
    cluster = project.start("--workers", "2").wait_ready()
    with connect(cluster, 1) as worker:
        assert worker.tell("return await shared.increment('n')") == 1
        worker.tell(f"""await messenger.request('run', ['meddle("{what}")', None], to='agent')""")
    cluster.wait_log(said)
    for pid in (cluster.workers()[1], cluster.agent()):  # the next agent inherits what its master has
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: pid not in (cluster.agent(), cluster.workers().get(1, pid)), "it is replaced")  # type: ignore[misc]
    with connect(cluster, 1) as worker:
        assert worker.tell("return await shared.increment('n')") == 2
