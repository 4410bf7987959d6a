"""nginx and HAProxy, as docs/http.md configures them, in front of a cluster: what the application sees, what the
client gets, and what a reload costs."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.chaos.load import Load
from tests.chaos.test_reloads import reload
from tests.cluster.harness import Launched, Project, projects
from tests.cluster.mirror import REFUSED
from tests.cluster.proxies import PROXIES, Proxy, documented, haproxy, needs_stream_module, nginx
from tests.cluster.surroundings import key_pair
from tests.waiting import DEADLINE, wait_until

ROOT = Path(__file__).parents[2]
SOURCE = "127.0.0.2"  # a client that is not the proxy, and not trusted
LIE = {"X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": "https"}
LARGE = 3_000_000  # bytes; more than the buffers between a client and the application
LIMIT = 1_000_000
RELOADS = 20 if os.environ.get("EGG_LONG") else 1
DOCUMENTED = {name: documented(name, 0) for name in PROXIES}
BOTH = pytest.mark.parametrize("name", PROXIES)


def start(project: Project, interface: str, *arguments: str, workers: int = 1) -> Launched:
    """A cluster with the mirror."""
    project.environ["PYTHONPATH"] = ":".join(filter(None, [str(ROOT), project.environ.get("PYTHONPATH")]))
    common = ["--workers", str(workers), "--no-agent", "--keep-alive-timeout", "75"]
    return project.start(f"tests.cluster.mirror:{interface}", *common, *arguments).wait_ready()


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """One cluster for all tests that do not end it."""
    for project in projects(tmp_path_factory.mktemp(request.param)):
        yield start(project, request.param, "--max-body-bytes", str(LIMIT))


def upstream(cluster: Launched) -> str:
    return urlsplit(cluster.address).netloc


def client(proxy: Proxy, *, tls: bool = False) -> httpx.Client:
    """A client with an address of its own."""
    transport = httpx.HTTPTransport(local_address=SOURCE, verify=False)
    scheme = "https" if tls else "http"
    return httpx.Client(
        base_url=f"{scheme}://127.0.0.1:{proxy.port}", transport=transport, timeout=DEADLINE, trust_env=False
    )


def seen(proxy: Proxy, headers: dict[str, str] | None = None, *, tls: bool = False) -> tuple[str, str]:
    """The client and the scheme that the application sees; two requests of one connection have the same."""
    with client(proxy, tls=tls) as asking:
        answers = [asking.get("/request", headers=headers).raise_for_status().json() for _ in range(2)]
    assert answers[0] == answers[1]
    return answers[0]["client"], answers[0]["scheme"]


# -- X-Forwarded-For, X-Forwarded-Proto, Forwarded ---------------------------------------------------------------


@BOTH
def test_the_application_sees_the_proxy_s_client_and_not_what_that_client_invents(
    site: Launched, name: str, tmp_path: Path
) -> None:
    with PROXIES[name](tmp_path, DOCUMENTED[name], upstream(site)) as proxy:
        assert seen(proxy) == (SOURCE, "http")
        assert seen(proxy, LIE) == (SOURCE, "http")
        assert seen(proxy, {"Forwarded": "for=198.51.100.9;proto=https"}) == (SOURCE, "http")


@BOTH
def test_https_at_the_proxy_is_https_for_the_application(site: Launched, name: str, tmp_path: Path) -> None:
    with PROXIES[name](tmp_path, over_tls(tmp_path, DOCUMENTED[name]), upstream(site)) as proxy:
        assert seen(proxy, tls=True) == (SOURCE, "https")


def over_tls(folder: Path, text: str) -> str:
    """The same configuration, with TLS between the proxy and its clients."""
    key, certificate = map(Path, key_pair(folder, "proxy"))
    both = folder / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    listening = f"listen 8080 ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"
    return text.replace("listen 8080;", listening).replace("bind :8080", f"bind :8080 ssl crt {both}")


FORWARDED = {
    "nginx": (
        r"proxy_set_header X-Forwarded-For .*?;\s+proxy_set_header X-Forwarded-Proto .*?;",
        'proxy_set_header Forwarded "$http_forwarded, for=$remote_addr;proto=$scheme"; '
        'proxy_set_header X-Forwarded-For ""; proxy_set_header X-Forwarded-Proto "";',
    ),
    "haproxy": (
        r"option forwardfor\n(.*X-Forwarded-Proto.*\n)+",
        "http-request del-header X-Forwarded-For\n    http-request del-header X-Forwarded-Proto\n"
        '    http-request add-header Forwarded "for=%[src];proto=http"\n',
    ),
}


@BOTH
def test_forwarded_counts_where_the_proxy_removes_the_other_fields(site: Launched, name: str, tmp_path: Path) -> None:
    text, changes = re.subn(*FORWARDED[name], DOCUMENTED[name])
    assert changes == 1
    with PROXIES[name](tmp_path, text, upstream(site)) as proxy:
        assert seen(proxy, {**LIE, "Forwarded": "for=198.51.100.9;proto=https"}) == (SOURCE, "http")


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_proxy_on_a_unix_socket_is_trusted(project: Project, interface: str) -> None:
    path = project.folder / "app.sock"
    start(project, interface, "--uds", str(path))
    for name, there in {"nginx": f"unix:{path}", "haproxy": f"unix@{path}"}.items():
        with PROXIES[name](project.folder, DOCUMENTED[name], there) as proxy:
            assert seen(proxy, LIE) == (SOURCE, "http"), name


# -- connections and bodies --------------------------------------------------------------------------------------


@BOTH
def test_one_connection_to_the_cluster_serves_many_requests(site: Launched, name: str, tmp_path: Path) -> None:
    port = urlsplit(site.address).port or 0
    with PROXIES[name](tmp_path, DOCUMENTED[name], upstream(site)) as proxy, client(proxy) as asking:
        used = set[int]()
        for number in range(5):
            assert asking.get(f"/echo/{number}").text == str(number)
            content = str(number).encode() * 1000
            assert asking.post("/upload/x", content=content).text == checksum(content)
            assert asking.post("/upload/x", content=iter([content])).text == checksum(content)
            assert asking.get("/stream/2/1/x").text == "x 0\nx 1\n"
            assert asking.head("/echo/x").headers["content-length"] == "1"
            used |= proxy.connections_to(port)
        assert len(used) == 1


def checksum(content: bytes) -> str:
    return f"x {len(content)} {hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize(("name", "buffering"), [("nginx", "off"), ("nginx", "on"), ("haproxy", "off")])
@pytest.mark.parametrize(("path", "status"), [("/upload/x", 413), ("/refuse", 401)])
def test_an_upload_that_is_refused_early_gets_its_answer(
    site: Launched, name: str, buffering: str, path: str, status: int, tmp_path: Path
) -> None:
    text = DOCUMENTED[name].replace("proxy_request_buffering off", f"proxy_request_buffering {buffering}")
    size = LARGE if status == 413 else LIMIT
    with PROXIES[name](tmp_path, text, upstream(site)) as proxy:
        for content in (pieces(size), b"".join(pieces(size))):
            with client(proxy) as asking:  # each on its own connection: nginx closes one whose body it has not read
                answer = asking.post(path, content=content)
            assert answer.status_code == status, proxy.log
            assert answer.content == REFUSED or status == 413
        with client(proxy) as asking:
            assert asking.get("/echo/next").text == "next"


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 50_000):
        yield bytes(50_000)


# -- WebSockets --------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("site", ["asgi"], indirect=True)
def test_a_websocket_passes_and_ends_as_its_application_says(site: Launched, name: str, tmp_path: Path) -> None:
    with (
        PROXIES[name](tmp_path, DOCUMENTED[name], upstream(site)) as proxy,
        connected(proxy) as websocket,
        connected(proxy) as other,
    ):
        websocket.send("who")
        assert json.loads(websocket.recv(DEADLINE)) == {"client": SOURCE, "scheme": "ws"}
        for message in ("text", b"bytes", "é" * 500_000):
            websocket.send(message)
            assert websocket.recv(DEADLINE) == message
        websocket.send("close")
        assert ending(websocket) == (4000, "as asked")
        reload(site, 1)
        assert ending(other)[0] == 1012


def connected(proxy: Proxy) -> ClientConnection:
    sock = socket.create_connection(("127.0.0.1", proxy.port), source_address=(SOURCE, 0))
    return connect(f"ws://127.0.0.1:{proxy.port}/", sock=sock, open_timeout=DEADLINE, max_size=None, proxy=None)


def ending(websocket: ClientConnection) -> tuple[int, str]:
    """The close frame that came; the code has to be one that is no normal end."""
    with pytest.raises(ConnectionClosedError) as closed:
        websocket.recv(DEADLINE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


# -- the PROXY protocol ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A cluster that wants a PROXY header."""
    for project in projects(tmp_path_factory.mktemp(f"proxied-{request.param}")):
        yield start(project, request.param, "--proxy-protocol")


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_haproxy_names_its_client_in_a_proxy_header(proxied: Launched, version: str, mode: str, tmp_path: Path) -> None:
    text = documented("haproxy", 1).replace("send-proxy-v2", version).replace("mode tcp", f"mode {mode}")
    with haproxy(tmp_path, text, upstream(proxied)) as proxy:
        assert seen(proxy) == (SOURCE, "http")
        assert seen(proxy, LIE) == (SOURCE, "http")


