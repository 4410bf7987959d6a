"""Workers without msgspec, uvloop and httptools, beside a master that has them: as subinterpreters will be."""

import os
import signal
from datetime import UTC, datetime

from websockets.sync.client import connect

from tests.cluster.harness import Launched, Project
from tests.interpreters import shadows
from tests.waiting import DEADLINE, wait_until

APP = """
import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from eggcluster import Application, messenger

@dataclass
class Note:
    text: str
    when: datetime

async def identity():
    loaded = [name for name in ("msgspec", "uvloop", "httptools") if name in sys.modules]
    return {"loop": type(asyncio.get_running_loop()).__module__, "loaded": loaded}

async def ask():
    note = Note("né", datetime(2026, 11, 22, tzinfo=UTC))
    answer = await messenger.request("echo", {"note": note, "set": {1}, "bytes": b"x", "big": 2**64 - 1}, to="agent")
    return repr(answer)

async def share():
    await app.shared.set("list", [1, (2, 3)])
    return [await app.shared.increment("count", 2, ttl=60), app.shared["list"]]

async def run_task():
    return (await app.run_schedule("tick")).outcome

async def api(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return await send({"type": "websocket.send", "text": (await receive())["text"]})
    work = {"/identity": identity, "/ask": ask, "/share": share, "/task": run_task}[scope["path"]]
    body = json.dumps(await work()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

app = Application(api)
app.shared

@app.schedule("1h", name="tick")
def tick(): ...
"""
AGENT = """
from eggcluster import Agent

agent = Agent()

@agent.messenger.on("echo")
def echo(data):
    return data
"""


def serve(project: Project) -> Launched:
    project.write(app=APP, agent=AGENT)
    return project.start("--workers", "2", PYTHONPATH=shadows(project.folder / "shadows")).wait_ready()


def test_the_whole_cluster_works(project: Project) -> None:
    cluster = serve(project)
    assert cluster.get("/identity").json() == {"loop": "asyncio.unix_events", "loaded": []}
    echoed = {"note": {"text": "né", "when": datetime(2026, 11, 22, tzinfo=UTC)}, "set": [1], "bytes": b"x"}
    assert cluster.get("/ask").json() == repr({**echoed, "big": 2**64 - 1})
    assert [cluster.get("/share").json() for _ in range(2)] == [[2, [1, [2, 3]]], [4, [1, [2, 3]]]]
    assert cluster.get("/task").json() == "ok"
    assert cluster.command("reload").returncode == 0
    assert cluster.get("/share").json() == [6, [1, [2, 3]]]
    assert cluster.close() == 0


def test_what_is_shared_outlives_the_agent(project: Project) -> None:
    cluster = serve(project)
    cluster.get("/share")
    before = cluster.agent()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: cluster.agent() not in (None, before), "the agent is replaced")
    assert cluster.get("/share").json() == [4, [1, [2, 3]]]


def test_a_websocket_is_served(project: Project) -> None:
    with connect(f"ws{serve(project).address.removeprefix('http')}/") as socket:
        socket.send("né")
        assert socket.recv(timeout=DEADLINE) == "né"
