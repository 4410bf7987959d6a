"""The graceful exit: what is in flight is finished, the order is kept, and nothing can hold it up for long."""

import contextlib
import http.client
import os
import signal
import socket
import time
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_websocket

from eggcluster.kernel.process_tree import is_running
from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

# A loop that does not move, in a process that does not listen to SIGTERM.
DEAF = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\nmark('deaf')\nwhile True: time.sleep(0.05)"
CHILD_DEAF_TO_SIGTERM = (
    "child = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; echo ready; exec sleep 1000'], stdout=-1)\n"
    "child.stdout.readline()\nreturn child.pid"
)


def start(project: Project, *arguments: str, agent: str = "") -> Launched:
    return obedient(project, agent=agent).start("--workers", "2", *arguments).wait_ready()


def refuses(address: str) -> bool:
    parts = urlsplit(address)
    assert parts.hostname is not None
    assert parts.port is not None
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except ConnectionError:
        return True
    return False


def closing_seconds(cluster: Launched) -> float:
    """Close the cluster, which must give exit code 0; how long it took."""
    began = time.monotonic()
    assert cluster.close() == 0
    return time.monotonic() - began


# -- in order ----------------------------------------------------------------------------------------------------


def test_what_is_in_flight_is_finished_and_nothing_new_is_let_in(project: Project) -> None:
    cluster = start(project)
    address = cluster.address
    with connect(cluster, 1) as slow, connect(cluster, 2) as streaming, connect(cluster, 1) as idle:
        slow.send("mark('flying'); await asyncio.sleep(1); return 'slow but done'")
        streaming.send(path="/stream")
        wait_until(lambda: marks(project, "flying"), "the slow request is being answered")
        cluster.signal(signal.SIGTERM)
        wait_until(lambda: refuses(address), "new connections are refused")
        assert is_running(cluster.pid)
        assert not marks(project, "closing")
        assert '"slow but done"' in slow.read()
        assert streaming.read() == "0,1,2,3,4,5,6,7,8,9,end"
        assert cluster.wait_exit() == 0
        with pytest.raises((OSError, http.client.HTTPException)):
            idle.tell()


def test_a_keep_alive_connection_is_closed_after_the_answer_in_flight(project: Project) -> None:
    cluster = start(project)
    with connect(cluster, 1) as connection:
        connection.send("mark('flying'); await asyncio.sleep(0.5); return 'last'")
        wait_until(lambda: marks(project, "flying"), "the request is being answered")
        cluster.signal(signal.SIGTERM)
        assert '"last"' in connection.read()
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.tell()
    assert cluster.wait_exit() == 0


def test_a_client_that_goes_on_asking_is_told_to_close_before_its_connection_is_closed(project: Project) -> None:
    cluster = obedient(project).start("--workers", "1").wait_ready()
    connection = http.client.HTTPConnection(cluster.address.removeprefix("http://"), timeout=10)
    told = None
    source = "os.kill(os.getpid(), signal.SIGTERM)"
    while told != "close":  # what is not answered raises
        connection.request("POST", "/", source)
        response = connection.getresponse()
        response.read()
        told, source = response.getheader("connection"), "pass"


def test_workers_close_before_the_agent_and_lifespan_before_on_close(project: Project) -> None:
    cluster = start(project)
    assert cluster.close() == 0
    words = [line[:2] for line in marks(project, "closing")]
    assert sorted(words[:4]) == [[f"app#{n}", step] for n in (1, 2) for step in ("lifespan", "on_close")]
    for slot in (1, 2):
        assert words.index([f"app#{slot}", "lifespan"]) < words.index([f"app#{slot}", "on_close"])
    assert words[4:] == [["agent", "on_close"]]


def test_websocket_clients_are_told_that_the_service_ends(project: Project) -> None:
    cluster = start(project)
    with open_websocket(cluster.address.replace("http", "ws")) as websocket:
        cluster.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert cluster.wait_exit() == 0


# -- by force ----------------------------------------------------------------------------------------------------


def test_a_worker_that_ignores_sigterm_is_killed_after_its_timeout(project: Project) -> None:
    cluster = start(project, "--app-close-timeout", "500")
    with connect(cluster, 1) as connection:
        connection.send(DEAF)
        wait_until(lambda: marks(project, "deaf"), "the worker is deaf")
        assert 0.5 <= closing_seconds(cluster) < 4
    assert sorted(line[:2] for line in marks(project, "closing")) == [
        ["agent", "on_close"],
        ["app#2", "lifespan"],
        ["app#2", "on_close"],
    ]


