"""How workers begin, end, hang, and are replaced, in every mode."""

import contextlib
import os
import re
import signal
import threading
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.cluster.harness import Launched
from tests.modes.conftest import Site, Visitor
from tests.waiting import DEADLINE, wait_until


def seat(cluster: Launched, slot: int) -> dict[str, Any]:
    status = cluster.status()
    assert status is not None
    return dict(status["workers"][slot - 1] if slot else status["agent"])


def generation(cluster: Launched, slot: int, number: int) -> bool:
    """Whether that slot has got so far, and listens."""
    now = seat(cluster, slot)
    return bool(now["state"] == "listening" and now["generation"] >= number)


@contextlib.contextmanager
def visit(cluster: Launched, slot: int) -> Any:
    with contextlib.closing(Visitor(cluster, slot)) as visitor:
        yield visitor


# -- boot --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("app", "import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("app", "sys.exit('no configuration')", "SystemExit: no configuration"),
        ("app", "@app.on_start\nasync def fail(): raise OSError('no database')", "OSError: no database"),
        ("agent", "@agent.on_start\ndef fail(): raise OSError('no broker')", "OSError: no broker"),
        ("app", "app = 5", 'app: "app:app" is the value 5'),
    ],
)
def test_a_boot_that_fails_says_why_and_leaves_nothing(site: Site, module: str, code: str, said: str) -> None:
    cluster = site.append(module, code).launch("--workers", "1" if module == "agent" else "2")
    cluster.allows_traceback = True
    assert cluster.wait_exit() == (2 if "value 5" in said else 1)
    assert said in cluster.log
    assert cluster.log.count(said) <= 2, "one report, not one for each worker"


@pytest.mark.parametrize("hold", ["await asyncio.sleep(1000)", "time.sleep(5)"])
def test_a_start_that_takes_too_long_fails_and_says_where_it_was(site: Site, hold: str) -> None:
    site.append("app", f"@app.on_start\nasync def hold():\n    {hold}")
    cluster = site.launch("--workers", "1", "--app-start-timeout", "3", "--app-close-timeout", "300")
    assert cluster.wait_exit() == 1
    assert "start timeout: not ready after 3s; it was at" in cluster.log
    assert hold in cluster.log


# -- deaths ------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_each_time_later_and_takes_no_other_with_it(site: Site) -> None:
    ways = {
        "sys.exit(3)": "code: 3, signal: None",
        "sys.exit()": "code: 0, signal: None",
        "asyncio.get_running_loop().stop()": "code: 1, signal: None",
        "(_ for _ in ()).throw(KeyboardInterrupt)": "code: ",
    }
    cluster = site.launch("--workers", "2").wait_ready()
    cluster.allows_traceback = True
    survivor = cluster.workers()[1]
    with visit(cluster, 1) as unharmed:
        for number, (way, exit) in enumerate(ways.items(), 2):
            before = cluster.workers()[2]
            with visit(cluster, 2) as dying:
                dying.start(way)
                wait_until(lambda number=number: generation(cluster, 2, number), way)  # type: ignore[misc]
            assert f"app_worker#2:{before} died ({exit}" in cluster.log
            assert cluster.workers()[2] != before
            assert unharmed.tell("return app.worker_id") == survivor
    assert seat(cluster, 2)["deaths"] == len(ways)
    waits = [float(wait) for wait in re.findall(r"try to start a new app_worker#2 after (\S+)s", cluster.log)]
    assert len(waits) == len(ways) - 1, "the first is replaced at once"
    assert cluster.close() == 0


def test_the_agent_is_replaced_while_the_workers_go_on(site: Site) -> None:
    cluster = site.launch("--workers", "1").wait_ready()
    workers, before = cluster.workers(), cluster.agent()
    with visit(cluster, 1) as visitor:
        visitor.tell("await shared.set('kept', 1)")
        killed = "asyncio.get_running_loop().call_soon(sys.exit, 5)"
        visitor.tell(f"messenger.send_to_agent('run', [{killed!r}, None])")
        wait_until(lambda: generation(cluster, 0, 2), "there is a new agent")
        assert cluster.agent() != before
        assert visitor.tell("return await messenger.request('double', 2)") == 4
        assert visitor.tell("return await shared.increment('kept')") == 2, "it goes on from the workers' copies"
        assert visitor.tell("return await registry.tell('early', 'again')") == 1
    assert cluster.workers() == workers
    assert cluster.close() == 0


# -- hanging -----------------------------------------------------------------------------------------------------