def test_haproxy_s_health_checks_come_with_a_header_too(proxied: Launched, tmp_path: Path) -> None:
    text = documented("haproxy", 1).replace("send-proxy-v2", "send-proxy-v2 check-send-proxy check inter 100ms fall 1")
    with haproxy(
        tmp_path, text.replace("mode tcp", "mode tcp\n    option httpchk GET /echo/x"), upstream(proxied)
    ) as it:
        assert seen(it) == (SOURCE, "http")
        assert "DOWN" not in it.log


def test_version_2_says_that_the_client_came_over_tls(proxied: Launched, tmp_path: Path) -> None:
    text = over_tls(tmp_path, documented("haproxy", 1)).replace("send-proxy-v2", "send-proxy-v2-ssl")
    with haproxy(tmp_path, text, upstream(proxied)) as proxy:
        assert seen(proxy, tls=True) == (SOURCE, "https")


def test_nginx_names_its_client_in_a_proxy_header(proxied: Launched, tmp_path: Path) -> None:
    needs_stream_module()
    with nginx(tmp_path, documented("nginx", 1), upstream(proxied)) as proxy:
        assert seen(proxy) == (SOURCE, "http")
        assert seen(proxy, LIE) == (SOURCE, "http")


# -- reloads -----------------------------------------------------------------------------------------------------