def test_children_that_ignore_sigterm_are_killed_with_their_worker(project: Project) -> None:
    cluster = start(project, "--app-close-timeout", "500")
    with connect(cluster, 1) as connection:
        child = connection.tell(CHILD_DEAF_TO_SIGTERM)
    assert is_running(child)
    assert closing_seconds(cluster) < 4
    assert not is_running(child)


def test_children_that_left_session_and_environment_are_killed_as_well(project: Project) -> None:
    cluster = start(project, "--app-close-timeout", "500")
    with connect(cluster, 1) as connection:
        source = "return subprocess.Popen(['/bin/sleep', '60'], env={}, start_new_session=True).pid"
        child = connection.tell(source)
    try:
        assert cluster.close() == 0
        assert not is_running(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_process_that_the_shell_started_before_it_became_the_master_is_left_alone(project: Project) -> None:
    """An entry point that ends with `exec eggcluster start`, and has a `tee` for its log."""
    entry = 'sleep 1000 & echo $! > before; exec "$@"'
    cluster = obedient(project).start("-w", "1", launcher=("sh", "-c", entry, "sh")).wait_ready()
    before = int((project.folder / "before").read_text())
    try:
        with connect(cluster, 1) as connection:
            source = "return subprocess.Popen(['/bin/sleep', '60'], env={}, start_new_session=True).pid"
            orphan = connection.tell(source)
        assert cluster.close() == 0
        assert is_running(before)
        assert not is_running(orphan)
    finally:
        os.kill(before, signal.SIGKILL)


def test_children_may_end_in_order_within_their_workers_timeout(project: Project) -> None:
    cluster = start(project)
    tidy = "trap 'sleep 0.2; touch tidied; exit' TERM; echo ready; while :; do sleep 0.05; done"
    with connect(cluster, 1) as connection:
        connection.tell(f"subprocess.Popen(['sh', '-c', {tidy!r}], stdout=-1).stdout.readline()")
    assert cluster.close() == 0
    assert (project.folder / "tidied").exists()


def test_an_agent_that_hangs_in_on_close_is_killed_after_its_timeout(project: Project) -> None:
    hanging = "\n@agent.on_close\nasync def hang():\n    await remote.asyncio.sleep(1000)\n"
    cluster = start(project, "--agent-close-timeout", "300", agent=hanging)
    assert 0.3 <= closing_seconds(cluster) < 4
    assert ["agent", "on_close"] in [line[:2] for line in marks(project, "closing")], "the other function has its turn"
    assert "did not close in order, it was killed" in cluster.log


def test_a_slow_message_handler_leaves_the_agents_on_close_its_time(project: Project) -> None:
    slow = "\n@agent.messenger.on('slow')\nasync def slow(data):\n    await remote.asyncio.sleep(1000)\n"
    cluster = start(project, "--agent-close-timeout", "800", agent=slow)
    with connect(cluster, 1) as connection:
        connection.tell(
            "messenger.send_to_agent('slow', None)\nawait messenger.request('run', ['pass', None], to='agent')"
        )
    assert cluster.close() == 0
    assert ["agent", "on_close"] in [line[:2] for line in marks(project, "closing")]


def test_a_second_signal_cuts_the_waiting_short(project: Project) -> None:
    cluster = start(project, "--app-close-timeout", "60000", "--agent-close-timeout", "60000")
    with connect(cluster, 1) as connection:
        child = connection.tell(CHILD_DEAF_TO_SIGTERM)
        connection.send(DEAF)
        wait_until(lambda: marks(project, "deaf"), "the worker is deaf")
        cluster.signal(signal.SIGTERM)
        wait_until(lambda: 2 not in cluster.workers(), "the cluster is closing")
        cluster.signal(signal.SIGTERM)
        assert cluster.wait_exit(5) == 0
    assert not is_running(child)


def test_a_worker_that_is_stopped_is_killed_after_its_timeout(project: Project) -> None:
    cluster = start(project, "--app-close-timeout", "300")
    os.kill(cluster.workers()[1], signal.SIGSTOP)
    assert closing_seconds(cluster) < 4


def test_an_exception_while_closing_is_logged_and_the_rest_is_closed(project: Project) -> None:
    raising = "\n@agent.on_close\ndef fail():\n    raise ValueError('cannot close')\n"
    cluster = start(project, agent=raising)
    cluster.allows_traceback = True
    assert cluster.close() == 1
    assert "ValueError: cannot close" in cluster.log
    assert marks(project, "closing")[-1][:2] == ["agent", "on_close"]
