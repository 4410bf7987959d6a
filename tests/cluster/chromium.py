"""A Chromium without a window, driven over its DevTools protocol."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.cluster.programs import end, program
from tests.waiting import DEADLINE, wait_until

OPTIONS = ("--headless", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")


class Page:
    """The browser's one page."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._numbers = count(1)

    def open(self, url: str) -> None:
        """Load a page; returns when it and its modules are there."""
        self._call("Page.navigate", url=url)
        wait_until(lambda: self.evaluate("[location.href, document.readyState]")[1] == "complete", f"{url} is loaded")
        assert str(self.evaluate("location.href")).startswith(url)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, the value that it comes to."""
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self._call("Runtime.evaluate", **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._devtools.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._devtools.recv(DEADLINE))).get("id") != number:
            pass  # an event
        return dict(answer["result"])


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """One with `folder` for its profile. The test is skipped where none is installed."""
    command = [program("chromium", "chromium-browser", "google-chrome"), *OPTIONS, f"--user-data-dir={folder}"]
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run with one as root
    folder.mkdir(exist_ok=True)
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen([*command, *as_root, "--remote-debugging-port=0", "about:blank"], stderr=log)
    try:
        with connect(_page(folder), max_size=None, proxy=None) as devtools:
            yield Page(devtools)
    finally:
        end(process)


def _page(folder: Path) -> str:
    """The address of the page's DevTools: the browser writes its port into its profile."""
    port = wait_until(lambda: _first_line(folder / "DevToolsActivePort"), "Chromium listens")
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        pages = [each for each in client.get(f"http://127.0.0.1:{port}/json").json() if each["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])


def _first_line(path: Path) -> str:
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[0] if len(lines) == 2 else ""
