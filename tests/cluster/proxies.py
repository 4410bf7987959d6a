"""nginx and HAProxy as docs/http.md configures them, in front of a cluster: started, and ended."""

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.programs import end, program
from tests.cluster.surroundings import free_port
from tests.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "http.md"
TRIES = 5  # a port that was free a moment ago may be taken
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # what nginx wants a folder for
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def documented(language: str, number: int) -> str:
    """The configuration of docs/http.md in that language: the first one is number 0."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(blocks[number])


class Proxy:
    """One that serves `port` of 127.0.0.1."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def is_serving(self) -> bool:
        """Whether it takes connections; False, too, when it has ended."""
        with socket.socket() as sock:
            return self.process.poll() is None and not sock.connect_ex(("127.0.0.1", self.port))

    def connections_to(self, port: int) -> set[int]:
        """The local ports of its connections to `port`."""
        family = [self.process.pid, *(each.pid for each in psutil.Process(self.process.pid).children())]
        found = (each for pid in family for each in psutil.Process(pid).net_connections("tcp4"))
        return {each.laddr.port for each in found if each.status == "ESTABLISHED" and each.raddr[1] == port}


@contextlib.contextmanager
def nginx(folder: Path, text: str, upstream: str) -> Iterator[Proxy]:
    """nginx with the configuration `text`, and with `upstream` instead of the documented cluster."""
    binary = program("nginx")
    root = Path(folder, f"nginx{len(list(folder.glob('nginx*')))}")
    root.mkdir()
    paths = "access_log off;" + "".join(f"{name}_temp_path {root / name};" for name in TEMPORARY)

    def command(port: str) -> list[str]:
        settings = text.replace("127.0.0.1:7001", upstream).replace("listen 8080", f"listen 127.0.0.1:{port}")
        (root / "nginx.conf").write_text(settings.replace("http {", "http {" + paths, 1))
        as_we_are = "user root; " if os.geteuid() == 0 else ""
        globally = f"daemon off; {as_we_are}pid {root}/nginx.pid; error_log stderr;"
        return [binary, "-c", str(root / "nginx.conf"), "-e", "stderr", "-g", globally]

    with _running(root / "nginx.log", command) as proxy:
        yield proxy


@contextlib.contextmanager
def haproxy(folder: Path, text: str, upstream: str) -> Iterator[Proxy]:
    """HAProxy with the configuration `text`, and with `upstream` instead of the documented cluster."""
    binary = program("haproxy")
    path = Path(folder, f"haproxy{len(list(folder.glob('haproxy*.cfg')))}.cfg")

    def command(port: str) -> list[str]:
        path.write_text(text.replace("127.0.0.1:7001", upstream).replace("bind :8080", f"bind 127.0.0.1:{port}"))
        return [binary, "-db", "-f", str(path)]

    with _running(path.with_suffix(".log"), command) as proxy:
        yield proxy


PROXIES = {"nginx": nginx, "haproxy": haproxy}


def needs_stream_module() -> None:
    """The test is skipped where nginx's stream module is not where Debian's package puts it."""
    if not STREAM_MODULE.exists():
        pytest.skip("nginx's stream module (libnginx-mod-stream) is not installed")


@contextlib.contextmanager
def _running(log: Path, command: Callable[[str], list[str]]) -> Iterator[Proxy]:
    for _ in range(TRIES):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(command(port), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        proxy = Proxy(process, int(port), log)
        try:
            wait_until(lambda it=proxy: it.is_serving or it.process.poll() is not None, "the proxy serves")  # type: ignore[misc]
            if process.poll() is None:
                yield proxy
                return
        finally:
            end(process)
        assert "in use" in proxy.log or "cannot bind" in proxy.log, proxy.log
    raise AssertionError(f"no port was free: {proxy.log}")
