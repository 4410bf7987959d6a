"""An `Application` is an ASGI 3 or WSGI application for every other server, test client and adapter."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import a2wsgi
import asgiref.compatibility
import asgiref.wsgi
import fastapi
import fastapi.testclient
import httpx
import pytest
import starlette.applications
import starlette.routing
import starlette.testclient
import starlette.websockets
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from websockets.sync.client import unix_connect

import eggcluster
from eggcluster import Application, MessengerClosed
from tests.waiting import DEADLINE, wait_until

ASGI = """
import contextlib
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from eggcluster import Application, messenger

@contextlib.asynccontextmanager
async def lifespan(api):
    api.state.started = "yes"
    yield

async def hello(request):
    return PlainTextResponse(f"started: {request.app.state.started}")

async def send(request):
    messenger.send_to_agent("x")
    return PlainTextResponse("sent")

async def echo(socket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)

routes = [Route("/", hello), Route("/send", send), WebSocketRoute("/echo", echo)]
app = Application(Starlette(routes=routes, lifespan=lifespan))
"""
WSGI = """
from eggcluster import Application

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"started: " + environ["PATH_INFO"].encode()]

app = Application(hello)
"""
SERVERS = {
    "uvicorn": ("uvicorn", "app:app", "--lifespan", "on", "--uds"),
    "hypercorn": ("hypercorn", "app:app", "--bind"),
    "granian": ("granian", "app:app", "--interface", "asgi", "--uds"),
}
WSGI_SERVERS = {
    "granian": ("granian", "app:app", "--interface", "wsgi", "--uds"),
    "gunicorn": ("gunicorn", "app:app", "--bind"),
    "hypercorn": ("hypercorn", "app:app", "--bind"),
}
PREFIXED = {"hypercorn", "gunicorn"}  # the path of a Unix socket is written unix:PATH


class Served:
    """A server of another project, which serves `app.py` in its folder at a Unix socket."""

    def __init__(self, folder: Path, name: str, command: tuple[str, ...], source: str) -> None:
        (folder / "app.py").write_text(source)
        self.path = str(folder / "s")
        at = f"unix:{self.path}" if name in PREFIXED else self.path
        environ = {**os.environ, "PYTHONPATH": f"{folder}:{Path(eggcluster.__file__).parent.parent}"}
        self._log = (folder / "log").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, at], cwd=folder, env=environ, stdout=self._log, stderr=subprocess.STDOUT
        )

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def get(self, path: str = "/") -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(uds=self.path), timeout=DEADLINE) as client:
            return client.get(f"http://test{path}")

    def wait_listening(self) -> None:
        def listens() -> bool:
            assert self.process.poll() is None, self.log
            with socket.socket(socket.AF_UNIX) as sock:
                return sock.connect_ex(self.path) == 0

        wait_until(listens, "the server listens")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str, tuple[str, ...], str], Served]]:
    started: list[Served] = []

    def start(name: str, command: tuple[str, ...], source: str) -> Served:
        started.append(Served(tmp_path, name, command, source))
        started[-1].wait_listening()
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize("name", SERVERS)
def test_another_server_serves_an_asgi_application(name: str, serve: Any) -> None:
    server = serve(name, SERVERS[name], ASGI)
    assert server.get().text == "started: yes"
    with unix_connect(server.path, "ws://test/echo") as client:
        client.send("hello")
        assert client.recv(DEADLINE) == "hello"
    assert "Traceback" not in server.log
    assert server.get("/send").status_code == 500
    wait_until(lambda: "MessengerClosed: no cluster runs here" in server.log, "the log names what is missing")


@pytest.mark.parametrize("name", WSGI_SERVERS)
def test_another_server_serves_a_wsgi_application(name: str, serve: Any) -> None:
    server = serve(name, WSGI_SERVERS[name], WSGI)
    assert server.get("/x").text == "started: /x"
    assert "Traceback" not in server.log


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.query_params.get('name', '')}")


async def _send(request: Request) -> Response:
    eggcluster.messenger.send_to_agent("seen", {"by": "test"})
    await eggcluster.messenger.drain()
    return PlainTextResponse("sent")


async def _echo(socket: starlette.websockets.WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


def _starlette() -> starlette.applications.Starlette:
    routes = [
        starlette.routing.Route("/", _hello),
        starlette.routing.Route("/send", _send),
        starlette.routing.WebSocketRoute("/echo", _echo),
    ]
    return starlette.applications.Starlette(routes=routes)


def _fastapi() -> fastapi.FastAPI:
    api = fastapi.FastAPI()
    api.add_route("/", _hello)
    api.add_route("/send", _send)
    api.add_api_websocket_route("/echo", _echo)
    return api


@pytest.mark.parametrize("make", [_starlette, _fastapi])
@pytest.mark.parametrize("client", [starlette.testclient.TestClient, fastapi.testclient.TestClient])
def test_a_test_client_takes_it(make: Callable[[], Any], client: Any) -> None:
    with client(Application(make())) as http:
        assert http.get("/?name=egg").text == "hello egg"
        with http.websocket_connect("/echo") as socket:
            socket.send_text("hi")
            assert socket.receive_text() == "hi"
        with pytest.raises(MessengerClosed, match="no cluster runs here"):
            http.get("/send")


def test_httpx_takes_it_without_a_server() -> None:
    async def main() -> str:
        transport = httpx.ASGITransport(Application(_starlette()))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return (await http.get("/?name=egg")).text

    assert asyncio.run(main()) == "hello egg"


def _wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello ", environ["QUERY_STRING"].encode()]


def test_httpx_and_adapters_take_a_wsgi_application() -> None:
    app = Application(_wsgi)
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://test") as http:
        assert http.get("/?egg").text == "hello egg"
    adapters: list[Any] = [asgiref.wsgi.WsgiToAsgi, a2wsgi.WSGIMiddleware]
    for adapter in adapters:
        assert starlette.testclient.TestClient(adapter(app)).get("/?egg").text == "hello egg"


def test_adapters_take_an_asgi_application() -> None:
    app = Application(_starlette())
    compatibility: Any = asgiref.compatibility  # it has no types
    assert compatibility.guarantee_single_callable(app) is app
    adapted: Any = a2wsgi.ASGIMiddleware(app)
    with httpx.Client(transport=httpx.WSGITransport(adapted), base_url="http://test") as http:
        assert http.get("/?name=egg").text == "hello egg"


@pytest.fixture
def standalone() -> Iterator[None]:
    """What `standalone=True` sets holds for the whole process: undo it."""
    yield
    from eggcluster.worker.context.current import current_context

    current_context().messenger.standalone = False


@pytest.mark.usefixtures("standalone")
def test_where_the_application_asks_for_it_sending_outside_of_a_cluster_does_nothing() -> None:
    app = Application(_starlette(), standalone=True)
    with starlette.testclient.TestClient(app) as http:
        assert http.get("/send").text == "sent"
    app.messenger.broadcast("news")
    thread = threading.Thread(target=eggcluster.messenger.send_to_app, args=("news",))
    thread.start()
    thread.join(DEADLINE)
    with pytest.raises(eggcluster.NotSerializable):
        app.messenger.send_to_agent("news", object())
    with pytest.raises(MessengerClosed):
        asyncio.run(app.messenger.request("lookup", timeout=1))


def test_a_test_may_replace_a_method_of_the_messenger(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(eggcluster.messenger, "send_to_agent", lambda action, data=None: sent.append((action, data)))
        eggcluster.messenger.send_to_agent("seen", 1)
    assert sent == [("seen", 1)]
    with pytest.raises(MessengerClosed):
        eggcluster.messenger.send_to_agent("seen", 1)
