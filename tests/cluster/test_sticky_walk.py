"""A random walk: requests with keys over a proxy's connections, while workers are killed and reloaded.

Each answer comes from the key's worker, or the test has ended that worker before. A request is lost only with a worker
that was killed while the request was there; none is served twice, counted at the application. Each second worker is
stopped before it is killed: of the requests that other workers have handed over to it since, none is lost. The long
suite (EGG_LONG) walks for 100,000 requests.
"""

import json
import os
import random
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.chaos.test_reloads import reload
from tests.cluster.clients import Target
from tests.cluster.harness import Launched, Project
from tests.cluster.test_messenger_load import IMPATIENT
from tests.waiting import DEADLINE, wait_until

LONG = bool(os.environ.get("EGG_LONG"))
REQUESTS = 100_000 if LONG else 3_000
EVENTS = 60 if LONG else 5  # kills and reloads, at equal distances
CONNECTIONS = 8
WORKERS = 3
KEYS = 64
SEED = 18
WAYS = ("--sticky-by", "cookie:sid", "--sticky-by", "header:x-session", "--sticky-by", "query:room")

# Says which worker it is, and whether it knows the key; one that it does not know it gives to the client, or claims.
# Each request is noted in a file as soon as it has begun.
SITE = """
import asyncio, json, os, pathlib
from urllib.parse import parse_qs
from eggcluster import Application

notes = os.open(pathlib.Path(__file__).with_name("notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
known = set()

async def api(scope, receive, send):
    assert scope["type"] == "http"
    asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    os.write(notes, f"{asked['n']} {os.getpid()}\\n".encode())
    size, more = 0, True
    while more:
        event = await receive()
        size, more = size + len(event.get("body", b"")), event.get("more_body", False)
    key, kind = asked["key"], asked["kind"]
    answer = json.dumps({"pid": os.getpid(), "knows": key in known, "size": size}).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    if key not in known:
        known.add(key)
        if kind == "cookie":
            headers.append((b"set-cookie", f"sid={key}; Path=/".encode()))
        elif kind == "header":
            headers.append((b"x-session", key.encode()))
        elif kind == "claim":
            app.claim(key)
    if "pause" in asked:
        await asyncio.sleep(float(asked["pause"]))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

app = Application(api)
"""


class Key:
    """A client's key; one request at a time has it. `home`: the pid of the worker that has answered last."""

    def __init__(self, number: int) -> None:
        self.name = f"key-{number}"
        self.kind = ("cookie", "header", "claim", "hashed")[number % 4]
        self.home: int | None = None

    def request(self, number: int, body: bytes, pause: float | None) -> bytes:
        target = f"/?n={number}&key={self.name}&kind={self.kind}"
        lines = [f"content-length: {len(body)}"] if body else []
        if pause is not None:
            target += f"&pause={pause}"
        if self.kind in ("claim", "hashed"):
            target += f"&room={self.name}"
        elif self.home is not None:
            lines.append(f"cookie: sid={self.name}" if self.kind == "cookie" else f"x-session: {self.name}")
        head = [f"{'POST' if body else 'GET'} {target} HTTP/1.1", "host: x", *lines]
        return "".join(f"{line}\r\n" for line in [*head, ""]).encode() + body


class Upstream:
    """A proxy's connection to the cluster: one request at a time. `at`: the pid of the worker that has it. `is_safe`:
    its request goes from a living worker to one that was stopped before, and cannot begin there."""

    def __init__(self, target: Target, kills: int) -> None:
        self.at: int | None = None
        self.is_safe = False
        self.kills_before = kills  # it was opened; later: its latest request was sent
        self._sock = socket.create_connection(target, timeout=DEADLINE)
        self._stream = self._sock.makefile("rb")

    def ask(self, request: bytes) -> tuple[dict[str, Any], bool]:
        """The answer, and whether the connection ends with it. ConnectionError if there is none."""
        self._sock.sendall(request)
        head = list(iter(self._line, b""))
        assert head[0] == b"HTTP/1.1 200 OK", head
        headers = dict(line.lower().split(b": ", 1) for line in head[1:])
        size = int(headers[b"content-length"])
        body = self._stream.read(size)
        if len(body) < size:
            raise ConnectionResetError
        return json.loads(body), headers.get(b"connection") == b"close"

    def _line(self) -> bytes:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError
        return line[:-2]

    def close(self) -> None:
        self._stream.close()
        self._sock.close()


