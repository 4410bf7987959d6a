"""Where and how a cluster listens: TCP, TLS, Unix sockets, inherited sockets; and what the engine is told."""

import json
import os
import socket
import ssl
import sys
from pathlib import Path

import httpx
import pytest

from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.cluster.surroundings import free_port, key_pair, taken_port
from tests.waiting import wait_until

# Answers with what the engine made of the request.
SCOPE = """
import json

async def app(scope, receive, send):
    assert scope["type"] == "http"
    said = {name: scope[name] for name in ("scheme", "root_path", "client")}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})
"""


def slot_of(answer: httpx.Response) -> int:
    """Which slot answered, by HELLO's text."""
    return int(answer.text.partition(":")[0])


def over_unix(path: Path) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        return client.get("http://cluster/")


# -- TCP ---------------------------------------------------------------------------------------------------


def test_port_0_is_any_free_one_and_the_address_tells_which(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1", "--port", "0").wait_ready()
    host, _, port = launched.address.removeprefix("http://").partition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    assert slot_of(launched.get()) == 1


def test_the_port_is_free_again_when_the_cluster_has_ended(project: Project) -> None:
    port = free_port()
    for _ in range(2):
        launched = project.write(app=HELLO).start("--workers", "2", "--port", port).wait_ready()
        assert launched.address == f"http://127.0.0.1:{port}"
        launched.get()  # its connection lingers in TIME_WAIT
        assert launched.close() == 0


def test_both_of_two_workers_get_connections(hello: Launched) -> None:
    seen: set[int] = set()

    def both() -> bool:
        seen.add(slot_of(hello.get()))
        return seen == {1, 2}

    wait_until(both, "both slots have answered")


def test_a_host_of_ipv6_is_listened_on(project: Project) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    launched = project.write(app=HELLO).start("--workers", "2", "--host", "::1").wait_ready()
    assert launched.address.startswith("http://[::1]:")
    assert launched.get().status_code == 200


def test_ports_give_each_slot_its_own(project: Project) -> None:
    with taken_port() as first, taken_port() as second:
        pass
    launched = project.write(app=HELLO).start("--ports", f"{first},{second}").wait_ready()
    for _ in range(5):
        assert slot_of(httpx.get(f"http://127.0.0.1:{first}/")) == 1
        assert slot_of(httpx.get(f"http://127.0.0.1:{second}/")) == 2
    assert f"app_worker#2:{launched.workers()[2]} started at http://127.0.0.1:{second}" in launched.log


# -- TLS ---------------------------------------------------------------------------------------------------


def test_tls_with_a_plain_debug_port_beside_it(project: Project) -> None:
    key, certificate = key_pair(project.folder, "own")
    port = free_port()
    launched = project.write(app=SCOPE, agent=AGENT).start(
        "--workers", "2", "--https-key", key, "--https-cert", certificate, "--debug-port", port
    )
    launched.wait_ready()
    assert launched.address.startswith("https://127.0.0.1:")
    assert launched.get(verify=False).json()["scheme"] == "https"
    assert httpx.get(f"http://127.0.0.1:{port}/").json()["scheme"] == "http"
    with pytest.raises(httpx.HTTPError):
        httpx.get(launched.address.replace("https", "http"))


def test_https_ca_admits_only_clients_with_a_certificate_of_it(project: Project) -> None:
    key, certificate = key_pair(project.folder, "own")
    client_key, client_certificate = key_pair(project.folder, "client")
    launched = project.write(app=SCOPE).start(
        "--workers", "1", "--https-key", key, "--https-cert", certificate, "--https-ca", client_certificate
    )
    launched.wait_ready()
    known = ssl._create_unverified_context()
    known.load_cert_chain(client_certificate, client_key)
    assert launched.get(verify=known).json()["scheme"] == "https"
    with pytest.raises(httpx.HTTPError):
        launched.get(verify=False)


# -- Unix sockets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket_is_served_and_its_file_goes_with_the_cluster(project: Project, workers: str) -> None:
    path = project.folder / "egg.sock"
    launched = project.write(app=HELLO).start("--workers", workers, "--uds", "egg.sock").wait_ready()
    assert launched.address == f"unix:{path}"
    assert over_unix(path).status_code == 200
    assert launched.close() == 0
    assert not path.exists()


def test_the_socket_file_that_a_dead_server_left_is_replaced(project: Project) -> None:
    path = project.folder / "egg.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    project.write(app=HELLO).start("--workers", "1", "--uds", "egg.sock").wait_ready()
    assert over_unix(path).status_code == 200


def test_a_file_that_is_no_socket_is_refused_and_kept(project: Project) -> None:
    path = project.folder / "egg.sock"
    path.write_text("precious")
    assert f'uds: "{path}" exists and is not a socket' in project.write(app=HELLO).refused("--uds", "egg.sock")
    assert path.read_text() == "precious"


def test_the_socket_of_a_living_server_is_refused_and_kept(project: Project) -> None:
    path = project.folder / "egg.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        assert f'uds: "{path}" is taken by another process' in project.write(app=HELLO).refused("--uds", "egg.sock")
        assert path.is_socket()


# -- inherited sockets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_inherited_socket_is_served(project: Project, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        launched = project.write(app=HELLO).start("--workers", workers, "--fd", str(sock.fileno()), fds=[sock.fileno()])
    launched.wait_ready()
    assert launched.address == f"http://127.0.0.1:{port}"
    assert launched.get().status_code == 200


def test_an_inherited_unix_socket_is_served_and_its_file_is_its_owners(project: Project) -> None:
    path = project.folder / "egg.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        launched = project.write(app=HELLO).start("--workers", "2", "--fd", str(sock.fileno()), fds=[sock.fileno()])
        launched.wait_ready()
        assert over_unix(path).status_code == 200
        assert launched.close() == 0
    assert path.exists()


def as_systemd(*socks: socket.socket) -> list[str]:
    """What systemd does: the sockets from descriptor 3 on, and their number for this very process."""
    fds = [sock.fileno() for sock in socks]
    code = (
        "import fcntl, os, sys\n"
        f"spare = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50) for fd in {fds}]\n"
        "for place, fd in enumerate(spare, 3): os.dup2(fd, place)\n"
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(fds)}')\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", code]


def start_as_systemd_does(project: Project, *socks: socket.socket, options: tuple[str, ...] = ()) -> Launched:
    # With no other word about where to listen: then the sockets of LISTEN_FDS are meant.
    fds = [sock.fileno() for sock in socks]
    launched = Launched(
        project.folder, ["--workers", "2", *options], project.environ, fds=fds, launcher=as_systemd(*socks)
    )
    project.launched.append(launched)
    return launched


def test_the_sockets_of_systemd_are_served(project: Project) -> None:
    project.write(app=HELLO)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [sock.getsockname()[1] for sock in (one, two)]
        launched = start_as_systemd_does(project, one, two).wait_ready()
    for port in ports:
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    assert launched.address == f"http://127.0.0.1:{ports[0]}"


def test_systemds_sockets_for_another_process_are_not_ours(project: Project) -> None:
    launched = project.write(app=HELLO).start(
        "--port", "0", "--workers", "1", LISTEN_PID=str(os.getpid()), LISTEN_FDS="1"
    )
    launched.wait_ready()
    assert launched.get().status_code == 200


def test_a_daemon_takes_an_inherited_socket_with_it(project: Project) -> None:
    project.write(app=HELLO)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        fd = str(sock.fileno())
        starter = project.start("--workers", "2", "--fd", fd, "--daemon", fds=[sock.fileno()])
        assert starter.wait_exit() == 0, starter.log
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    assert project.command("stop").returncode == 0


# -- what the engine is told -------------------------------------------------------------------------------


def test_the_engines_options_reach_it(project: Project) -> None:
    launched = project.write(app=SCOPE).start(
        *("--workers", "1", "--root-path", "/shop", "--no-server-header"),
        *("--header", "X-Cluster: egg", "--header", "X-Second:2"),
        *("--forwarded-allow-ips", "192.0.2.1"),
    )
    answer = launched.wait_ready().get(headers={"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"})
    assert answer.headers["x-cluster"] == "egg"
    assert answer.headers["x-second"] == "2"
    assert "server" not in answer.headers
    assert "date" in answer.headers
    assert answer.json()["root_path"] == "/shop"
    assert answer.json()["client"][0] == "127.0.0.1"
    assert answer.json()["scheme"] == "http"


def test_a_proxy_on_this_machine_is_believed_by_default(project: Project) -> None:
    launched = project.write(app=SCOPE).start("--workers", "1").wait_ready()
    answer = launched.get(headers={"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"})
    assert answer.headers["server"] == "eggcluster"
    assert answer.json() == {"scheme": "https", "root_path": "", "client": ["198.51.100.7", 0]}


def test_a_limit_of_concurrency_refuses_what_is_above_it(project: Project) -> None:
    launched = project.write(app=SCOPE).start("--workers", "1", "--limit-concurrency", "2").wait_ready()
    port = int(launched.address.rpartition(":")[2])
    assert launched.get().status_code == 200
    with socket.create_connection(("127.0.0.1", port)):  # the first of two: the limit counts the one that asks
        assert launched.get().status_code == 503


# -- logs --------------------------------------------------------------------------------------------------


def test_the_access_log_is_off_in_prod_and_on_when_asked_for(project: Project) -> None:
    project.write(app=HELLO)
    silent = project.start("--workers", "1").wait_ready()
    silent.get("/looked-for")
    assert silent.close() == 0
    talking = project.start("--workers", "1", "--access-log").wait_ready()
    talking.get("/looked-for")
    assert talking.close() == 0
    assert "/looked-for" not in silent.log
    assert "[app_worker#1]" in next(line for line in talking.log.splitlines() if "GET /looked-for" in line)


def test_the_access_log_can_be_turned_off_in_local(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1", "--env", "local", "--no-access-log").wait_ready()
    launched.get("/looked-for")
    assert launched.close() == 0
    assert "/looked-for" not in launched.log


def test_every_line_of_a_json_log_is_an_object(project: Project) -> None:
    source = HELLO + "@app.on_close\ndef close():\n    raise RuntimeError('two\\nlines')\n"
    project.write(app=source, agent=AGENT)
    launched = project.start("--workers", "2", "--log-format", "json", "--access-log").wait_ready()
    launched.allows_traceback = True
    launched.get("/looked-for")
    assert launched.close() == 1  # the hook raised
    lines = [json.loads(line) for line in launched.log.splitlines()]
    assert {line["speaker"] for line in lines} == {"master", "agent_worker", "app_worker#1", "app_worker#2"}
    assert all({"time", "level", "pid", "logger", "message"} <= line.keys() for line in lines)
    assert any("GET /looked-for" in line["message"] for line in lines)
    assert "RuntimeError: two\nlines" in next(line["traceback"] for line in lines if "traceback" in line)


def test_a_boot_failure_in_a_json_log_is_one_object_too(project: Project) -> None:
    launched = project.write(app="raise RuntimeError('no database')\napp = print\n").start("--log-format", "json")
    launched.allows_traceback = True
    assert launched.wait_exit() == 1
    messages = [json.loads(line)["message"] for line in launched.log.splitlines()]
    assert len([text for text in messages if "no database" in text]) == 1


def test_the_log_level_is_that_of_all_three_roles(project: Project) -> None:
    source = HELLO + "@app.on_start\ndef say():\n    app.logger.info('app says')\n    app.logger.warning('app warns')\n"
    agent = (
        AGENT
        + "@agent.on_start\ndef say():\n    agent.logger.info('agent says')\n    agent.logger.error('agent errs')\n"
    )
    launched = project.write(app=source, agent=agent).start("--workers", "1", "--log-level", "warning").wait_ready()
    assert launched.close() == 0
    assert {line.split()[2] for line in launched.log.splitlines()} == {"WARNING", "ERROR"}
    assert "app warns" in launched.log
    assert "agent errs" in launched.log
    talking = project.start("--workers", "1", "--log-level", "debug").wait_ready()
    assert talking.close() == 0
    assert {"DEBUG", "INFO"} <= {line.split()[2] for line in talking.log.splitlines()}


def test_each_role_can_have_a_level_of_its_own(project: Project) -> None:
    launched = project.write(app=HELLO, agent=AGENT).start(
        *("--workers", "1"),
        EGG_MASTER_LOGGER_LEVEL="ERROR",
        EGG_AGENT_WORKER_LOGGER_LEVEL="INFO",
        EGG_APP_WORKER_LOGGER_LEVEL="ERROR",
    )
    assert launched.wait_ready().close() == 0
    assert {line.split()[4] for line in launched.log.splitlines()} == {"[agent_worker]"}


def test_a_log_config_replaces_the_built_in_one(project: Project) -> None:
    target = project.folder / "own.log"
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"own": {"format": "own %(message)s"}},
        "handlers": {"own": {"class": "logging.FileHandler", "filename": str(target), "formatter": "own"}},
        "root": {"level": "INFO", "handlers": ["own"]},
    }
    (project.folder / "logging.json").write_text(json.dumps(config))
    launched = project.write(app=HELLO).start("--workers", "1", "--log-config", "logging.json").wait_ready()
    assert launched.close() == 0
    assert "own close done, exiting with code:0" in target.read_text()
    assert not launched.log
