"""Applications that know nothing of eggcluster run unchanged, in every way in which their frameworks' documents write
them; and what an application may do inside of a worker: processes, threads, logging, imports."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.cluster.harness import Launched, Project
from tests.waiting import DEADLINE, wait_until

T = TypeVar("T")


def serve(project: Project, source: str, *arguments: str) -> Launched:
    """One worker that serves app.py."""
    return project.write(app=source).start("--workers", "1", *arguments).wait_ready()


def ask_all(cluster: Launched, ask: Callable[[], T]) -> set[T]:
    """Ask until as many different answers have come as there are workers."""
    answers: set[T] = set()

    def all_have_answered() -> bool:
        answers.add(ask())
        return len(answers) >= len(cluster.workers())

    wait_until(all_have_answered, f"different answers from all workers, not only {answers}")
    return answers


def websocket(cluster: Launched, path: str) -> ClientConnection:
    return connect(cluster.address.replace("http", "ws", 1) + path, open_timeout=DEADLINE, max_size=None)


def read_two_chunks(cluster: Launched, path: str, release: str) -> None:
    """The first chunk of `path` arrives before the second is made: only `release` makes it."""
    with httpx.stream("GET", cluster.address + path, timeout=DEADLINE) as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"first\n"
        assert cluster.get(release).status_code == 200
        assert b"".join(chunks) == b"second\n"


# -- FastAPI -----------------------------------------------------------------------------------------------

FIRST_STEPS = """
from enum import Enum
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI(title="Shop")

class Size(str, Enum):
    small = "small"
    large = "large"

class Item(BaseModel):
    name: str
    price: float
    tax: float | None = None

@app.get("/")
async def root():
    return {"message": "Hello World"}

@app.get("/items/{item_id}")
def read_item(item_id: int, q: str | None = None):
    return {"item_id": item_id, "q": q}

@app.get("/sizes/{size}")
async def read_size(size: Size):
    return {"size": size}

@app.post("/items/", status_code=201)
async def create_item(item: Item):
    return {**item.model_dump(), "total": item.price + (item.tax or 0)}
"""


def test_fastapi_first_steps_with_validation_and_its_own_documents(project: Project) -> None:
    cluster = serve(project, FIRST_STEPS)
    assert cluster.get().json() == {"message": "Hello World"}
    assert cluster.get("/items/5?q=red").json() == {"item_id": 5, "q": "red"}
    assert cluster.get("/items/five").status_code == 422
    assert cluster.get("/sizes/large").json() == {"size": "large"}
    created = httpx.post(f"{cluster.address}/items/", json={"name": "egg", "price": 1.5, "tax": 0.5})
    assert (created.status_code, created.json()["total"]) == (201, 2.0)
    assert "swagger" in cluster.get("/docs").text
    assert cluster.get("/openapi.json").json()["info"]["title"] == "Shop"


DEPENDENCIES = """
from typing import Annotated
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException

app = FastAPI()
told = []

class Session:
    closed = False

def get_session():
    session = Session()
    told.append("opened")
    try:
        yield session
    except HTTPException as error:
        told.append(f"failed {error.status_code}")
        raise
    finally:
        session.closed = True
        told.append("closed")

async def check_token(x_token: Annotated[str, Header()]):
    if x_token != "egg":
        raise HTTPException(status_code=400, detail="X-Token header invalid")

def write_notification(address: str, text: str):
    told.append(f"notified {address}: {text}")

@app.get("/open")
def use(session: Annotated[Session, Depends(get_session)]):
    told.append("used")
    return {"closed": session.closed}

@app.get("/fail")
def fail(session: Annotated[Session, Depends(get_session)]):
    raise HTTPException(status_code=404, detail="no such egg")

@app.get("/token", dependencies=[Depends(check_token)])
async def token():
    return "welcome"

@app.post("/notify/{address}")
async def notify(address: str, tasks: BackgroundTasks):
    tasks.add_task(write_notification, address, text="some notification")
    told.append("answered")
    return {"message": "Notification sent in the background"}

@app.get("/told")
async def tell():
    taken = told.copy()
    told.clear()
    return taken