class Walk:
    """What all threads know. `gone`: the workers that the test has killed, or asked to close."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.lock = threading.Lock()
        self.free = [Key(number) for number in range(KEYS)]
        self.begun = 0
        self.answered: list[int] = []
        self.lost: list[int] = []
        self.moves = 0
        self.asking: dict[Upstream, Key] = {}
        self.stopped: int | None = None
        self.safe = 0  # requests that were so
        self.killed: set[int] = set()
        self.gone: set[int] = set()
        self.is_quiet = False  # all kills and reloads are over
        self.failed = False

    def run(self, seed: int) -> None:
        """Send requests over one connection after the other, until there were enough, before and after each kill."""
        rolls, upstream = random.Random(seed), None
        try:
            while (number := self._next()) is not None:
                with self._borrowed(rolls) as key:
                    upstream = self._step(number, key, upstream or Upstream(self.target, len(self.killed)), rolls)
        except BaseException:
            self.failed = True
            raise
        finally:
            if upstream is not None:
                upstream.close()

    def _next(self) -> int | None:
        with self.lock:
            if self.failed or (self.is_quiet and self.begun >= REQUESTS):
                return None
            self.begun += 1
            return self.begun

    @contextmanager
    def _borrowed(self, rolls: random.Random) -> Iterator[Key]:
        with self.lock:
            key = self.free.pop(rolls.randrange(len(self.free)))
        try:
            yield key
        finally:
            with self.lock:
                self.free.append(key)

    def _step(self, number: int, key: Key, upstream: Upstream, rolls: random.Random) -> Upstream | None:
        """Send one request; return the connection for the next one, None if it has ended."""
        body = rolls.randbytes(rolls.choice((10, 5_000, 100_000))) if rolls.random() < 0.1 else b""
        pause = rolls.uniform(0, 0.01) if rolls.random() < 0.1 else None
        self._note(key, upstream)
        try:
            answer, ends = upstream.ask(key.request(number, body, pause))
        except ConnectionError:
            self._judge_loss(number, key, upstream)
            upstream.close()
            return None
        assert answer["size"] == len(body)
        self._judge(number, key, upstream, answer)
        if ends:
            upstream.close()
        return None if ends else upstream

    def _note(self, key: Key, upstream: Upstream) -> None:
        with self.lock:
            self.asking[upstream] = key
            if upstream.at is not None:
                upstream.kills_before = len(self.killed)
            is_elsewhere = upstream.at not in (None, self.stopped, *self.gone)
            upstream.is_safe = self.stopped is not None and key.home == self.stopped and is_elsewhere
            self.safe += upstream.is_safe

    def _judge(self, number: int, key: Key, upstream: Upstream, answer: dict[str, Any]) -> None:
        with self.lock:
            del self.asking[upstream]
            self.answered.append(number)
            if key.home is not None and (answer["pid"] != key.home or not answer["knows"]):
                assert key.home in self.gone, (number, key.__dict__, answer)
            self.moves += upstream.at not in (None, answer["pid"])
            key.home = upstream.at = answer["pid"]

    def _judge_loss(self, number: int, key: Key, upstream: Upstream) -> None:
        """A request may be lost with its connection's worker, or with the one that its key belongs to: any one, if that
        is not known, because the key's worker is gone and the key hashed."""
        with self.lock:
            del self.asking[upstream]
            self.lost.append(number)
            kills = len(self.killed) - upstream.kills_before
            # With the second kill, it may have been at another worker by then.
            assert not upstream.is_safe or kills > 1, (number, key.__dict__, upstream.at)
            is_unknown = upstream.at is None or key.home is None or key.home in self.gone
            if not (is_unknown and kills):
                assert {upstream.at, key.home} & self.killed, (number, key.__dict__, upstream.at)

    # -- what happens to the workers -----------------------------------------------------------------------

    def stop(self, pid: int) -> None:
        """Stop a worker, and wait until a request is on its way to it."""
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the worker has stopped")
        with self.lock:
            self.stopped = pid
        wait_until(lambda: self._is_waited_for(pid) or self.failed, "a request waits for the worker that was stopped")

    def _is_waited_for(self, pid: int) -> bool:
        """Whether a request has been handed over to it, or all connections wait for it, as far as can be known."""
        with self.lock:
            asking = self.asking.items()
            waiting = [each for each, key in asking if {each.at, key.home} & {pid, None, *self.gone}]
            return any(each.is_safe for each, _ in asking) or len(waiting) == CONNECTIONS

    def kill(self, pid: int) -> None:
        with self.lock:
            self.stopped = None
            self.killed.add(pid)
            self.gone.add(pid)
            os.kill(pid, signal.SIGKILL)

    def reload(self, launched: Launched) -> None:
        with self.lock:
            self.gone.update(launched.workers().values())
        reload(launched, 1)