def test_what_an_agent_that_hangs_had_not_begun_reaches_the_next_one_and_nothing_twice(site: Site) -> None:
    """A thread cannot be killed, and wakes later. What it has not read by then it never gets."""
    site.append("agent", "agent.messenger.on('once', lambda n: both.mark('once', n, agent.generation))")
    cluster = site.launch("--workers", "1", "--agent-timeout", "1").wait_ready()
    cluster.allows_traceback = True  # the stacks are what is wanted
    with visit(cluster, 1) as visitor:
        visitor.tell("messenger.send_to_agent('once', 0)")
        wait_until(lambda: site.marks("once") == ["0 1"], "the agent has begun the first")
        hanging = "both.mark('hangs', 0, 0); time.sleep(4)"
        visitor.tell(f"messenger.send_to_agent('run', [{hanging!r}, None])")
        wait_until(lambda: site.marks("hangs"), "the agent reads nothing more")
        visitor.tell("for n in range(1, 4): messenger.send_to_agent('once', n)")
        asking = "return await messenger.request('run', ['return agent.generation', None], to='agent', timeout=20)"
        assert visitor.tell(asking) == 2
        visitor.tell("for n in range(4, 6): messenger.send_to_agent('once', n)")
        wait_until(lambda: len(site.marks("once")) == 6, "each has begun")
        if site.shares_process:
            cluster.wait_log("which was abandoned, has ended")
    assert [line.split()[0] for line in site.marks("once")] == [*"012345"]
    assert 'died while it handled "run" from app#1: not repeated' in cluster.log
    assert cluster.close() == 0


def test_a_worker_that_hangs_is_found_shown_and_replaced(site: Site) -> None:
    cluster = site.launch("--workers", "2", "--worker-timeout", "1").wait_ready()
    cluster.allows_traceback = True  # the stacks are what is wanted
    before = cluster.workers()
    label = f"app_worker#2:{before[2]}"
    with visit(cluster, 2) as hanging:
        hanging.start("time.sleep(4)")
        wait_until(lambda: generation(cluster, 2, 2), "slot 2 has a new worker")
    with visit(cluster, 1) as unharmed:
        assert unharmed.tell("return app.worker_id") == before[1]
    assert f"{label} is hung: its event loop had not moved for 1s" in cluster.log
    assert "time.sleep(4)" in cluster.log or "line 1, in <lambda>" in cluster.log or "<string>" in cluster.log
    status = cluster.status()
    assert status is not None
    if site.shares_process:
        assert status["abandoned"] == [label]
        assert f"{label} died (abandoned: a thread that does not stop cannot be killed" in cluster.log
        cluster.wait_log(f"{label}, which was abandoned, has ended")
        assert cluster.status()["abandoned"] == []  # type: ignore[index]
    else:
        assert status["abandoned"] == []
        assert f"{label} died (code: None, signal: SIGABRT" in cluster.log
    assert cluster.close() == 0


def test_an_agent_that_hangs_is_replaced_and_what_is_shared_is_not_lost(site: Site) -> None:
    cluster = site.launch("--workers", "1", "--agent-timeout", "1").wait_ready()
    cluster.allows_traceback = True
    with visit(cluster, 1) as visitor:
        visitor.tell("await shared.set('kept', 1)")
        visitor.tell("messenger.send_to_agent('run', ['time.sleep(4)', None])")
        wait_until(lambda: generation(cluster, 0, 2), "there is a new agent")
        assert visitor.tell("return await shared.increment('kept')") == 2
        assert visitor.tell("return await messenger.request('double', 2)") == 4
    assert seat(cluster, 0)["generation"] == 2
    assert cluster.close() == 0


# -- reload and recycling ----------------------------------------------------------------------------------------


def test_a_reload_brings_the_new_code_and_loses_no_request(site: Site) -> None:
    site.write(helper="answer = 'old'\n").append("app", "import helper")
    cluster = site.launch("--workers", "2").wait_ready()
    with visit(cluster, 1) as before:
        assert before.tell("return helper.answer") == "old"
        site.write(helper="answer = 'quite new'\n")
        cluster.signal(signal.SIGHUP)
        answered = 0
        while not all(generation(cluster, slot, 2) for slot in (1, 2)):
            assert cluster.get().status_code == 200
            answered += 1
    wait_until(lambda: "reload done" in cluster.log or "reloaded" in cluster.log, "the reload is over")
    for slot in (1, 2):
        with visit(cluster, slot) as after:
            assert after.tell("return helper.answer, app.generation") == ["quite new", 2]
            assert after.tell("return await messenger.request('double', 4)") == 8
            assert after.tell("return await messenger.request('double', 4, to='app#1')") == 8
    assert answered
    assert cluster.close() == 0


def test_a_reload_of_broken_code_keeps_the_old_workers(site: Site) -> None:
    cluster = site.launch("--workers", "2").wait_ready()
    cluster.allows_traceback = True
    before = cluster.workers()
    good = (site.folder / "app.py").read_text()
    site.write(app="def broken(:\n")
    done = cluster.command("reload")
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr + done.stdout + cluster.log
    assert cluster.workers() == before
    with visit(cluster, 1) as visitor:
        assert visitor.tell("return await messenger.request('double', 4, to='app#2')") == 8
    site.write(app=good)
    assert cluster.command("reload").returncode == 0
    with visit(cluster, 2) as visitor:
        assert visitor.tell("return await messenger.request('double', 4, to='app#1')") == 8
    assert cluster.close() == 0