"""


def test_fastapi_dependencies_with_yield_and_background_tasks(project: Project) -> None:
    cluster = serve(project, DEPENDENCIES)

    def told(last: str) -> list[str]:
        seen: list[str] = []

        def heard_the_last() -> bool:
            seen.extend(cluster.get("/told").json())
            return last in seen

        wait_until(heard_the_last, last)
        return seen

    assert cluster.get("/open").json() == {"closed": False}
    assert told("closed") == ["opened", "used", "closed"]
    assert cluster.get("/fail").json() == {"detail": "no such egg"}
    assert told("closed") == ["opened", "failed 404", "closed"]
    assert cluster.get("/token", headers={"X-Token": "egg"}).json() == "welcome"
    assert cluster.get("/token", headers={"X-Token": "hen"}).status_code == 400
    assert httpx.post(f"{cluster.address}/notify/a@b.example").status_code == 200
    notified = "notified a@b.example: some notification"
    assert told(notified) == ["answered", notified]


CHAT = """
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

app = FastAPI()

PAGE = '''<!DOCTYPE html><html><head><title>Chat</title></head><body><ul id="messages"></ul>
<script>const ws = new WebSocket(`ws://${location.host}/ws/1`)</script></body></html>'''

class ConnectionManager:
    def __init__(self):
        self.active: list[WebSocket] = []

    async def connect(self, websocket: WebSocket):
        await websocket.accept()
        self.active.append(websocket)

    def disconnect(self, websocket: WebSocket):
        self.active.remove(websocket)

    async def broadcast(self, message: str):
        for connection in self.active:
            await connection.send_text(message)

manager = ConnectionManager()

@app.get("/")
async def get():
    return HTMLResponse(PAGE)

@app.websocket("/ws/{client_id}")
async def chat(websocket: WebSocket, client_id: int):
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await websocket.send_text(f"You wrote: {data}")
            await manager.broadcast(f"Client #{client_id} says: {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"Client #{client_id} left the chat")
"""


def test_fastapi_chat_page_and_its_websockets(project: Project) -> None:
    cluster = serve(project, CHAT)
    page = cluster.get()
    assert page.headers["content-type"].startswith("text/html")
    assert "new WebSocket" in page.text
    with websocket(cluster, "/ws/1") as first:
        with websocket(cluster, "/ws/2") as second:
            second.send("hello")
            assert [second.recv(DEADLINE), second.recv(DEADLINE)] == ["You wrote: hello", "Client #2 says: hello"]
            assert first.recv(DEADLINE) == "Client #2 says: hello"
        assert first.recv(DEADLINE) == "Client #2 left the chat"


LIFESPAN = """
from contextlib import asynccontextmanager
from pathlib import Path
from fastapi import FastAPI, Request

def fake_answer_to_everything(x: float):
    return x * 42

ml_models = {}

@asynccontextmanager
async def lifespan(app: FastAPI):
    ml_models["answer"] = fake_answer_to_everything
    yield {"loaded": list(ml_models)}
    ml_models.clear()
    Path("closed").write_text("models cleared")

app = FastAPI(lifespan=lifespan)

@app.get("/predict")
async def predict(x: float, request: Request):
    return {"result": ml_models["answer"](x), "loaded": request.state.loaded}
"""


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in an Application"])
def test_fastapi_lifespan_loads_models_before_requests_and_clears_them_at_close(
    project: Project, wrapped: bool
) -> None:
    wrapping = "\nfrom eggcluster import Application\napp = Application(app)\n" if wrapped else ""
    cluster = serve(project, LIFESPAN + wrapping)
    assert cluster.get("/predict?x=2").json() == {"result": 84, "loaded": ["answer"]}
    assert not (project.folder / "closed").exists()
    assert cluster.close() == 0
    assert (project.folder / "closed").read_text() == "models cleared"


STREAMS_AND_FILES = """
import asyncio
import hashlib
import time
from typing import Annotated
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import StreamingResponse

app = FastAPI()
app.add_middleware(GZipMiddleware, minimum_size=1000)
app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])
released = asyncio.Event()

@app.middleware("http")
async def add_process_time_header(request: Request, call_next):
    start_time = time.perf_counter()
    response = await call_next(request)
    response.headers["X-Process-Time"] = str(time.perf_counter() - start_time)
    return response

async def fake_video_streamer():
    yield b"first\\n"
    await released.wait()
    yield b"second\\n"

@app.get("/video")
async def video():
    return StreamingResponse(fake_video_streamer(), headers={"content-encoding": "identity"})

