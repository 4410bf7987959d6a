"""Owns the benchmark of `eggcluster dev` against `uvicorn --reload`: from the write of a file to the new answer.

    python benchmarks/dev.py [--changes 20] [--stream]

Runs by hand, on Linux. What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
POLL_INTERVAL = 0.002  # s between two requests
CHANGE_TIMEOUT = 60.0  # s; also for the start
STREAM_TIMEOUT = 10.0  # s
ANSWER_TIMEOUT = 1.0  # s; a server that waits for a stream leaves connections in its queue
PAUSE = 1.5  # s between two changes, in which both servers come to rest

MAIN = """\
import asyncio

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import version


class Item(BaseModel):
    name: str
    prices: dict[str, float] = {}
    tags: list[str] = []


app = FastAPI()


@app.get("/")
async def root() -> str:
    return version.VERSION


@app.post("/items")
async def add(item: Item) -> Item:
    return item


async def ticks():
    while True:
        yield "data: tick\\n\\n"
        await asyncio.sleep(0.1)


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(ticks(), media_type="text/event-stream")
"""


@dataclass
class Reloader:
    """A server that reloads, in a directory of its own. `seconds` has the time of each change."""

    name: str
    arguments: tuple[str, ...]
    folder: Path
    port: int
    seconds: list[float] = field(default_factory=list)

    def write(self, version: str) -> None:
        (self.folder / "version.py").write_text(f'VERSION = "{version}"\n')

    def ask(self, path: str) -> socket.socket:
        """Send a request on a connection of its own, and return that."""
        sock = socket.create_connection((HOST, self.port), ANSWER_TIMEOUT)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        return sock

    def answer(self) -> str:
        """Return what it answers; "" while it does not."""
        try:
            with self.ask("/") as sock, sock.makefile("rb") as response:
                return response.read().decode().rpartition("\r\n\r\n")[2].strip('"')
        except OSError:
            return ""

    def wait(self, version: str, timeout: float) -> bool:
        """Wait until it answers with that version; return False after `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.answer() != version:
            if time.monotonic() > end:
                return False
            time.sleep(POLL_INTERVAL)
        return True

    def expect(self, version: str) -> None:
        """Wait until it answers with that version; SystemExit after CHANGE_TIMEOUT."""
        if not self.wait(version, CHANGE_TIMEOUT):
            raise SystemExit(f"{self.name} has not answered with {version} within {CHANGE_TIMEOUT:g} s")

    def change(self, version: str, *, with_stream: bool) -> None:
        """Write a version, and measure until it is answered; `with_stream`: while a client reads a stream, which it
        leaves after STREAM_TIMEOUT: until then a server that waits for it has no answer."""
        with contextlib.ExitStack() as stack:
            if with_stream:
                stack.enter_context(self.ask("/stream")).recv(1)
            began = time.monotonic()
            self.write(version)
            self.wait(version, STREAM_TIMEOUT if with_stream else CHANGE_TIMEOUT)
            self.seconds.append(time.monotonic() - began)
        self.expect(version)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(reloader: Reloader) -> Iterator[Reloader]:
    """Run the server until the end of the block, and wait until it answers."""
    reloader.folder.mkdir()
    (reloader.folder / "main.py").write_text(MAIN)
    reloader.write("0")
    dropped = ("PYTHONDONTWRITEBYTECODE", "HOST", "PORT", "WEB_CONCURRENCY", "EGG_SERVER_ENV", "EGG_WORKERS")
    environ = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [sys.executable, "-m", *reloader.arguments, "--port", str(reloader.port)]
    with (reloader.folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=reloader.folder, env=environ, stdout=log, stderr=log)
    try:
        reloader.expect("0")
        yield reloader
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # uvicorn waits for streams
            process.kill()
            process.wait()


def run(changes: int, *, with_stream: bool) -> list[Reloader]:
    """Change both servers' file in turns; return them with their times. The first change is not counted."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.environ["EGG_RUNTIME_DIR"] = f"{folder}/run"
        both = [
            Reloader("eggcluster dev", ("eggcluster", "dev", "main:app"), Path(folder, "eggcluster"), free_port()),
            Reloader("uvicorn --reload", ("uvicorn", "main:app", "--reload"), Path(folder, "uvicorn"), free_port()),
        ]
        for each in both:
            stack.enter_context(running(each))
        for number in range(1, changes + 2):
            for each in both if number % 2 else both[::-1]:
                time.sleep(PAUSE)
                each.change("x" * (number % 7 + 1) + str(number), with_stream=with_stream)
        for each in both:
            del each.seconds[0]
        return both


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--changes", type=int, default=20, help="changes of each server that count")
    parser.add_argument("--stream", action="store_true", help="while a client reads an endless response")
    options = parser.parse_args()
    ours, theirs = run(options.changes, with_stream=options.stream)
    for each in (ours, theirs):
        low, high = min(each.seconds), max(each.seconds)
        median = statistics.median(each.seconds)
        print(f"{each.name:18} {median * 1000:6.0f} ms ({low * 1000:.0f} to {high * 1000:.0f})")  # noqa: T201
    print(f"ratio {statistics.median(ours.seconds) / statistics.median(theirs.seconds):.2f}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
