"""Bad options given to the real command: one line that names option, value and what would be right, exit code 2."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eggcluster.errors import OptionsError
from eggcluster.master.listening.binding import detect_ports
from eggcluster.master.listening.listeners import Listeners
from eggcluster.options import ResolvedOptions
from eggcluster.wording import shown
from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.cluster.surroundings import key_pair, taken_port


@pytest.fixture
def project(project: Project) -> Iterator[Project]:
    """A project that would run; what is refused in it leaves nothing behind, not even a runtime directory."""
    yield project.write(app=HELLO)
    if not project.launched:
        assert not Path(project.environ["EGG_RUNTIME_DIR"]).exists()


# -- what the options name ---------------------------------------------------------------------------------


def test_an_unknown_module_is_refused_with_its_near_miss(project: Project) -> None:
    line = project.refused("ap:app")
    assert 'TARGET: "ap:app" does not exist: no module "ap"' in line
    assert 'did you mean "app"?' in line


def test_an_unknown_attribute_is_refused_with_its_near_miss(project: Project) -> None:
    line = project.refused("app:ap")
    assert 'TARGET: "app:ap" does not exist: module "app" has no attribute "ap"' in line
    assert 'did you mean "app"?' in line or 'did you mean "api"?' in line


def test_an_attribute_that_is_no_application_is_a_bad_option_found_at_the_boot(project: Project) -> None:
    """Its module is not imported before that, and its source does not tell what a value is."""
    launched = project.write(app="app = 42\n").start("--workers", "1")
    assert launched.wait_exit() == 2
    assert '"app:app" is the value 42; name an ASGI or WSGI callable' in launched.log
    assert "Traceback" not in launched.log


def test_an_unknown_agent_is_refused(project: Project) -> None:
    line = project.write(agent=AGENT).refused("--agent", "agent:agnt")
    assert '--agent: "agent:agnt" does not exist' in line
    assert 'did you mean "agent"?' in line


@pytest.mark.parametrize(
    ("files", "arguments", "said"),
    [
        ({"app": "app = __builtins__ and object()\n"}, [], 'app: "app:app" is an object of type object; name an ASGI'),
        (
            {"app": HELLO, "agent": "agent = [object()].pop()\n"},
            [],
            'agent: "agent:agent" is an object of type object; name an eggcluster.Agent',
        ),
        (
            {"app": HELLO, "frame": "from eggcluster import Application\nAgent = globals().get('no')\n"},
            ["--framework", "frame"],
            'framework: "frame" has no Agent',
        ),
    ],
    ids=["app", "agent", "framework"],
)
def test_what_only_a_worker_can_tell_still_ends_with_one_line_and_code_2(
    project: Project, files: dict[str, str], arguments: list[str], said: str
) -> None:
    launched = project.write(**files).start("--workers", "2", *arguments)
    assert launched.wait_exit() == 2, launched.log
    assert launched.log.count(said) == 1, launched.log


def test_a_framework_without_an_agent_is_refused(project: Project) -> None:
    line = project.write(frame="from eggcluster import Application\n").refused("--framework", "frame")
    assert '--framework: "frame" does not define `Agent`; name a module that defines both' in line


def test_an_unknown_required_module_is_refused(project: Project) -> None:
    assert '--require: "no_such" does not exist: no module "no_such"' in project.refused("--require", "no_such")


# -- numbers and words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "0"], '--workers: 0 is not a number of workers from 1 to 1024, or "auto"'),
        (["--workers", "-1"], '--workers: -1 is not a number of workers from 1 to 1024, or "auto"'),
        (["--workers", "abc"], '--workers: "abc" is not a number of workers from 1 to 1024, or "auto"'),
        (["--port", "70000"], "--port: 70000 is not a port number from 0 to 65535"),
        (["--port", "http"], '--port: "http" is not a port number from 0 to 65535'),
        (["--app-start-timeout", "0"], "--app-start-timeout: 0.0 is not a number of seconds above 0"),
        (["--start-mode", "fibre"], '--start-mode: "fibre" is not one of process, thread, interpreter'),
        (["--start-mode", "proces"], 'did you mean "process"?'),
        (["--uds", "egg.sock", "--port", "8000"], "exclude each other; give one of them"),
        (
            ["--ports", "7001,7002,7003", "-w", "2"],
            "--ports: 7001,7002,7003 gives 3 ports for 2 workers; give one port",
        ),
        (["--sticky", "--uds", "egg.sock"], "--sticky: with --uds all clients come from the proxy and have no address"),
        (["--sticky", "--ports", "7001,7002"], "--sticky: with --ports each port belongs to one worker"),
        (
            ["--sticky-by", "body:sid"],
            '--sticky-by: "body:sid" is not a list of address, cookie,',
        ),
        (
            ["--sticky-by", "query:sid", "--ports", "7001,7002"],
            "--sticky-by: with --ports each port belongs to one worker",
        ),
        (["--sticky-by", "address", "--uds", "egg.sock"], "--sticky: with --uds all clients come from the proxy"),
        (["--sticky", "--sticky-via", "bfp"], '--sticky-via: "bfp" is not one of bpf, acceptor; did you mean "bpf"?'),
        (["--sticky-hold", "0"], "--sticky-hold: 0.0 is not a number of seconds above 0"),
        (["--ports", "7001,7001", "-w", "2"], "--ports: 7001 is given more than once"),
        (["--log-level", "loud"], '--log-level: "loud" is not one of DEBUG, INFO'),
        (["--name", "a/b"], '--name: "a/b" is not 1 to 64 letters'),
        (["--header", "nonsense"], '--header: "nonsense" is not'),
        (["--base-dir", "nowhere"], '--base-dir: "'),
        (["--fd", "99"], "--fd: 99 is not open; name an inherited stream socket"),
        (["--host", "203.0.113.77"], 'host: "203.0.113.77" is not an address of this machine'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_is_wrong_is_refused_with_what_would_be_right(
    project: Project, arguments: list[str], said: str
) -> None:
    assert said in project.refused(*arguments)


def test_a_value_from_the_environment_is_refused_under_its_name(project: Project) -> None:
    assert 'WEB_CONCURRENCY: "many" is not a number of workers' in project.refused(WEB_CONCURRENCY="many")


def test_several_bad_options_have_one_line_each(project: Project) -> None:
    answer = project.command("start", "--workers", "0", "--port", "70000")
    assert answer.returncode == 2
    assert [line.split(":")[1].strip() for line in answer.stderr.splitlines()] == ["--workers", "--port"]


# -- files ------------------------------------------------------------------------------------------------


def test_an_unknown_key_in_a_configuration_file_is_refused_with_its_near_miss(project: Project) -> None:
    (project.folder / "eggcluster.toml").write_text("worker = 2\n")
    assert 'eggcluster.toml: worker: is not an option; did you mean "workers"?' in project.refused()


def test_an_unknown_key_in_pyproject_is_refused(project: Project) -> None:
    (project.folder / "pyproject.toml").write_text("[tool.eggcluster]\nworker = 2\n")
    assert 'pyproject.toml: worker: is not an option; did you mean "workers"?' in project.refused()


def test_a_configuration_file_that_does_not_parse_is_refused_with_the_place(project: Project) -> None:
    (project.folder / "eggcluster.toml").write_text("workers = 2\nport = = 1\n")
    line = project.refused()
    assert "eggcluster.toml: is not TOML" in line
    assert "line 2" in line


def test_a_bad_value_in_a_file_is_refused_with_the_file(project: Project) -> None:
    (project.folder / "eggcluster.toml").write_text('workers = "two"\n')
    assert 'eggcluster.toml: workers: "two" is not a number of workers' in project.refused()


@pytest.mark.parametrize("daemon", [[], ["--daemon"]], ids=["foreground", "daemon"])
@pytest.mark.parametrize(
    ("file", "content"),
    [("log.json", b"{}"), ("log.json", b"garbage"), ("log.ini", b"[loggers]\nkeys=\xff"), ("log.ini", b"")],
    ids=["empty", "garbage", "not UTF-8", "no sections"],
)
def test_a_logging_configuration_that_is_none_is_refused(
    project: Project, file: str, content: bytes, daemon: list[str]
) -> None:
    path = project.folder / file
    path.write_bytes(content)
    line = project.refused("--port", "0", "--log-config", file, *daemon)
    assert f"log_config: {shown(str(path))} is not a logging configuration: " in line


def test_a_host_that_is_none_is_shown_without_its_control_characters(project: Project) -> None:
    assert '--host: "a\\nb" is not a host name or address' in project.refused("--host", "a\nb")
    assert '--host: "a\\udcff" is not a host name' in project.refused("--host", "a\udcff")


def test_the_pid_file_of_a_living_process_is_refused_and_kept(project: Project) -> None:
    pid_file = project.folder / "egg.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    line = project.refused("--port", "0", "--pid-file", str(pid_file))
    assert f'pid_file: "{pid_file}" belongs to the running process {os.getpid()}; use another path' in line
    assert pid_file.read_text() == f"{os.getpid()}\n"


# -- TLS ---------------------------------------------------------------------------------------------------


def test_a_key_without_a_certificate_is_refused(project: Project) -> None:
    key, _ = key_pair(project.folder, "own")
    assert f"--https-key: {shown(key)} needs https_cert, too" in project.refused("--https-key", key).replace(
        "--https-cert", "https_cert"
    )


def test_keys_in_requests_with_tls_in_the_worker_are_refused_but_not_addresses(project: Project) -> None:
    key, certificate = key_pair(project.folder, "own")
    tls = ("--https-key", key, "--https-cert", certificate)
    line = project.refused(*tls, "--sticky-by", "address", "--sticky-by", "cookie:sid")
    assert "--sticky-by: with TLS in the worker a connection cannot go to another worker, so cookie:sid cannot" in line
    project.start(*tls, "--sticky-by", "address").wait_ready()


def test_a_key_that_does_not_fit_is_refused(project: Project) -> None:
    _, certificate = key_pair(project.folder, "own")
    key, _ = key_pair(project.folder, "other")
    line = project.refused("--https-key", key, "--https-cert", certificate)
    assert f"--https-key: {shown(key)} does not fit the certificate" in line


def test_a_missing_key_file_is_refused(project: Project) -> None:
    _, certificate = key_pair(project.folder, "own")
    line = project.refused("--https-key", "gone.key", "--https-cert", certificate)
    assert f"--https-key: {shown(f'{project.folder}/gone.key')} does not exist; name an existing file" in line


def test_a_debug_port_without_tls_is_refused(project: Project) -> None:
    assert "--debug-port: 7002 is for plain HTTP beside HTTPS" in project.refused("--debug-port", "7002")


# -- what others hold ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("listening", "reuse_port"), [(True, False), (False, False), (True, True)], ids=["listening", "bound", "reuse"]
)
def test_a_port_that_another_process_holds_is_refused(
    project: Project, listening: bool, reuse_port: bool, workers: str
) -> None:
    with taken_port(listening=listening, reuse_port=reuse_port) as port:
        line = project.refused("--port", port, "--workers", workers)
        assert f"port: {port} on 127.0.0.1 is taken by another process; free it or use another one" in line


def test_a_taken_port_among_the_ports_of_the_workers_is_refused(project: Project) -> None:
    with taken_port() as port, taken_port() as other:
        pass
    with taken_port() as taken:
        assert f"ports: {taken} on 127.0.0.1 is taken" in project.refused("--ports", f"{port},{taken}", "-w", "2")
    assert other != taken


def test_a_daemon_is_refused_a_taken_port_in_one_line_too(project: Project) -> None:
    with taken_port() as port:
        assert f"port: {port} on 127.0.0.1 is taken" in project.refused("--port", port, "--daemon")


def test_the_port_of_another_cluster_is_refused(project: Project, hello: Launched) -> None:
    port = hello.address.rpartition(":")[2]
    line = project.refused("--port", port, "--name", "second", "--workers", "2")
    assert f"port: {port} on 127.0.0.1 is taken by another process" in line
    assert hello.get().status_code == 200


def test_a_second_cluster_of_the_same_name_is_refused(project: Project, hello: Launched) -> None:
    line = project.refused("--port", "0")
    assert f'name: a cluster "{project.folder.name}" is already running (pid {hello.pid}, {project.folder})' in line
    assert "--name" in line
    assert hello.get().status_code == 200


def test_of_two_clusters_that_want_one_port_at_the_same_time_only_one_gets_it(switching: None, tmp_path: Path) -> None:
    for turn in range(1000):
        with taken_port() as port:
            pass
        options = ResolvedOptions(port=int(port), workers=2)
        with ThreadPoolExecutor(2) as pool:
            paths = [str(tmp_path / f"{turn}.{each}") for each in range(2)]
            got = [future.result() for future in [pool.submit(listeners_or_none, options, path) for path in paths]]
        winners = [listeners for listeners in got if listeners is not None]
        for listeners in winners:
            listeners.close()
        assert len(winners) < 2


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns after nearly every instruction: what two processes do to each other by chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def listeners_or_none(options: ResolvedOptions, cluster_port: str) -> Listeners | None:
    try:
        return detect_ports(options, cluster_port)
    except OptionsError:
        return None
