"""Endings that hang: each is bounded by the close timeout, and the log says where it hung."""

import os
import signal
import time

import pytest

from tests.cluster.harness import AGENT, Project
from tests.waiting import wait_until

APP = """
import asyncio, atexit, os, threading, time
from eggcluster import Application

async def api(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await end_lifespan()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})

async def end_lifespan():
    pass

app = Application(api)
"""

STUCK = {
    "lifespan": "async def end_lifespan(): await asyncio.sleep(99)",
    "on_close": "@app.on_close\nasync def stuck(): await asyncio.sleep(99)",
    "sync on_close": "@app.on_close\ndef stuck(): time.sleep(99)",
    "background": """
@app.background
async def stuck():
    while True:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            pass
""",
    "unowned task": """
async def stuck():
    while True:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            pass

@app.on_start
async def begin(): app.task = asyncio.create_task(stuck())
""",
    "atexit": "@atexit.register\ndef stuck(): time.sleep(99)",
    "thread": "def stuck(): time.sleep(99)\nthreading.Thread(target=stuck).start()",
    "executor": """
def stuck(): time.sleep(99)

@app.on_start
async def begin(): app.future = asyncio.get_running_loop().run_in_executor(None, stuck)
""",
    "blocked loop": """
def stuck():
    open("blocked", "w").close()
    time.sleep(99)

@app.on_ready
async def begin(): asyncio.get_running_loop().call_later(0.1, stuck)
""",
}


@pytest.mark.parametrize("case", STUCK)
def test_an_ending_that_hangs_is_cut_off_and_named(project: Project, case: str) -> None:
    project.write(app=APP + STUCK[case], agent=AGENT)
    launched = project.start("--workers", "1", "--app-close-timeout", "600").wait_ready()
    if case == "blocked loop":
        wait_until((project.folder / "blocked").exists, "its loop is blocked")
    began = time.monotonic()
    assert launched.close() == 0
    assert 0.5 < time.monotonic() - began < 4
    assert "close timeout: not done after 0.6s; it was at" in launched.log
    assert f'File "{project.folder}/app.py"' in launched.log
    assert ("in end_lifespan" if case == "lifespan" else "in stuck") in launched.log
    assert "app_worker#1:" in launched.log
    assert "did not close in order, it was killed" in launched.log


def test_an_agent_that_hangs_is_cut_off_and_named(project: Project) -> None:
    stuck = "import asyncio\n@agent.on_close\nasync def stuck(): await asyncio.sleep(99)\n"
    launched = project.write(app=APP, agent=AGENT + stuck).start("-w", "1", "--agent-close-timeout", "600")
    assert launched.wait_ready().close() == 0
    assert "[agent_worker] close timeout: not done after 0.6s; it was at" in launched.log
    assert "in stuck" in launched.log


def test_an_ending_in_order_says_nothing_of_it(project: Project) -> None:
    slow = "@app.on_close\nasync def slow(): await asyncio.sleep(0.3)"
    launched = project.write(app=APP + slow, agent=AGENT).start("-w", "1").wait_ready()
    assert launched.close() == 0
    assert "close timeout" not in launched.log
    assert "killed" not in launched.log


def test_a_worker_that_hangs_after_a_sigterm_from_outside_is_replaced(project: Project) -> None:
    project.write(app=APP + STUCK["on_close"], agent=AGENT)
    launched = project.start("-w", "1", "--app-close-timeout", "500").wait_ready()
    worker = launched.workers()[1]
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: launched.workers().get(1) not in (None, worker), "it is replaced")
    assert "signal: SIGKILL" in launched.log
    assert launched.get().status_code == 200
    launched.close()


def test_a_lifespan_shutdown_that_raises_is_logged_and_the_rest_is_closed(project: Project) -> None:
    raising = "async def end_lifespan(): raise ValueError('cannot end')\n@app.on_close\ndef last(): print('closed')"
    launched = project.write(app=APP + raising, agent=AGENT).start("-w", "1").wait_ready()
    launched.allows_traceback = True
    assert launched.close() == 1
    assert "lifespan shutdown raised" in launched.log
    assert "ValueError: cannot end" in launched.log
    assert "closed" in launched.log.splitlines()


def test_an_import_that_swallows_the_order_to_close_is_closed_all_the_same(project: Project) -> None:
    deaf = """
import time
open("importing", "w").close()
end = time.monotonic() + 1
while time.monotonic() < end:
    try:
        time.sleep(0.05)
    except BaseException:
        open("swallowed", "w").close()
"""
    launched = project.write(app=deaf + APP, agent=AGENT).start("-w", "1")
    wait_until((project.folder / "importing").exists, "the worker imports")
    assert launched.close() == 0
    assert (project.folder / "swallowed").exists()
    assert "killed" not in launched.log
    assert launched.log.count("exited (code: 0, signal: None)") == 2