def test_a_worker_is_recycled_after_its_requests(site: Site) -> None:
    cluster = site.launch("--workers", "1", "--max-requests", "5").wait_ready()
    for _ in range(12):
        assert cluster.get().status_code == 200
    wait_until(lambda: generation(cluster, 1, 2), "it is recycled")
    assert cluster.close() == 0


# -- closing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_finished_and_everything_closes_in_order(site: Site, number: signal.Signals) -> None:
    cluster = site.launch("--workers", "2").wait_ready()
    bodies: list[str] = []
    asking = threading.Thread(target=lambda: bodies.append(cluster.get("/stream").text))
    with visit(cluster, 1) as visitor:
        asking.start()
        busy = "sum(worker['connections'] for worker in (await messenger.request('status', to='master'))['workers'])"
        wait_until(lambda: visitor.tell(f"return {busy}") >= 2, "it streams")
    cluster.signal(number)
    assert cluster.wait_exit() == 0
    asking.join()
    assert bodies == ["0,1,2,3,4,5,6,7,end"]
    closing = site.marks("closing")
    assert sorted(closing[:-1]) == sorted(
        [
            f"{what}#{slot}" + (" 1" if what != "farewell" else "")
            for slot in (1, 2)
            for what in ("app", "background", "farewell")
        ]
    )
    assert closing[-1] == "agent 1"


def test_a_websocket_is_told_whether_to_come_back(site: Site) -> None:
    cluster = site.launch("--workers", "1").wait_ready()
    url = cluster.address.replace("http", "ws", 1) + "/ws"
    with connect(url) as restarted:
        cluster.signal(signal.SIGHUP)
        assert close_code(restarted) == 1012
    with connect(url) as ended:
        cluster.signal(signal.SIGTERM)
        assert close_code(ended) == 1001
    assert cluster.wait_exit() == 0


def test_a_module_of_the_application_may_be_named_websockets(site: Site) -> None:
    (site.folder / "websockets.py").write_text("mark = 'own'\n")
    site.append("app", "import websockets\n\nassert websockets.mark == 'own'")
    cluster = site.launch("--workers", "1").wait_ready()
    with connect(cluster.address.replace("http", "ws", 1) + "/ws") as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=DEADLINE) == "hello from 1"
    assert cluster.close() == 0


def close_code(websocket: ClientConnection) -> int | None:
    """The code with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        websocket.recv(timeout=DEADLINE)
    return closed.value.rcvd.code if closed.value.rcvd is not None else None


def test_a_request_without_end_is_cut_at_the_close_timeout(site: Site) -> None:
    cluster = site.launch("--workers", "1", "--app-close-timeout", "600").wait_ready()
    cluster.allows_traceback = True
    with visit(cluster, 1) as visitor:
        visitor._client.post("/run", content="asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), 0)")
        with contextlib.suppress(Exception):
            visitor._client.post("/run", content="await asyncio.sleep(1000)", timeout=0.3)
    began = time.monotonic()
    assert cluster.close() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("hold", ["await asyncio.sleep(1000)", "time.sleep(1000)"])
def test_a_close_hook_that_hangs_is_named_and_not_waited_for(site: Site, hold: str) -> None:
    site.append("app", f"@app.on_close\nasync def hold():\n    {hold}")
    cluster = site.launch("--workers", "1", "--app-close-timeout", "1000").wait_ready()
    worker = cluster.workers()[1]
    began = time.monotonic()
    assert cluster.close() == 0
    assert time.monotonic() - began < 6, "an abandoned thread does not keep the process"
    assert "close timeout: not done after 1s; it was at" in cluster.log
    assert f"in hold\n      {hold}" in cluster.log
    assert f" {worker} [app_worker#1] close timeout" in cluster.log
    how = "it is abandoned: a thread cannot be killed" if site.shares_process else "it was killed"
    assert f"app_worker#1:{worker} did not close in order, {how}" in cluster.log


def test_a_close_hook_that_raises_is_exit_code_1(site: Site) -> None:
    site.append("app", "@app.on_close\ndef fail(): raise OSError('no goodbye')")
    cluster = site.launch("--workers", "1").wait_ready()
    cluster.allows_traceback = True
    assert cluster.close() == 1
    assert "OSError: no goodbye" in cluster.log


def test_a_second_signal_waits_for_nothing(site: Site) -> None:
    site.append("app", "@app.on_close\nasync def hold():\n    await asyncio.sleep(1000)")
    cluster = site.launch("--workers", "1", "--app-close-timeout", "60000").wait_ready()
    cluster.signal(signal.SIGTERM)
    cluster.wait_log("send kill SIGTERM to app_worker#1")
    cluster.signal(signal.SIGTERM)
    assert cluster.wait_exit(10) == 0
    assert "closing is cut short" in cluster.log


def test_a_master_that_is_killed_takes_everything_with_it(site: Site) -> None:
    cluster = site.launch("--workers", "2").wait_ready()
    ids = [*cluster.workers().values(), cluster.agent()]
    os.kill(cluster.pid, signal.SIGKILL)
    cluster.wait_exit()
    wait_until(lambda: not any(os.path.exists(f"/proc/{id}") for id in ids), "all are gone", 5)
