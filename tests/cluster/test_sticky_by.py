"""Affinity by keys: every request at the worker that its key belongs to, whatever connection it comes on."""

import http.client
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.clients import Target
from tests.cluster.harness import HELLO, Launched, Project
from tests.waiting import DEADLINE, wait_until

# Answers with where it is and what it got, as JSON. `set`, `give`: a key for the client, in a cookie or a header.
# `claim`, `release`: what the application says of a key. Each request is noted in a file, by its `n`.
SITE = """
import asyncio, json, os, pathlib
from urllib.parse import parse_qs
from eggcluster import Application

notes = pathlib.Path(__file__).with_name("notes")

async def api(scope, receive, send):
    assert scope["type"] in ("http", "websocket")
    asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode(), True).items()}
    if "n" in asked:
        with notes.open("a") as file:
            file.write(asked["n"] + "\\n")
    for act in ("claim", "release"):
        if act in asked:
            getattr(app, act)(asked[act])
    answer = {"slot": app.slot, "pid": os.getpid(), "client": list(scope["client"] or ()), "scheme": scope["scheme"]}
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(answer)})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": event["text"]})
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    while "held" in asked and not notes.with_name("gate").exists():
        await asyncio.sleep(0.01)
    headers = [(b"content-type", b"application/json")]
    if "set" in asked:
        headers.append((b"set-cookie", f"sid={asked['set']}; Path=/".encode()))
    if "give" in asked:
        headers.append((b"x-session", asked["give"].encode()))
    answer["body"] = len(body)
    answer["headers"] = [name.decode() for name, _ in scope["headers"]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

app = Application(api)
"""
WAYS = ("--sticky-by", "cookie:sid", "--sticky-by", "header:x-session", "--sticky-by", "query:room")


class Wire:
    """One connection, as a proxy keeps it: requests as bytes, answers in order."""

    def __init__(self, target: Target) -> None:
        self.sock = socket.create_connection(target, timeout=DEADLINE)
        self._stream = self.sock.makefile("rb")

    def send(self, *requests: bytes) -> None:
        self.sock.sendall(b"".join(requests))

    def read(self) -> dict[str, Any]:
        """The next answer; with `cookie`, what it has set."""
        status = self._stream.readline()
        assert b" 200 " in status, status
        headers = http.client.parse_headers(self._stream)
        answer = json.loads(self._stream.read(int(headers["content-length"])))
        return {**answer, "cookie": headers["set-cookie"]}

    def ask(self, path: str = "/", **headers: str) -> dict[str, Any]:
        self.send(request(path, b"", **headers))
        return self.read()

    def close(self) -> None:
        self._stream.close()
        self.sock.close()