@app.get("/release")
async def release():
    released.set()

@app.get("/long")
async def long():
    return "egg " * 1000

@app.post("/uploadfile")
async def create_upload_file(file: UploadFile, note: Annotated[str, Form()]):
    digest, size = hashlib.sha256(), 0
    while chunk := await file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return {"filename": file.filename, "note": note, "size": size, "sha256": digest.hexdigest()}

@app.put("/raw")
async def raw(request: Request):
    digest = hashlib.sha256()
    async for chunk in request.stream():
        digest.update(chunk)
    return digest.hexdigest()
"""

MEGABYTE = 1 << 20


def test_fastapi_streams_middleware_and_an_upload_of_100_megabytes(project: Project) -> None:
    cluster = serve(project, STREAMS_AND_FILES)
    read_two_chunks(cluster, "/video", "/release")
    headers = cluster.get("/long", headers={"Origin": "https://shop.example"}).headers
    assert float(headers["x-process-time"]) > 0
    assert headers["content-encoding"] == "gzip"
    assert headers["access-control-allow-origin"] == "https://shop.example"

    block = os.urandom(MEGABYTE)
    big = project.folder / "big.bin"
    with big.open("wb") as file:
        file.writelines([block] * 100)
    digest = hashlib.sha256(block * 100).hexdigest()
    with big.open("rb") as file:
        form: dict[str, Any] = {"files": {"file": ("big.bin", file)}, "data": {"note": "large"}}
        uploaded = httpx.post(f"{cluster.address}/uploadfile", timeout=60, **form).json()
    assert uploaded == {"filename": "big.bin", "note": "large", "size": 100 * MEGABYTE, "sha256": digest}
    chunked = (block for _ in range(20))  # no content-length
    answer = httpx.put(f"{cluster.address}/raw", content=chunked, timeout=60)
    assert answer.json() == hashlib.sha256(block * 20).hexdigest()


# -- Starlette ---------------------------------------------------------------------------------------------

STARLETTE = """
import asyncio
import contextlib
from typing import TypedDict
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

released = asyncio.Event()

class Client:
    calls = 0

class State(TypedDict):
    client: Client

@contextlib.asynccontextmanager
async def lifespan(app):
    yield State(client=Client())

def homepage(request):
    return PlainTextResponse(str(request.url_for("user", username="egg")))

async def count(request):
    request.state.client.calls += 1
    return JSONResponse(request.state.client.calls)

def user(request):
    return PlainTextResponse("Hello, %s!" % request.path_params["username"])

class Thing(HTTPEndpoint):
    async def get(self, request):
        return PlainTextResponse("a thing")

async def numbers():
    yield "first\\n"
    await released.wait()
    yield "second\\n"

async def stream(request):
    return StreamingResponse(numbers(), media_type="text/plain")

async def release(request):
    released.set()
    return PlainTextResponse("")

async def broken(request):
    raise RuntimeError("a bug of the application")

async def not_found(request, error):
    return PlainTextResponse("nothing here", status_code=404)

class Echo(WebSocketEndpoint):
    async def on_connect(self, websocket):
        await websocket.accept(subprotocol="egg", headers=[(b"x-slot", b"here")])

    async def on_receive(self, websocket, data):
        if isinstance(data, bytes):
            await websocket.send_bytes(data)
        else:
            await websocket.send_text(data)