KINDS = {
    "asgi": ("keep-alive=12/0.05", "one-shot=4/0.1", "upload=2/0.2", "stream=2/0.2", "websocket=2/0.2"),
    "wsgi": ("keep-alive=12/0.05", "one-shot=4/0.1", "upload=2/0.2", "stream=2/0.2"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("interface", KINDS)
def test_a_reload_behind_both_proxies_fails_no_request(project: Project, interface: str) -> None:
    cluster = start(project, interface, workers=2)
    with (
        nginx(project.folder, DOCUMENTED["nginx"], upstream(cluster)) as first,
        haproxy(project.folder, DOCUMENTED["haproxy"], upstream(cluster)) as second,
        Load(first.port, project.folder / "nginx-tally", 1, KINDS[interface]) as through_nginx,
        Load(second.port, project.folder / "haproxy-tally", 2, KINDS[interface]) as through_haproxy,
    ):
        port = urlsplit(cluster.address).port or 0
        wait_until(lambda: first.connections_to(port) and second.connections_to(port), "both clients have begun")
        reload(cluster, RELOADS)
        tallies = [through_nginx.stop(), through_haproxy.stop()]
    assert [tally.failures for tally in tallies] == [[], []]
    assert all(tally.counts["keep-alive ok"] > 50 for tally in tallies)
