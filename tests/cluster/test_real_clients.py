"""Clients that others have written, each as its users run it, against an ASGI and a WSGI application."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from websockets.asyncio.client import connect

from tests.cluster.chromium import Page, chromium
from tests.cluster.harness import Launched, Project, projects
from tests.cluster.mirror import REFUSED
from tests.cluster.programs import program
from tests.waiting import DEADLINE, wait_until

ROOT = Path(__file__).parents[2]
BODY = os.urandom(2_000_000)  # more than the buffers between client and application; curl asks before it sends this
DIGEST = f"x {len(BODY)} {hashlib.sha256(BODY).hexdigest()}"
LINES = "".join(f"x {number}\n" for number in range(20))  # what /stream/20/1/x gives
PLAIN = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
ONLY_ASGI = pytest.mark.parametrize("site", ["asgi"], indirect=True)


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A cluster with the mirror."""
    for project in projects(tmp_path_factory.mktemp(request.param)):
        project.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        yield project.start(f"tests.cluster.mirror:{request.param}", "--workers", "2", "--no-agent").wait_ready()


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with BODY."""
    path = tmp_path_factory.mktemp("upload") / "body"
    path.write_bytes(BODY)
    return path


def run(*command: str, folder: Path | None = None) -> str:
    """What the command says; it has to succeed."""
    done = subprocess.run(command, cwd=folder, env=PLAIN, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def pieces() -> Iterator[bytes]:
    for start in range(0, len(BODY), 50_000):
        yield BODY[start : start + 50_000]


# -- curl --------------------------------------------------------------------------------------------------------


def curl(*arguments: str) -> str:
    return run(program("curl"), "--silent", "--show-error", "--max-time", "20", *arguments)


def test_curl_keeps_its_connection_and_sees_heads_and_streams(site: Launched) -> None:
    there = site.address
    connects = "%{num_connects} %{http_version}\n"
    assert curl("-w", connects, f"{there}/echo/a", f"{there}/echo/b") == "a1 1.1\nb0 1.1\n"
    assert curl(f"{there}/stream/20/1/x") == LINES
    head = curl("--head", f"{there}/echo/abc").lower()
    assert head.startswith("http/1.1 200 ok\n")
    assert "content-length: 3\n" in head
    assert curl("--http1.0", f"{there}/stream/20/1/x") == LINES


@pytest.mark.parametrize("sending", [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect:"], ["--http1.0"]])
def test_curl_uploads_with_and_without_asking_first(site: Launched, body: Path, sending: list[str]) -> None:
    assert curl(*sending, "-T", str(body), f"{site.address}/upload/x") == DIGEST


@pytest.mark.parametrize("sending", [[], ["-H", "Expect:"], ["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]])
def test_curl_reads_the_early_answer_to_its_upload(site: Launched, body: Path, sending: list[str]) -> None:
    answer = curl("-w", "%{http_code}", *sending, "-T", str(body), f"{site.address}/refuse")
    assert answer == REFUSED.decode() + "401"


def test_curl_s_offer_of_http2_is_served_with_its_body(site: Launched, body: Path) -> None:
    if "HTTP2" not in curl("--version"):
        pytest.skip("this curl does not know HTTP/2")
    sent = ["--http2", "-w", " %{http_version}", "--data-binary", f"@{body}"]
    assert curl(*sent, f"{site.address}/upload/x") == DIGEST + " 1.1"


# -- Python ------------------------------------------------------------------------------------------------------


def test_httpx_shares_its_connections_between_many_requests(site: Launched) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> None:
        assert (await client.get(f"/echo/{number}")).text == str(number)
        assert (await client.post("/upload/x", content=each())).text == DIGEST
        assert (await client.get("/stream/20/1/x")).text == LINES

    async def ask_all() -> None:
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(base_url=site.address, limits=limits, timeout=DEADLINE, trust_env=False) as client:
            await asyncio.gather(*(ask(client, number) for number in range(10)))
            assert (await client.post("/refuse", content=BODY)).status_code == 401

    asyncio.run(ask_all())


async def each() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece


def test_aiohttp_shares_its_connections_between_many_requests(site: Launched) -> None:
    async def ask(client: aiohttp.ClientSession, number: int) -> None:
        async with client.get(f"{site.address}/echo/{number}") as answer:
            assert await answer.text() == str(number)
        async with client.post(f"{site.address}/upload/x", data=each(), expect100=bool(number % 2)) as answer:
            assert await answer.text() == DIGEST
        async with client.get(f"{site.address}/stream/20/1/x") as answer:
            assert (await answer.read()).decode() == LINES

    async def ask_all() -> None:
        connector = aiohttp.TCPConnector(limit=4)
        timeout = aiohttp.ClientTimeout(DEADLINE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            await asyncio.gather(*(ask(client, number) for number in range(10)))
            async with client.post(f"{site.address}/refuse", data=each()) as answer:
                assert (answer.status, await answer.read()) == (401, REFUSED)

    asyncio.run(ask_all())


def test_requests_uploads_and_reads_line_by_line(site: Launched, body: Path) -> None:
    with requests.Session() as session, body.open("rb") as file:
        session.trust_env = False
        session.headers["Connection"] = "keep-alive"
        assert session.get(f"{site.address}/echo/é", timeout=DEADLINE).content.decode() == "é"
        assert session.post(f"{site.address}/upload/x", data=file, timeout=DEADLINE).text == DIGEST
        assert session.post(f"{site.address}/upload/x", data=pieces(), timeout=DEADLINE).text == DIGEST
        with session.get(f"{site.address}/stream/20/1/x", stream=True, timeout=DEADLINE) as answer:
            assert list(answer.iter_lines()) == LINES.encode().splitlines()
        assert session.post(f"{site.address}/refuse", data=BODY, timeout=DEADLINE).status_code == 401


# -- WebSockets from Python --------------------------------------------------------------------------------------


@ONLY_ASGI
@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets_talks_in_both_kinds_and_is_pinged(site: Launched, compression: str | None) -> None:
    async def talk() -> None:
        uri = site.address.replace("http", "ws", 1)
        options: dict[str, Any] = {"compression": compression, "subprotocols": ["chat"], "max_size": None}
        async with connect(uri, open_timeout=DEADLINE, proxy=None, **options) as websocket:
            assert websocket.subprotocol == "chat"
            for message in ("text", b"bytes", BODY, "", ["in ", "frag", "ments"]):
                await websocket.send(message)
                assert await websocket.recv() == ("in fragments" if isinstance(message, list) else message)
            await asyncio.wait_for(await websocket.ping(), DEADLINE)
            await websocket.send("close")
            await websocket.wait_closed()
            assert (websocket.close_code, websocket.close_reason) == (4000, "as asked")

    asyncio.run(talk())


@ONLY_ASGI
def test_aiohttp_talks_over_a_websocket(site: Launched) -> None:
    async def talk() -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(site.address, compress=15) as websocket:
            await websocket.send_str("text")
            assert await websocket.receive_str(timeout=DEADLINE) == "text"
            await websocket.send_bytes(BODY)
            assert await websocket.receive_bytes(timeout=DEADLINE) == BODY
            await websocket.send_str("close")
            assert (await websocket.receive(DEADLINE)).data == 4000

    asyncio.run(talk())


# -- Node --------------------------------------------------------------------------------------------------------

FETCH = """
const [there] = process.argv.slice(1);
const body = new Uint8Array(2_000_000).fill(120);
const stream = () => new Blob([body]).stream();
const text = async (path, init) => (await fetch(there + path, init)).text();
const post = (path, more) => text(path, {method: "POST", ...more});
const echoes = await Promise.all(Array.from({length: 50}, (_, number) => text(`/echo/${number}`)));
const whole = await post("/upload/x", {body});
const streamed = await post("/upload/x", {body: stream(), duplex: "half"});
const lines = await text("/stream/20/1/x");
const refused = (await fetch(there + "/refuse", {method: "POST", body})).status;
const head = (await fetch(there + "/echo/abc", {method: "HEAD"})).headers.get("content-length");
const left = new AbortController();
const reader = (await fetch(there + "/stream/1000/10/x", {signal: left.signal})).body.getReader();
await reader.read();
left.abort();
console.log(JSON.stringify({echoes, whole, streamed, lines, refused, head}));
"""

TALK = """
const [there] = process.argv.slice(1);
const socket = new WebSocket(there.replace("http", "ws"), ["chat"]);
socket.binaryType = "arraybuffer";
const heard = [];
socket.onopen = () => ["text", new Uint8Array([1, 2, 3]), "é".repeat(500_000), "close"].map(each => socket.send(each));
socket.onmessage = ({data}) => heard.push(typeof data === "string" ? data.length : [...new Uint8Array(data)]);
socket.onclose = ({code, reason}) => console.log(JSON.stringify([socket.protocol, heard, code, reason]));
socket.onerror = ({message}) => console.log(JSON.stringify(message));
"""
TALKED = ["chat", [4, [1, 2, 3], 500_000], 4000, "as asked"]


def node(source: str, *arguments: str, folder: Path | None = None) -> Any:
    """What a module prints as JSON."""
    return json.loads(run(program("node"), "--input-type=module", "-e", source, *arguments, folder=folder))


def node_version() -> int:
    return int(run(program("node"), "--version").lstrip("v").partition(".")[0])


def test_node_s_fetch(site: Launched) -> None:
    if node_version() < 18:
        pytest.skip("Node has fetch from 18 on")
    said = node(FETCH, site.address)
    digest = f"x 2000000 {hashlib.sha256(b'x' * 2_000_000).hexdigest()}"
    assert said["echoes"] == [str(number) for number in range(50)]
    assert (said["whole"], said["streamed"], said["lines"]) == (digest, digest, LINES)
    assert (said["refused"], said["head"]) == (401, "3")


@ONLY_ASGI
def test_node_s_own_websocket(site: Launched) -> None:
    if node_version() < 22:
        pytest.skip("Node has a WebSocket of its own from 22 on")
    assert node(TALK, site.address) == TALKED


@ONLY_ASGI
def test_node_s_package_ws(site: Launched, tmp_path: Path) -> None:
    npm = ("--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=10000")
    try:
        run(program("npm"), "install", *npm, "ws@8", folder=tmp_path)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot install ws: {str(error)[-300:]}")
    assert node('import { WebSocket } from "ws";' + TALK, site.address, folder=tmp_path) == TALKED


# -- load generators ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
def test_ab_sees_no_failure(site: Launched, kept: bool, tmp_path: Path) -> None:
    (tmp_path / "posted").write_bytes(b"x" * 3000)
    keep = ["-k"] if kept else []
    for sent in ([f"{site.address}/echo/abc"], ["-p", str(tmp_path / "posted"), f"{site.address}/upload/x"]):
        said = run(program("ab"), "-q", *keep, "-n", "500", "-c", "8", *sent)
        assert re.search(r"^Complete requests: +500$", said, re.MULTILINE), said
        assert re.search(r"^Failed requests: +0$", said, re.MULTILINE), said
        assert "Non-2xx" not in said
        assert bool(re.search(r"^Keep-Alive requests: +500$", said, re.MULTILINE)) is kept, said


PIPELINE = """
init = function()
    local all = {}
    for number = 1, 10 do all[number] = wrk.format("GET", "/echo/" .. number) end
    pipelined = table.concat(all)