def request(path: str = "/", body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    if body:
        lines.append(f"content-length: {len(body)}\r\n")
    method = "POST" if body or "transfer_encoding" in headers else "GET"
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n{''.join(lines)}\r\n".encode() + body


@pytest.fixture
def wires() -> Iterator[list[Wire]]:
    opened: list[Wire] = []
    yield opened
    for wire in opened:
        wire.close()


def launch(project: Project, *arguments: str, workers: int = 3) -> tuple[Launched, Target]:
    launched = project.write(app=SITE).start("--workers", str(workers), *(arguments or WAYS)).wait_ready()
    return launched, Target.of(launched)


def connect(target: Target, wires: list[Wire], count: int = 1) -> list[Wire]:
    wires += [Wire(target) for _ in range(count)]
    return wires[-count:]


def one_in_each(target: Target, wires: list[Wire], workers: int = 3) -> dict[int, Wire]:
    """A connection to each slot."""
    found: dict[int, Wire] = {}

    def look() -> bool:
        (wire,) = connect(target, wires)
        found.setdefault(wire.ask()["slot"], wire)
        return len(found) == workers

    wait_until(look, "a connection to each slot")
    return found


def handovers(launched: Launched) -> int:
    return int((launched.status() or {})["steering"]["by_key"]["handovers"])


# -- which worker --------------------------------------------------------------------------------------------


def test_a_key_that_a_response_sets_belongs_to_its_worker_on_any_connection(
    project: Project, wires: list[Wire]
) -> None:
    launched, target = launch(project)
    for slot, wire in one_in_each(target, wires).items():
        assert wire.ask(f"/?set=c{slot}")["slot"] == slot
        assert wire.ask(f"/?give=h{slot}")["slot"] == slot
        assert wire.ask(f"/?claim=r{slot}")["slot"] == slot
    (one,) = connect(target, wires)
    for slot in (1, 2, 3, 2, 1):
        assert one.ask(cookie=f"sid=c{slot}")["slot"] == slot
        assert one.ask(x_session=f"h{slot}")["slot"] == slot
        assert one.ask(f"/?room=r{slot}")["slot"] == slot
    status = launched.status() or {}
    assert [worker["keys"] for worker in status["workers"]] == [3, 3, 3]
    assert status["steering"]["by_key"]["handovers"] >= 4


def test_a_key_that_nobody_has_named_belongs_to_one_slot_and_they_are_spread(
    project: Project, wires: list[Wire]
) -> None:
    _, target = launch(project)
    one, other = connect(target, wires, 2)
    placed = {key: one.ask(f"/?room={key}")["slot"] for key in range(60)}
    assert placed == {key: other.ask(f"/?room={key}")["slot"] for key in range(60)}
    assert min(Counter(placed.values()).values()) >= 3  # fewer in one of ten million runs
    assert len(Counter(placed.values())) == 3


def test_a_request_without_a_key_is_served_where_it_is(project: Project, wires: list[Wire]) -> None:
    launched, target = launch(project)
    (one,) = connect(target, wires)
    assert len({one.ask()["pid"] for _ in range(20)}) == 1
    assert (launched.status() or {})["steering"]["by_key"]["handovers"] == 0


def test_a_key_moves_when_another_worker_claims_it_and_goes_when_it_is_released(
    project: Project, wires: list[Wire]
) -> None:
    _, target = launch(project)
    found = one_in_each(target, wires)
    (one,) = connect(target, wires)
    hashed = one.ask("/?room=a")["slot"]
    for slot, wire in found.items():
        wire.ask("/?claim=a")
        assert one.ask("/?room=a")["slot"] == slot
    for wire in one_in_each(target, wires).values():
        wire.ask("/?release=a")
    assert one.ask("/?room=a")["slot"] == hashed


# -- what travels --------------------------------------------------------------------------------------------


def test_pipelined_requests_of_all_workers_are_answered_in_order(project: Project, wires: list[Wire]) -> None:
    _, target = launch(project)
    (one,) = connect(target, wires)
    homes = {key: one.ask(f"/?room={key}")["slot"] for key in range(12)}
    for _ in range(3):
        one.send(*(request(f"/?room={key}") for key in homes))
        assert [one.read()["slot"] for _ in homes] == list(homes.values())


def test_bodies_travel_whole_in_one_piece_or_in_chunks_or_longer_than_a_message(
    project: Project, wires: list[Wire]
) -> None:
    _, target = launch(project)
    (one,) = connect(target, wires)
    chunked = b"5\r\nab\r\n\r\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"
    for size in (1, 1000, 70_000, 1_000_000):
        for key in range(6):
            one.send(
                request(f"/?room={key}", b"x" * size),
                request(f"/?room={key + 1}", transfer_encoding="chunked") + chunked,
                request(f"/?room={key + 2}"),
            )
            answers = [one.read() for _ in range(3)]
            assert [answer["body"] for answer in answers] == [size, 9, 0]
    homes = [one.ask(f"/?room={key}")["slot"] for key in range(3)]
    one.send(*(request(f"/?room={key}", b"x" * 10) for key in range(3)))
    assert [one.read()["slot"] for _ in range(3)] == homes


def test_a_head_may_come_byte_by_byte(project: Project, wires: list[Wire]) -> None:
    _, target = launch(project)
    for slot, wire in one_in_each(target, wires).items():
        wire.ask(f"/?claim=r{slot}")
    (one,) = connect(target, wires)
    one.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for slot in (1, 2, 3):
        for byte in request(f"/?room=r{slot}", b"ab") + request(f"/?room=r{slot}"):
            one.send(bytes([byte]))
        assert [one.read()["slot"], one.read()["slot"]] == [slot, slot]


def test_the_client_and_what_the_proxy_protocol_said_travel_along(project: Project, wires: list[Wire]) -> None:
    _, target = launch(project, *WAYS, "--proxy-protocol")
    (one,) = connect(target, wires)
    one.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n")
    answers = [one.ask(f"/?room={key}", x_forwarded_proto="https") for key in range(40)]
    assert {answer["slot"] for answer in answers} == {1, 2, 3}
    assert {tuple(answer["client"]) for answer in answers} == {("192.0.2.7", 4711)}


def test_without_the_proxy_protocol_the_client_is_the_same_everywhere(project: Project, wires: list[Wire]) -> None:
    _, target = launch(project)
    (one,) = connect(target, wires)
    answers = [one.ask(f"/?room={key}", x_forwarded_proto="https") for key in range(40)]
    assert {answer["slot"] for answer in answers} == {1, 2, 3}
    assert {tuple(answer["client"]) for answer in answers} == {one.sock.getsockname()}
    assert {answer["scheme"] for answer in answers} == {"https"}


def test_a_websocket_opens_at_the_worker_of_its_key(project: Project, wires: list[Wire]) -> None:
    from websockets.sync.client import connect as open_websocket

    _, target = launch(project)
    for slot, wire in one_in_each(target, wires).items():
        wire.ask(f"/?claim=r{slot}")
    for slot in (1, 2, 3):
        for _ in range(3):
            with open_websocket(f"ws://{target.host}:{target.port}/?room=r{slot}") as websocket:
                assert json.loads(websocket.recv())["slot"] == slot
                websocket.send("back")
                assert websocket.recv() == "back"


def test_behind_a_unix_socket(project: Project) -> None:
    path = str(project.folder / "egg.sock")
    launched = project.write(app=SITE).start("--workers", "3", "--uds", path, *WAYS).wait_ready()
    wire = Wire.__new__(Wire)
    wire.sock = socket.socket(socket.AF_UNIX)
    wire.sock.settimeout(DEADLINE)
    wire.sock.connect(path)
    wire._stream = wire.sock.makefile("rb")
    placed = [wire.ask(f"/?room={key}")["slot"] for key in range(40)]
    assert placed == [wire.ask(f"/?room={key}")["slot"] for key in range(40)]
    assert set(placed) == {1, 2, 3}
    wire.close()
    assert launched.close() == 0


def test_a_wsgi_application(project: Project, wires: list[Wire]) -> None:
    application = """
import json
from eggcluster import Application

def call(environ, start_response):
    body = json.dumps({"slot": app.slot}).encode()
    cookie = environ["QUERY_STRING"]
    more = [("Set-Cookie", "sid=" + cookie)] if cookie else []
    start_response("200 OK", [("Content-Length", str(len(body))), *more])
    return [body]

app = Application(call)
"""
    launched = project.write(app=application).start("--workers", "3", "--sticky-by", "cookie:sid").wait_ready()
    target = Target.of(launched)
    for slot, wire in one_in_each(target, wires).items():
        wire.ask(f"/?c{slot}")
    (one,) = connect(target, wires)
    assert [one.ask(cookie=f"sid=c{slot}")["slot"] for slot in (1, 2, 3, 1)] == [1, 2, 3, 1]


# -- the cluster's own cookie --------------------------------------------------------------------------------


def test_the_clusters_own_cookie_keeps_a_client_and_cannot_be_made_up(project: Project, wires: list[Wire]) -> None:
    _, target = launch(project, "--sticky-by", "cookie")
    cookies = {}
    for slot, wire in one_in_each(target, wires).items():
        given = wire.ask()["cookie"]
        assert given.endswith("; Path=/; HttpOnly; SameSite=Lax")
        cookies[slot] = given.partition(";")[0]
        assert wire.ask(cookie=cookies[slot])["cookie"] is None
    (one,) = connect(target, wires)
    for slot in (1, 2, 3, 1):
        assert one.ask(cookie=cookies[slot])["slot"] == slot
    here = one.ask(cookie=cookies[1])
    other = cookies[2].rpartition(".")[0] + "." + cookies[3].rpartition(".")[2]
    forged = one.ask(cookie=other)
    assert forged["slot"] == here["slot"]
    assert forged["cookie"] is not None


def test_it_is_secure_where_the_client_speaks_tls_with_the_proxy(project: Project, wires: list[Wire]) -> None:
    _, target = launch(project, "--sticky-by", "cookie", workers=1)
    (one,) = connect(target, wires)
    assert one.ask(x_forwarded_proto="https")["cookie"].endswith("; SameSite=Lax; Secure")


# -- death, reload, close ------------------------------------------------------------------------------------


def test_the_keys_of_a_dead_worker_are_forgotten_and_the_others_stay(project: Project, wires: list[Wire]) -> None:
    launched, target = launch(project)
    for slot, wire in one_in_each(target, wires).items():
        wire.ask(f"/?claim=r{slot}")
    pids = launched.workers()
    os.kill(pids[2], signal.SIGKILL)
    wait_until(lambda: launched.workers().get(2) not in (None, pids[2]), "a new worker in slot 2")
    (one,) = connect(target, wires)
    assert [one.ask(f"/?room=r{slot}")["pid"] for slot in (1, 3)] == [pids[1], pids[3]]
    assert one.ask("/?room=r2")["pid"] != pids[2]
    assert [worker["keys"] for worker in (launched.status() or {})["workers"]] == [1, 0, 1]


def test_requests_on_the_way_to_a_worker_that_dies_are_neither_lost_nor_served_twice(
    project: Project, wires: list[Wire]
) -> None:
    launched, target = launch(project)
    found = one_in_each(target, wires)
    pids = launched.workers()
    found[2].ask("/?claim=a")
    senders = [wire for wire in connect(target, wires, 12) if wire.ask()["slot"] != 2]
    before = handovers(launched)
    os.kill(pids[2], signal.SIGSTOP)
    for number, wire in enumerate(senders):
        wire.send(request(f"/?room=a&n={number}"))
    wait_until(lambda: handovers(launched) == before + len(senders), "the master has passed them on")
    os.kill(pids[2], signal.SIGKILL)
    answers = [wire.read() for wire in senders]
    assert pids[2] not in {answer["pid"] for answer in answers}
    noted = (project.folder / "notes").read_text().split()
    assert sorted(noted, key=int) == [str(number) for number in range(len(senders))]


def test_at_a_reload_a_key_stays_with_the_old_worker_until_that_has_closed(project: Project, wires: list[Wire]) -> None:
    launched, target = launch(project, *WAYS, "--app-close-timeout", "20000")
    found = one_in_each(target, wires)
    pids = launched.workers()
    found[2].ask("/?claim=a")
    found[2].send(request("/?held"))  # while this lasts, the old worker closes
    launched.signal(signal.SIGHUP)
    wait_until(lambda: not set(pids.values()) & set(launched.workers().values()), "new workers everywhere")
    (one,) = connect(target, wires)
    assert one.ask("/?room=a")["pid"] == pids[2]
    assert one.sock.recv(1) == b""  # a worker that closes ends each connection with its next response
    (other,) = connect(target, wires)
    assert other.ask("/?room=b")["pid"] in launched.workers().values()
    (project.folder / "gate").touch()
    assert found[2].read()["pid"] == pids[2]
    wait_until(lambda: connect(target, wires)[0].ask("/?room=a")["pid"] != pids[2], "the old worker has left")


def test_a_cluster_that_closes_answers_what_it_has_read(project: Project, wires: list[Wire]) -> None:
    launched, target = launch(project)
    senders = connect(target, wires, 8)
    for wire in senders:
        wire.ask()
    for number, wire in enumerate(senders):
        wire.send(request(f"/?room={number}"))
    launched.signal(signal.SIGTERM)
    assert [wire.read()["body"] for wire in senders] == [0] * 8
    assert launched.wait_exit() == 0


def test_claims_do_nothing_without_keys(project: Project) -> None:
    launched = project.write(app=HELLO + "\napp.claim('a')\napp.release(b'a')\n").start("--workers", "1").wait_ready()
    assert launched.get().status_code == 200
    assert (launched.status() or {})["workers"][0]["keys"] is None
