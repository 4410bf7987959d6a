"""An application that does what a test tells it, and the test's way to tell it: over HTTP, or over the messenger."""

import http.client
import json
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from eggcluster import Messenger
from tests.cluster.harness import Launched, Project
from tests.waiting import DEADLINE, wait_until

# What agent and app workers have in common. `run` executes a test's code here, in the event loop; `seen` is what
# the action "note" has brought; `mark` appends a line to a file that outlives the process.
REMOTE = """
import asyncio, datetime, json, os, re, signal, subprocess, sys, textwrap, time
from eggcluster import messenger
import eggcluster

me = None
seen = []

def mark(file, *words):
    line = " ".join(map(str, words)) + "\\n"
    with open(os.path.join(os.path.dirname(__file__), file), "a") as out:
        out.write(line)

async def run(data):
    source, given = data
    names = dict(globals())
    exec("async def work(given):\\n" + textwrap.indent(source, "    "), names)
    return await names["work"](given)

messenger.on("run", run)
messenger.on("note", seen.append)

async def api(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await answer(scope, receive, send)

async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    mark("closing", f"app#{me.slot}", "lifespan", time.monotonic())
    await send({"type": "lifespan.shutdown.complete"})

async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass

async def answer(scope, receive, send):
    source, more = b"", True
    while more:
        message = await receive()
        source += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/stream":
        return await stream(send)
    result = await run([source.decode() or "pass", None])
    text = json.dumps({"slot": me.slot, "pid": os.getpid(), "result": result}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})

async def stream(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(10):
        await send({"type": "http.response.body", "body": b"%d," % number, "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"end"})
"""

APP = """
import remote
from eggcluster import Application

remote.me = app = Application(remote.api)

@app.on_start
async def born():
    remote.mark("births", f"app#{app.slot}", app.generation, app.worker_id, remote.time.monotonic())

@app.on_close
async def closed():
    remote.mark("closing", f"app#{app.slot}", "on_close", remote.time.monotonic())
"""

AGENT = """
import remote
from eggcluster import Agent

remote.me = agent = Agent()

@agent.on_start
async def born():
    remote.mark("births", "agent", agent.generation, agent.worker_id, remote.time.monotonic())

@agent.on_close
async def closed():
    remote.mark("closing", "agent", "on_close", remote.time.monotonic())
"""


def obedient(project: Project, *, app: str = "", agent: str = "") -> Project:
    """A project that does what it is told; `app` and `agent` are appended to its modules."""
    return project.write(remote=REMOTE, app=APP + app, agent=AGENT + agent)


def marks(project: Project, file: str) -> list[list[str]]:
    """The lines that `mark` has written to `file`, as words."""
    path = project.folder / file
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


async def ask(messenger: Messenger, to: str | int, source: str, given: Any = None) -> Any:
    """Run `source`, the body of an async function of `given`, in the worker `to`; gives what it returns."""
    return await messenger.request("run", [source, given], to=to, timeout=DEADLINE)


class Connection:
    """One keep-alive connection to the worker in one slot. It never reconnects: a broken one raises."""

    def __init__(self, address: str, slot: int) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port
        self._http = wait_until(lambda: self._reach(slot), f"a connection to slot {slot}")
        self._http.auto_open = 0  # from now on it is this one or none

    def _reach(self, slot: int) -> http.client.HTTPConnection | None:
        """Connections are spread over the slots: try until one is in the right one."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=DEADLINE)
        if self._told(connection, "pass")["slot"] == slot:
            return connection
        connection.close()
        return None

    @staticmethod
    def _told(connection: http.client.HTTPConnection, source: str) -> dict[str, Any]:
        connection.request("POST", "/", source.encode())
        response = connection.getresponse()
        assert response.status == 200
        return dict(json.loads(response.read()))

    def tell(self, source: str = "pass") -> Any:
        """Run `source` in the worker; gives what it returns."""
        return self._told(self._http, source)["result"]

    def send(self, source: str = "", path: str = "/") -> None:
        """Send a request whose answer `read` takes, if it takes it at all."""
        self._http.request("POST", path, source.encode())

    def read(self) -> str:
        """The whole body of the answer to what `send` sent."""
        return self._http.getresponse().read().decode()

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def connect(cluster: Launched, slot: int) -> Connection:
    """A connection of its own to the worker in `slot`."""
    return Connection(cluster.address, slot)