app = Starlette(
    routes=[
        Route("/", homepage),
        Route("/count", count),
        Route("/stream", stream),
        Route("/release", release),
        Route("/broken", broken),
        Route("/thing", Thing),
        Mount("/users", routes=[Route("/{username}", user, name="user")]),
        WebSocketRoute("/echo", Echo),
    ],
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])],
    exception_handlers={404: not_found},
    lifespan=lifespan,
)
"""


def test_starlette_routes_its_lifespan_state_and_its_errors(project: Project) -> None:
    cluster = serve(project, STARLETTE)
    assert cluster.get().text == f"{cluster.address}/users/egg"
    assert cluster.get("/users/hen").text == "Hello, hen!"
    assert [cluster.get("/count").json() for _ in range(3)] == [1, 2, 3]
    assert (cluster.get("/nowhere").status_code, cluster.get("/nowhere").text) == (404, "nothing here")
    assert (cluster.get("/thing").text, httpx.post(f"{cluster.address}/thing").status_code) == ("a thing", 405)
    assert cluster.get(headers={"Host": "evil.example"}).status_code == 400
    read_two_chunks(cluster, "/stream", "/release")

    cluster.allows_traceback = True
    assert cluster.get("/broken").status_code == 500
    assert "RuntimeError: a bug of the application" in cluster.wait_log("a bug of the application")
    assert cluster.get("/thing").status_code == 200


def test_a_websocket_echoes_text_and_binary_of_a_megabyte(project: Project) -> None:
    cluster = serve(project, STARLETTE)
    address = cluster.address.replace("http", "ws", 1)
    with connect(f"{address}/echo", subprotocols=["egg"], max_size=None) as echo:  # type: ignore[list-item]
        assert echo.subprotocol == "egg"
        assert echo.response is not None
        assert echo.response.headers["x-slot"] == "here"
        for message in ("short", "ü" * (MEGABYTE // 2), b"\0short", os.urandom(MEGABYTE)):
            echo.send(message)
            assert echo.recv(DEADLINE) == message


# -- Django ------------------------------------------------------------------------------------------------

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def started_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `django-admin startproject` makes, with its database and one administrator."""
    folder = tmp_path_factory.mktemp("django")
    environ = {**os.environ, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    for command in (
        ["-m", "django", "startproject", "mysite", str(folder)],
        ["manage.py", "migrate", "--verbosity", "0"],
        ["manage.py", "createsuperuser", "--no-input", "--username", "admin", "--email", "admin@shop.example"],
    ):
        subprocess.run([sys.executable, *command], cwd=folder, env=environ, check=True, timeout=60)
    return folder


@pytest.mark.parametrize("target", ["mysite.asgi:application", "mysite.wsgi:application", "app:app"])
def test_a_new_django_project_with_its_admin_pages(project: Project, started_project: Path, target: str) -> None:
    shutil.copytree(started_project, project.folder, dirs_exist_ok=True)
    project.write(
        app="from eggcluster import Application\nfrom mysite.wsgi import application\napp = Application(application)\n"
    )
    cluster = project.start(target, "--workers", "2").wait_ready()
    assert "The install worked successfully" in cluster.get().text
    assert cluster.get("/static/nothing.css").status_code == 404
    assert cluster.get("/admin/").headers["location"] == "/admin/login/?next=/admin/"

    with httpx.Client(base_url=cluster.address, follow_redirects=True, timeout=DEADLINE) as browser:
        login = browser.get("/admin/")
        assert "Log in | Django site admin" in login.text
        form = {
            "username": "admin",
            "password": PASSWORD,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
            "next": "/admin/",
        }
        assert "Site administration | Django site admin" in browser.post("/admin/login/", data=form).text
        assert "admin@shop.example" in browser.get("/admin/auth/user/").text
        del browser.cookies["csrftoken"]
        assert browser.post("/admin/login/", data=form).status_code == 403


def test_django_may_use_its_database_while_it_is_set_up(project: Project, started_project: Path) -> None:
    """Its guard refuses that wherever an event loop runs, and it does not run under other WSGI servers."""
    shutil.copytree(started_project, project.folder, dirs_exist_ok=True)
    (project.folder / "shop").mkdir()
    (project.folder / "shop" / "__init__.py").touch()
    (project.folder / "shop" / "apps.py").write_text(
        "from django.apps import AppConfig\n"
        "class ShopConfig(AppConfig):\n"
        "    name = 'shop'\n"
        "    def ready(self):\n"
        "        from django.contrib.auth.models import User\n"
        "        self.administrators = User.objects.count()\n"
    )
    with (project.folder / "mysite" / "settings.py").open("a") as settings:
        settings.write("\nINSTALLED_APPS += ['shop']\n")
    cluster = project.start("mysite.wsgi:application", "--workers", "1").wait_ready()
    assert cluster.get().status_code == 200


# -- Flask -------------------------------------------------------------------------------------------------

FLASK = """
import hashlib
import threading
import time
from flask import Flask, abort, jsonify, request, session, url_for
from eggcluster import messenger

app = Flask(__name__)
app.secret_key = "a key of this test"
released = threading.Event()

@app.route("/visit/<name>", methods=["GET", "POST"])
def visit(name):
    messenger.send_to_agent("visit", {"name": name, "method": request.method})
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"], address=url_for("visit", name=name, _external=True))

@app.get("/stream")
def stream():
    def lines():
        yield "first\\n"
        assert released.wait(20)
        yield "second\\n"
    return lines(), {"Content-Type": "text/plain"}

@app.get("/release")
def release():
    released.set()
    return ""

@app.post("/upload")
def upload():
    file = request.files["file"]
    return {"name": file.filename, "sha256": hashlib.sha256(file.stream.read()).hexdigest()}

@app.put("/raw")
def raw():
    return hashlib.sha256(request.get_data()).hexdigest()

ended = threading.Event()

@app.get("/endless")
def endless():
    def ticks():
        try:
            while True:
                yield "tick\\n"
                time.sleep(0.01)
        finally:
            ended.set()
    return ticks()

@app.get("/ended")
def is_ended():
    return jsonify(ended.wait(10))

@app.put("/interrupted")
def interrupted():
    try:
        request.environ["wsgi.input"].read()
    except OSError:
        print("interrupted", file=request.environ["wsgi.errors"], flush=True)
        raise
    return ""

@app.get("/broken")
def broken():
    raise RuntimeError("a bug of the application")

@app.get("/teapot")
def teapot():
    abort(418)
"""

FLASK_AGENT = """
import json
from pathlib import Path
from eggcluster import Agent

agent = Agent()
visits = []

@agent.messenger.on("visit")
def visit(data):
    visits.append(data)
    Path("visits.new").write_text(json.dumps(visits))
    Path("visits.new").rename("visits.json")
"""


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in an Application"])
def test_flask_views_send_to_the_agent(project: Project, wrapped: bool) -> None:
    wrapping = "\nfrom eggcluster import Application\napp = Application(app)\n" if wrapped else ""
    cluster = serve(project.write(agent=FLASK_AGENT), FLASK + wrapping)
    with httpx.Client(base_url=cluster.address, timeout=DEADLINE) as browser:
        assert browser.get("/visit/a").json() == {"visits": 1, "address": f"{cluster.address}/visit/a"}
        assert browser.post("/visit/b", json={}).json()["visits"] == 2  # its session cookie works
    visits = project.folder / "visits.json"
    expected = '[{"name": "a", "method": "GET"}, {"name": "b", "method": "POST"}]'
    wait_until(lambda: visits.exists() and visits.read_text() == expected, "the agent has received both")


def test_flask_streams_uploads_and_errors(project: Project) -> None:
    cluster = serve(project, FLASK)
    read_two_chunks(cluster, "/stream", "/release")
    data = os.urandom(10 * MEGABYTE)
    uploaded = httpx.post(f"{cluster.address}/upload", files={"file": ("a.bin", data)}, timeout=60).json()
    assert uploaded == {"name": "a.bin", "sha256": hashlib.sha256(data).hexdigest()}
    chunked = (data[start : start + MEGABYTE] for start in range(0, len(data), MEGABYTE))  # no content-length
    assert httpx.put(f"{cluster.address}/raw", content=chunked).text == hashlib.sha256(data).hexdigest()
    assert cluster.get("/teapot").status_code == 418
    assert httpx.head(f"{cluster.address}/teapot").content == b""
    cluster.allows_traceback = True
    assert cluster.get("/broken").status_code == 500
    assert "RuntimeError: a bug of the application" in cluster.wait_log("a bug of the application")


def test_a_client_that_leaves_ends_its_flask_stream_and_its_upload(project: Project) -> None:
    cluster = serve(project, FLASK)
    with httpx.stream("GET", f"{cluster.address}/endless", timeout=DEADLINE) as response:
        assert next(response.iter_raw())
    assert cluster.get("/ended").json() is True

    cluster.allows_traceback = True
    host, _, port = cluster.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"PUT /interrupted HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    cluster.wait_log("interrupted\n")


# -- whatever can be called --------------------------------------------------------------------------------

CALLABLES = {
    "an ASGI function": """
async def app(scope, receive, send):
    await answer(scope, receive, send)
""",
    "an instance of an ASGI class": """
class Api:
    async def __call__(self, scope, receive, send):
        await answer(scope, receive, send)

app = Api()
""",
    "an ASGI class whose instances are awaited": """
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse

class app(HTTPEndpoint):
    async def get(self, request):
        return PlainTextResponse("served")
""",
    "a bound method": """
class Api:
    async def serve(self, scope, receive, send):
        await answer(scope, receive, send)

app = Api().serve
""",
    "a partial of an ASGI function": """
import functools

async def serve(name, scope, receive, send):
    assert name == "egg"
    await answer(scope, receive, send)

app = functools.partial(serve, "egg")
""",
    "a partial of an ASGI instance": """
import functools

class Api:
    async def __call__(self, scope, receive, send, *, name):
        assert name == "egg"
        await answer(scope, receive, send)

app = functools.partial(Api(), name="egg")
""",
    "an application behind middleware": """
from starlette.middleware.gzip import GZipMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

app = ProxyHeadersMiddleware(GZipMiddleware(answer), trusted_hosts="*")
""",
    "a decorated ASGI function": """
import functools

def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

app = logged(answer)
""",
    "a WSGI function": """
def app(environ, start_response):
    return wsgi_answer(environ, start_response)
""",
    "an instance of a WSGI class": """
class Site:
    def __call__(self, environ, start_response):
        return wsgi_answer(environ, start_response)

app = Site()
""",
    "a WSGI class whose instances are iterated": """
class app:
    def __init__(self, environ, start_response):
        self.body = wsgi_answer(environ, start_response)

    def __iter__(self):
        return iter(self.body)
""",
    "a partial of a WSGI function": """
import functools

def serve(environ, start_response, name):
    assert name == "egg"
    return wsgi_answer(environ, start_response)

app = functools.partial(serve, name="egg")
""",
    "an Application around WSGI middleware": """
from eggcluster import Application
from werkzeug.middleware.proxy_fix import ProxyFix

app = Application(ProxyFix(wsgi_answer))
""",
    "an Application around an ASGI function": """
from eggcluster import Application

app = Application(answer)
""",
}

ANSWER = """
async def answer(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"served"})

def wsgi_answer(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ser", b"ved"]
"""


@pytest.mark.parametrize("source", CALLABLES.values(), ids=CALLABLES)
def test_whatever_speaks_asgi_or_wsgi_is_served(project: Project, source: str) -> None:
    assert serve(project, ANSWER + source).get().text == "served"


def test_a_factory_builds_the_application_in_each_worker(project: Project) -> None:
    project.write(
        app="import os\n"
        "from fastapi import FastAPI\n"
        "def create_app(settings=None):\n"
        "    api = FastAPI()\n"
        "    pid = os.getpid()\n"
        "    @api.get('/')\n"
        "    def built():\n"
        "        return pid\n"
        "    return api\n"
    )
    cluster = project.start("app:create_app", "--factory", "--workers", "2").wait_ready()
    assert ask_all(cluster, lambda: cluster.get().json()) == set(cluster.workers().values())


# -- what a worker may do ----------------------------------------------------------------------------------

PROCESSES = """
import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from fastapi import FastAPI

app = FastAPI()
spawn = multiprocessing.get_context("spawn")

def square(number):
    return number * number, os.getpid()

def put(queue):
    queue.put(os.getpid())

executors = {
    "spawn": ProcessPoolExecutor(1, mp_context=spawn),  # never shut down
    "fork": ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")),
}

@app.get("/executor/{method}")
async def executor(method: str):
    result, pid = await asyncio.get_running_loop().run_in_executor(executors[method], square, 7)
    return {"result": result, "elsewhere": pid != os.getpid()}

@app.get("/process")
def process():
    queue = spawn.Queue()
    child = spawn.Process(target=put, args=(queue,))
    child.start()
    pid = queue.get(timeout=20)
    child.join()
    return {"told": pid == child.pid, "code": child.exitcode}

@app.get("/pool")
def pool():
    with spawn.Pool(2) as pool:
        return sorted(result for result, _ in pool.map(square, range(4)))

@app.get("/run")
def run():
    command = [sys.executable, "-c", "import sys; print('out'); sys.exit(3)"]
    done = subprocess.run(command, capture_output=True, text=True)
    return {"code": done.returncode, "out": done.stdout}

@app.get("/asyncio")
async def run_async():
    child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = await child.communicate(b"through a pipe")
    return {"code": child.returncode, "out": out.decode()}

@app.get("/forked")
def forked():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    time.sleep(0.1)
    child.terminate()
    child.join(5)
    return {"code": child.exitcode, "worker": os.getpid()}
"""


def test_an_endpoint_uses_processes_of_every_kind(project: Project) -> None:
    cluster = serve(project, PROCESSES)
    for method in ("spawn", "fork"):
        assert cluster.get(f"/executor/{method}").json() == {"result": 49, "elsewhere": True}
    assert cluster.get("/process").json() == {"told": True, "code": 0}
    assert cluster.get("/pool").json() == [0, 1, 4, 9]
    assert cluster.get("/run").json() == {"code": 3, "out": "out\n"}
    assert cluster.get("/asyncio").json() == {"code": 0, "out": "through a pipe"}
    assert cluster.close() == 0
    assert "SIGKILL" not in cluster.log


def test_a_forked_child_that_is_terminated_does_not_take_its_worker_along(project: Project) -> None:
    cluster = serve(project, PROCESSES)
    worker = cluster.workers()[1]
    assert cluster.get("/forked").json() == {"code": -15, "worker": worker}
    assert cluster.get("/forked").json() == {"code": -15, "worker": worker}
    assert "died" not in cluster.log


INSIDE = """
import asyncio
import contextvars
import sys
import threading
from eggcluster import Application, messenger
from fastapi import FastAPI, Request

api = FastAPI()
app = Application(api)
who = contextvars.ContextVar("who", default="nobody")
heard = []

@messenger.on("greet")
def hear(data):
    heard.append(["plain", data, threading.current_thread() is threading.main_thread()])

@app.messenger.on("greet")
async def hear_too(data):
    await asyncio.sleep(0)
    heard.append(["async", data, True])

@messenger.on("add")
def add(numbers):
    return sum(numbers)

@api.middleware("http")
async def remember_name(request: Request, call_next):
    before = who.get()
    if name := request.headers.get("x-name"):
        who.set(name)
    response = await call_next(request)
    response.headers["x-before"] = before
    return response

@api.get("/identity")
async def identity():
    loop = type(asyncio.get_running_loop())
    return {"slot": app.slot, "worker_id": app.worker_id, "generation": app.generation, "loop": loop.__module__}

@api.get("/who")
def get_who():
    return who.get()

@api.post("/greet")
def greet():
    messenger.send_to_app("greet", {"from": app.slot})

@api.get("/heard")
async def get_heard():
    return heard

@api.get("/add")
async def ask():
    return await messenger.request("add", [1, 2, 3], to=f"app#{app.slot}")
"""


def test_a_worker_knows_its_identity_and_runs_uvloop(project: Project) -> None:
    cluster = serve(project, INSIDE)
    first = cluster.workers()[1]
    assert cluster.get("/identity").json() == {"slot": 1, "worker_id": first, "generation": 1, "loop": "uvloop"}
    os.kill(first, 9)
    wait_until(lambda: cluster.workers().get(1, first) != first, "it is replaced")
    second = cluster.workers()[1]
    assert cluster.get("/identity").json() == {"slot": 1, "worker_id": second, "generation": 2, "loop": "uvloop"}


def test_handlers_on_the_module_s_messenger_and_context_variables(project: Project) -> None:
    cluster = serve(project, INSIDE)
    assert httpx.post(f"{cluster.address}/greet").status_code == 200
    both = [["plain", {"from": 1}, True], ["async", {"from": 1}, True]]
    wait_until(lambda: cluster.get("/heard").json() == both, "both handlers were called")
    assert cluster.get("/add").json() == 6

    with httpx.Client(base_url=cluster.address) as client:  # one connection
        for _ in range(2):
            answer = client.get("/who", headers={"X-Name": "egg"})
            assert (answer.json(), answer.headers["x-before"]) == ("egg", "nobody")


LOOP_OF_ITS_OWN = """
import asyncio
from fastapi import FastAPI

async def prepare():
    await asyncio.sleep(0)
    return "prepared"

prepared = asyncio.run(prepare())
app = FastAPI()

@app.get("/")
async def get():
    return prepared
"""

LOOP_OF_THE_WORKER = """
import asyncio
import contextvars
from fastapi import FastAPI

loop = asyncio.get_event_loop()
release = contextvars.ContextVar("release")
release.set("r1")
app = FastAPI()

@app.get("/")
async def get():
    return {"release": release.get(), "same_loop": loop is asyncio.get_running_loop()}
"""


def test_a_module_may_run_a_coroutine_while_it_is_imported(project: Project) -> None:
    assert serve(project, LOOP_OF_ITS_OWN).get().json() == "prepared"


def test_a_module_that_is_imported_finds_the_worker_s_loop_and_context(project: Project) -> None:
    assert serve(project, LOOP_OF_THE_WORKER).get().json() == {"release": "r1", "same_loop": True}


ON_SERVER = """
import asyncio
import os
from eggcluster import Application

told = []

async def api(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": " ".join(told).encode()})

app = Application(api)

@app.on_server
def note(server):
    told.append(type(server).__name__)

@app.on_server
async def prepare(server):
    while not os.path.exists("asked"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    told.append(f"started={server.started}")
"""


def test_on_server_is_called_before_the_first_request(project: Project) -> None:
    cluster = project.write(app=ON_SERVER).start("--workers", "1")
    wait_until(lambda: cluster.status() and cluster.address, "it listens")
    answers: list[str] = []
    client = Thread(target=lambda: answers.append(cluster.get().text))
    client.start()  # its connection waits in the listener
    (project.folder / "asked").touch()
    client.join()
    assert answers == ["HttpServer started=False"]
    cluster.wait_ready()


def test_required_modules_are_imported_first_in_agent_and_workers(project: Project) -> None:
    project.write(
        one="import builtins\nbuiltins.required = ['one']\n",
        two="required.append('two')\n",
        agent="from eggcluster import Agent\nassert required == ['one', 'two']\nagent = Agent()\n",
    )
    source = (
        ANSWER + "from eggcluster import Application\nassert required == ['one', 'two']\napp = Application(answer)\n"
    )
    cluster = serve(project, source, "--require", "one", "--require", "two")
    assert cluster.get().text == "served"
    assert cluster.agent()


def test_a_base_directory_elsewhere_is_where_imports_begin(project: Project, tmp_path: Path) -> None:
    shop = project.folder / "shops" / "first"
    (shop / "web" / "views").mkdir(parents=True)
    (shop / "helper.py").write_text("WORD = 'helped'\n")
    (shop / "web" / "__init__.py").touch()
    (shop / "web" / "views" / "__init__.py").write_text("from . import home\nfrom ..names import NAME\n")
    (shop / "web" / "views" / "home.py").write_text("def home():\n    from helper import WORD\n    return WORD\n")
    (shop / "web" / "names.py").write_text("NAME = 'first'\n")
    (shop / "web" / "main.py").write_text(
        "from fastapi import FastAPI\n"
        "from .views import NAME, home\n"
        "api = FastAPI()\n"
        "@api.get('/')\n"
        "def get():\n"
        "    return [NAME, home.home()]\n"
    )
    project.write(helper="raise AssertionError('the current directory is not the base directory')\n")
    cluster = project.start("web.main:api", "--base-dir", "shops/first", "--workers", "1").wait_ready()
    assert cluster.get().json() == ["first", "helped"]
    status = cluster.status()
    assert status is not None
    assert (status["name"], status["base_dir"]) == ("first", str(shop))


LOGGING = """
import logging
import os
import signal
from eggcluster import Application

logging.getLogger("shop").debug("too quiet")
logging.getLogger("shop.orders").info("imported")

async def api(scope, receive, send):
    raise RuntimeError("has no lifespan")

app = Application(api)

@app.on_ready
def ready():
    app.logger.warning("ready to leave")
    print("printed", flush=True)
    os.kill(os.getppid(), signal.SIGTERM)
"""


def test_what_an_application_logs_goes_to_standard_error(project: Project) -> None:
    project.write(app=LOGGING)
    command = [sys.executable, "-m", "eggcluster", "start", "--workers", "1", "--port", "0"]
    done = subprocess.run(
        command, cwd=project.folder, env=project.environ, capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stdout) == (0, "printed\n")
    lines = done.stderr.splitlines()
    assert [line.split(" ", 2)[2].split(" ", 2)[0] for line in lines if line.endswith("imported")] == ["INFO"]
    assert any(line.endswith("[app_worker#1] imported") for line in lines)
    assert any("WARNING" in line and line.endswith("[app_worker#1] ready to leave") for line in lines)
    assert "too quiet" not in done.stderr