def disturb(launched: Launched, walk: Walk) -> None:
    """Kill a worker or reload all of them, again and again; each time the cluster is whole before."""
    rolls = random.Random(SEED)
    for event in range(1, EVENTS + 1):
        at = REQUESTS * event // (EVENTS + 1)
        wait_until(lambda at=at: len(walk.answered) >= at or walk.failed, f"{at} answers", 10 * DEADLINE)  # type: ignore[misc]
        whole = wait_until(lambda: living(launched, walk) or walk.failed, "all slots have workers", 2 * DEADLINE)
        if not isinstance(whole, list):
            return
        if event % 3:
            victim = rolls.choice(whole)
            if event % 2:
                walk.stop(victim)
            walk.kill(victim)
        else:
            walk.reload(launched)


def living(launched: Launched, walk: Walk) -> list[int] | None:
    """The workers' pids, if there is one in each slot that the test has not ended."""
    pids = sorted(set(launched.workers().values()) - walk.gone)
    return pids if len(pids) == WORKERS else None


@pytest.mark.timeout(1500 if LONG else 180)
def test_keyed_requests_find_their_workers_while_those_die_and_none_is_lost_or_served_twice(project: Project) -> None:
    site = project.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(IMPATIENT)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = ("--workers", str(WORKERS), "--sticky-hold", "60", *WAYS)
    launched = project.write(app=SITE).start(*arguments, PYTHONPATH=path).wait_ready()
    walk = Walk(Target.of(launched))
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        running = [threads.submit(walk.run, SEED * 100 + number) for number in range(CONNECTIONS)]
        try:
            disturb(launched, walk)
            walk.is_quiet = True
        except BaseException:
            walk.failed = True
            raise
        wait(running)
    for each in running:
        each.result()
    check_notes(project, walk)
    told = f"{len(walk.killed)} kills, {walk.safe} requests on their way to a stopped worker, {len(walk.lost)} lost"
    print(f"{len(walk.answered)} answers, {walk.moves} moves, {told}")  # noqa: T201
    assert len(walk.answered) + len(walk.lost) == walk.begun >= REQUESTS
    assert len(walk.lost) <= CONNECTIONS * len(walk.killed)
    assert walk.moves > REQUESTS / 4
    assert walk.safe > 0 or not LONG  # with two stops, all connections may have waited for keys without a worker


def check_notes(project: Project, walk: Walk) -> None:
    """Each answered request has begun once. A lost one has begun once at most, and then at a worker that was killed."""
    noted = [tuple(map(int, line.split())) for line in (project.folder / "notes").read_text().splitlines()]
    begun = Counter(number for number, _ in noted)
    assert {number for number, times in begun.items() if times > 1} == set()
    assert set(walk.answered) <= set(begun)
    lost = set(walk.lost)
    assert {pid for number, pid in noted if number in lost} <= walk.killed