end
request = function() return pipelined end
local answered = 0
response = function(status, headers, body)
    if body ~= tostring(answered % 10 + 1) then print("wrong order: " .. body) end
    answered = answered + 1
end
"""


@pytest.mark.parametrize(("connections", "script"), [(8, ""), (1, PIPELINE)], ids=["many", "pipelined"])
def test_wrk_sees_no_failure(site: Launched, connections: int, script: str, tmp_path: Path) -> None:
    (tmp_path / "script.lua").write_text(script)
    options = ["-t1", f"-c{connections}", "-d1s", "-s", str(tmp_path / "script.lua")]
    said = run(program("wrk"), *options, f"{site.address}/echo/1")
    assert re.search(r"[1-9]\d* requests in ", said), said
    assert not re.search("Socket errors|Non-2xx|wrong order", said), said


def test_h2load_sees_no_failure(site: Launched, tmp_path: Path) -> None:
    (tmp_path / "posted").write_bytes(b"x" * 3000)
    for sent in ([f"{site.address}/stream/3/1/x"], ["-d", str(tmp_path / "posted"), f"{site.address}/upload/x"]):
        said = run(program("h2load"), "--h1", "-n", "500", "-c", "8", *sent)
        assert "500 total, 500 started, 500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout" in said
        assert "status codes: 500 2xx" in said


# -- Chromium ----------------------------------------------------------------------------------------------------

IN_PAGE = """(async () => {
    const body = new Uint8Array(2_000_000).fill(120);
    const whole = await (await fetch("/upload/x", {method: "POST", body})).text();
    const lines = await (await fetch("/stream/20/1/x")).text();
    const refused = (await fetch("/refuse", {method: "POST", body})).status;
    return {whole, lines, refused};
})()"""
TALKING = TALK.replace("console.log", "done").replace("process.argv.slice(1)", "[location.origin]")
TALK_IN_PAGE = f"new Promise(done => {{{TALKING}}})"


def test_chromium_fetches_and_talks(site: Launched, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.open(f"{site.address}/echo/hello")
        said = page.evaluate(IN_PAGE)
        digest = f"x 2000000 {hashlib.sha256(b'x' * 2_000_000).hexdigest()}"
        assert said == {"whole": digest, "lines": LINES, "refused": 401}
        if request.node.callspec.params["site"] == "asgi":
            assert json.loads(page.evaluate(TALK_IN_PAGE)) == TALKED


def test_chromium_shows_the_board_and_its_samples(project: Project, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "board", project.folder / "board")
    with chromium(tmp_path / "chromium") as page:
        cluster = project.start("--base-dir", "board", "--workers", "2").wait_ready()
        page.open(cluster.address)
        wait_until(lambda: page.evaluate("document.body.dataset.link") == "live", "the socket is connected")
        wait_until(lambda: "%" in shown(page, "#cpu-value"), "a sample is shown")
        wait_until(lambda: shown(page, "#processes").count("app") >= 2, "the workers are shown")


def shown(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))
