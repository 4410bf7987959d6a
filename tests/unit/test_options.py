"""`parse_options`: what is wrong gets its line, later sources win, and the result is complete."""

import copy
import dataclasses
import os
import pickle
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eggcluster.errors import OptionsError
from eggcluster.kernel.cpus import available_cpus
from eggcluster.options import AUTO, ClusterOptions, CommandLine, ResolvedOptions, parse_options
from eggcluster.options.cluster_options import default_of, given_fields


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("async def app(scope, receive, send): ...\n")
    return tmp_path


def parse(base: Path, environ: Mapping[str, str] | None = None, **options: Any) -> ResolvedOptions:
    return parse_options(environ=environ or {}, base_dir=str(base), **options)


def problems(base: Path, environ: Mapping[str, str] | None = None, **options: Any) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        parse(base, environ, **options)
    return caught.value.problems


def command_line(base: Path, environ: Mapping[str, str] | None = None, **flags: Any) -> ResolvedOptions:
    return parse_options(CommandLine(flags, base_dir=str(base)), environ=environ or {})


def command_line_problems(base: Path, **flags: Any) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        command_line(base, **flags)
    return caught.value.problems


def test_defaults_are_resolved(base: Path) -> None:
    options = parse(base)
    assert options.workers == available_cpus()
    assert (options.host, options.port, options.listen_fds) == ("127.0.0.1", 7001, 0)
    assert (options.env, options.access_log) == ("prod", False)
    assert options.base_dir == str(base)
    assert options.agent is None
    assert 1 <= len(options.name) <= 64


@pytest.mark.parametrize("value", [0, -1, 1025, "abc", 2.5, True, "4", None])
def test_wrong_workers(base: Path, value: object) -> None:
    [line] = problems(base, workers=value)
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    assert line == f'workers: {shown} is not a number of workers from 1 to 1024, or "auto"'


@pytest.mark.parametrize(("text", "shown"), [("0", "0"), ("-1", "-1"), ("abc", '"abc"'), ("1_0", '"1_0"')])
def test_wrong_workers_are_named_as_they_were_given(base: Path, text: str, shown: str) -> None:
    right = 'is not a number of workers from 1 to 1024, or "auto"'
    assert command_line_problems(base, workers=text) == [f"--workers: {shown} {right}"]
    assert problems(base, {"WEB_CONCURRENCY": text}) == [f"WEB_CONCURRENCY: {shown} {right}"]
    assert problems(base, {"EGG_WORKERS": text, "WEB_CONCURRENCY": "2"}) == [f"EGG_WORKERS: {shown} {right}"]


@pytest.mark.parametrize("port", [70000, -1, "80", 80.0])
def test_port_out_of_range(base: Path, port: object) -> None:
    [line] = problems(base, port=port)
    assert line.startswith("port: ")
    assert line.endswith("is not a port number from 0 to 65535")


def test_several_problems_are_told_at_once(base: Path) -> None:
    lines = command_line_problems(base, app="app:ap", workers="0", port="70000", log_level="lood")
    assert [line.partition(":")[0] for line in lines] == ["--log-level", "--workers", "--port", "TARGET"]


def test_auto_may_be_said_in_every_source(base: Path) -> None:
    assert parse(base, workers=AUTO).workers == available_cpus()
    assert command_line(base, {"EGG_WORKERS": "7"}, workers="auto").workers == available_cpus()


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("proces", 'start_mode: "proces" is not one of process, thread, interpreter; did you mean "process"?'),
        ("fork", 'start_mode: "fork" is not one of process, thread, interpreter'),
        ("threads", 'start_mode: "threads" is not one of process, thread, interpreter; did you mean "thread"?'),
    ],
)
def test_a_start_mode_that_is_none(base: Path, mode: str, line: str) -> None:
    assert problems(base, start_mode=mode) == [line]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has it")
def test_interpreter_mode_needs_a_python_that_has_it(base: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert problems(base, start_mode="interpreter") == [
        f'start_mode: "interpreter" needs Python 3.14 or later, and this is {version}; use "process"'
    ]


def test_max_rss_is_refused_in_thread_mode(base: Path) -> None:
    [line] = problems(base, start_mode="thread", max_rss="1GiB")
    assert line.startswith("max_rss: with start_mode thread all workers share one process")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interface", "asg"),
        ("log_format", "xml"),
        ("name", "a b"),
        ("name", "x" * 65),
        ("name", ".."),
        ("env", "pro/d"),
        ("headers", ("no colon",)),
        ("headers", ("a:b\r\nc:d",)),
        ("headers", "a:b"),
        ("headers", ("Content-Length: 3",)),
        ("headers", ("a:b", "transfer-encoding:chunked")),
        ("root_path", "shop"),
        ("root_path", "/shop/"),
        ("root_path", "//shop"),
        ("root_path", "/"),
        ("app_close_timeout", -1),
        ("request_timeout", -1),
        ("request_timeout", "soon"),
        ("request_timeout", float("inf")),
        ("app_close_timeout", 1.5),
        ("app_start_timeout", 0),
        ("app_start_timeout", float("nan")),
        ("agent_start_timeout", float("inf")),
        ("max_message_bytes", 0),
        ("backlog", 0),
        ("daemon", "yes"),
        ("log_level", "loud"),
        ("require", ("a-b",)),
        ("framework", "my framework"),
        ("https_key_password", 1234),
        ("log_config", "missing.json"),
        ("pid_file", "missing/directory/pid"),
        ("fd", 9999),
    ],
)
def test_every_wrong_value_gets_one_line(base: Path, field: str, value: Any) -> None:
    [line] = problems(base, **{field: value})
    assert line.startswith(f"{field}: ")
    assert "1234" not in line  # a passphrase is not shown, not even a wrong one


def test_base_dir_that_is_none(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert problems(missing) == [f'base_dir: "{missing}" is not a directory']
    file = tmp_path / "file"
    file.touch()
    assert problems(file) == [f'base_dir: "{file}" is not a directory']


def test_unknown_option_with_a_near_miss(base: Path) -> None:
    assert problems(base, worker=3) == ['worker: is not an option; did you mean "workers"?']


def test_a_zero_byte_is_no_traceback(base: Path) -> None:
    for field in ("base_dir", "uds", "host", "pid_file"):
        with pytest.raises(OptionsError) as caught:
            parse_options(**{"app": "app:app", "environ": {}, "base_dir": str(base), field: "a\0b"})  # type: ignore[arg-type]
        assert any(line.startswith(f"{field}: ") for line in caught.value.problems)


def test_listen_fds_is_not_an_option(base: Path) -> None:
    assert problems(base, listen_fds=3) == ["listen_fds: is not an option"]


# -- which source wins


def test_later_sources_win(base: Path) -> None:
    (base / "eggcluster.toml").write_text("workers = 2\nport = 2000\nname = 'file'\n")
    environ = {"EGG_WORKERS": "3", "PORT": "3000"}
    options = parse(base, environ, workers=4)
    assert (options.workers, options.port, options.name) == (4, 3000, "file")


def test_only_named_fields_of_cluster_options_count(base: Path) -> None:
    environ = {"EGG_WORKERS": "3", "HOST": "::1"}
    given = ClusterOptions("app:app", base_dir=str(base), workers=5)
    options = parse_options(given, environ=environ)
    assert (options.workers, options.host) == (5, "::1")


def test_keywords_win_over_the_value(base: Path) -> None:
    given = ClusterOptions(base_dir=str(base), workers=5, name="a")
    options = parse_options(given, environ={}, workers=6)
    assert (options.workers, options.name) == (6, "a")


def test_a_text_is_the_target(base: Path) -> None:
    assert parse_options("app:app", environ={}, base_dir=str(base)).app == "app:app"


def test_empty_variables_are_not_set(base: Path) -> None:
    assert parse(base, {"PORT": "", "EGG_WORKERS": "", "WEB_CONCURRENCY": "3"}).workers == 3


def test_an_overruled_value_is_not_judged(base: Path) -> None:
    assert parse(base, {"WEB_CONCURRENCY": "many"}, workers=2).workers == 2


def test_log_level_stands_for_all_roles(base: Path) -> None:
    environ = {"EGG_AGENT_WORKER_LOGGER_LEVEL": "debug"}
    options = parse(base, environ)
    assert (options.master_log_level, options.agent_log_level, options.app_log_level) == (
        "INFO",
        "DEBUG",
        "INFO",
    )
    options = command_line(base, environ, log_level="warn")
    assert {options.master_log_level, options.agent_log_level, options.app_log_level} == {"WARNING"}
    options = parse(base, log_level="ERROR", app_log_level="DEBUG")
    assert (options.master_log_level, options.app_log_level) == ("ERROR", "DEBUG")


def test_a_variable_wins_over_the_log_level_of_the_file(base: Path) -> None:
    (base / "eggcluster.toml").write_text("log-level = 'ERROR'\n")
    options = parse(base, {"EGG_APP_WORKER_LOGGER_LEVEL": "DEBUG"})
    assert (options.master_log_level, options.app_log_level) == ("ERROR", "DEBUG")


def test_the_older_name_of_the_close_timeouts(base: Path) -> None:
    options = parse(base, {"EGG_MASTER_CLOSE_TIMEOUT": "8000", "EGG_APP_CLOSE_TIMEOUT": "1000"})
    assert (options.app_close_timeout, options.agent_close_timeout) == (1000, 8000)


def test_the_close_timeout_leaves_both_roles_their_time(base: Path) -> None:
    assert parse(base, app_close_timeout=1).close_timeout == 15000
    assert parse(base, app_close_timeout=20000).close_timeout == 30000
    assert parse(base, app_close_timeout=20000, close_timeout=7000).close_timeout == 7000


def test_development_has_defaults_of_its_own_which_any_source_replaces(base: Path) -> None:
    plain, dev = parse(base), parse(base, for_development=True)
    assert (plain.env, plain.reload, plain.drain_timeout) == ("prod", False, None)
    assert (dev.env, dev.workers, dev.reload, dev.drain_timeout) == ("local", 1, True, 250)
    assert parse(base, {"WEB_CONCURRENCY": "3"}, for_development=True).workers == 3
    assert parse(base, for_development=True, ports=(7001, 7002)).workers == 2
    other = parse(base, for_development=True, reload=False, drain_timeout=2000, env="unittest")
    assert (other.env, other.reload, other.drain_timeout) == ("unittest", False, 2000)
    assert parse_options(dev, environ={}) == dev, "resolving it again changes nothing"


def test_a_reload_needs_a_library(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    for [line] in (problems(base, for_development=True), problems(base, reload=True)):
        assert line.startswith('reload: the library watchfiles is not installed; pip install "eggcluster[dev]", or use')
    parse(base, for_development=True, reload=False)


def test_directories_to_watch_are_absolute_and_there(base: Path) -> None:
    (base / "lib").mkdir()
    (base / "eggcluster.toml").write_text('reload-dir = ["lib"]\n')
    assert parse(base, reload=True).reload_dir == (str(base / "lib"),)
    [line] = problems(base, reload=True, reload_dir=[str(base / "none")])
    assert line == f'reload_dir: "{base}/none" is not a directory'
    parse(base, reload=False, reload_dir=[str(base / "none")])


def test_env_decides_the_access_log(base: Path) -> None:
    local = parse_options(environ={}, base_dir=str(base), for_development=True)
    assert (local.env, local.access_log) == ("local", True)
    options = parse_options(environ={"EGG_SERVER_ENV": "prod"}, base_dir=str(base), for_development=True)
    assert (options.env, options.access_log) == ("prod", False)
    assert parse(base, access_log=True).access_log is True


# -- where to listen


@pytest.mark.parametrize("rival", [{"port": 80}, {"port": 0}, {"host": "::1"}, {"fd": 0}, {"ports": (1,)}])
def test_uds_excludes_the_other_ways(base: Path, rival: dict[str, Any]) -> None:
    [line, *_] = problems(base, uds=str(base / "s"), **rival)
    assert line == f"uds and {next(iter(rival))} exclude each other; give one of them"


def test_uds_and_port_as_the_command_line_says_it(base: Path) -> None:
    lines = command_line_problems(base, uds=str(base / "s"), port="80")
    assert lines == ["--uds and --port exclude each other; give one of them"]


def test_ports_exclude_port_but_not_host(base: Path) -> None:
    assert problems(base, ports=(1, 2), port=3) == ["ports and port exclude each other; give one of them"]
    options = parse(base, ports=(1, 2), host="::1")
    assert (options.ports, options.workers, options.port) == ((1, 2), 2, None)


def test_no_agent_excludes_agent(base: Path) -> None:
    lines = problems(base, agent="app:app", no_agent=True)
    assert lines == ["agent and no_agent exclude each other; give one of them"]
    assert parse(base, agent=None, no_agent=True).agent is None


def test_between_sources_the_later_choice_wins(base: Path) -> None:
    (base / "eggcluster.toml").write_text("uds = 'file.sock'\n")
    options = parse(base)
    assert (options.uds, options.port) == (str(base / "file.sock"), None)
    options = parse(base, {"PORT": "3000"})
    assert (options.uds, options.port) == (None, 3000)
    options = parse(base, {"PORT": "3000"}, ports=(1, 2))
    assert (options.uds, options.port, options.ports) == (None, None, (1, 2))


def test_an_overruled_option_overrules_nothing(base: Path) -> None:
    (base / "eggcluster.toml").write_text("host = '::1'\nport = 5\n")
    (base / "pyproject.toml").write_text("")
    options = command_line(base, {"PORT": "3000"}, host="0.0.0.0")
    assert (options.host, options.port) == ("0.0.0.0", 3000)


def test_ports_of_the_wrong_length(base: Path) -> None:
    lines = command_line_problems(base, ports="7001,7002", workers="3")
    assert lines == ["--ports: 7001,7002 gives 2 ports for 3 workers; give one port for each worker"]


def test_a_repeated_flag_shows_what_was_given(base: Path) -> None:
    assert command_line_problems(base, headers=("x",)) == ['--header: "x" is not a list of NAME:VALUE']


def test_ports_twice_and_ports_that_are_none(base: Path) -> None:
    assert problems(base, ports=(1, 2, 1)) == ["ports: 1 is given more than once; give each worker its own port"]
    assert command_line_problems(base, ports="7001,,7002") == [
        '--ports: "7001,,7002" is not a list of port numbers from 1 to 65535'
    ]
    assert problems(base, ports=(0, 1)) == ["ports: 0, 1 is not a list of port numbers from 1 to 65535"]


def test_fd_must_be_a_stream_socket(base: Path) -> None:
    with (
        socket.socket() as stream,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        open(os.devnull) as file,
    ):
        assert parse(base, fd=stream.fileno()).port is None
        right = "name an inherited stream socket"
        number = datagrams.fileno()
        assert problems(base, fd=number) == [f"fd: {number} is not a stream socket; {right}"]
        assert problems(base, fd=file.fileno()) == [f"fd: {file.fileno()} is not a socket; {right}"]
        assert stream.fileno() > 0


def test_a_socket_path_that_is_too_long(base: Path) -> None:
    [line] = problems(base, uds="/" + "x" * 200)
    assert "has 201 bytes" in line


def test_a_socket_path_without_a_directory(base: Path) -> None:
    [line] = problems(base, uds=str(base / "run" / "sock"))
    assert line.endswith(f"cannot be created: {base}/run is not a directory")


def test_sockets_from_systemd(base: Path) -> None:
    mine = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
    options = parse(base, mine)
    assert (options.listen_fds, options.port) == (2, None)
    assert parse(base, {**mine, "LISTEN_PID": "1"}).listen_fds == 0
    assert parse(base, mine, port=80).listen_fds == 0
    assert parse(base, {**mine, "LISTEN_FDS": "x"}).listen_fds == 0


# -- the value itself


def test_it_travels(base: Path) -> None:
    options = parse(base, workers=3, headers=("a:b",), https_key_password="secret")
    there = msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=ResolvedOptions)
    assert there == options
    assert there.named == options.named


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda options: pickle.loads(pickle.dumps(options)),
    "replace": dataclasses.replace,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_what_was_given_gives_the_same(base: Path, how: str) -> None:
    given = ClusterOptions("app:app", base_dir=str(base), host="127.0.0.1", ports=())
    again = COPIES[how](given)
    assert again == given
    assert given_fields(again) == {"app": "app:app", "base_dir": str(base), "host": "127.0.0.1", "ports": ()}
    assert parse_options(again, environ={"HOST": "::1", "EGG_WORKERS": "3"}).host == "127.0.0.1"
    assert parse_options(again, environ={"HOST": "::1", "EGG_WORKERS": "3"}).workers == 3


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_what_holds_holds_and_is_resolved_to_itself(base: Path, how: str) -> None:
    options = parse(base, host="127.0.0.1", no_agent=True, env="local", uds=None)
    again = COPIES[how](options)
    assert again == options
    assert parse_options(again, environ={"HOST": "::1", "EGG_WORKERS": "9"}) == options


def test_a_change_to_what_holds_is_given(base: Path) -> None:
    options = dataclasses.replace(parse(base), backlog=7, workers=3)
    again = parse_options(options, environ={"EGG_WORKERS": "9"})
    assert (again.backlog, again.workers) == (7, 3)


def test_what_followed_from_others_gives_way_to_a_change(base: Path) -> None:
    options = parse(base)
    assert options.port == 7001
    elsewhere = parse_options(dataclasses.replace(options, uds="s"), environ={})
    assert (elsewhere.port, elsewhere.uds) == (None, str(Path.cwd() / "s"))
    assert parse_options(dataclasses.replace(options, port=7002), environ={"PORT": "7003"}).port == 7002


def test_what_was_given_and_what_holds_are_told_apart() -> None:
    assert given_fields(ClusterOptions()) == {}
    assert ClusterOptions(workers=2) != ClusterOptions()
    assert repr(ClusterOptions(workers=2, https_key_password="x")) == "ClusterOptions(workers=2)"
    assert ResolvedOptions().backlog == default_of("backlog") == 2048


def test_the_passphrase_is_not_shown(base: Path) -> None:
    options = parse(base, {"EGG_HTTPS_KEY_PASSWORD": "hush-hush"})
    assert options.https_key_password == "hush-hush"
    assert "hush-hush" not in repr(options)


def test_it_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClusterOptions().port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        ClusterOptions("a:b", True)  # type: ignore[call-arg]
    assert given_fields(ClusterOptions("a:b", port=1)) == {"app": "a:b", "port": 1}


def test_a_copy_with_one_change_can_be_parsed(base: Path) -> None:
    options = parse_options(dataclasses.replace(ClusterOptions(base_dir=str(base)), workers=3), environ={})
    assert options.workers == 3


def test_default_names_are_made_of_the_directory(tmp_path: Path) -> None:
    for directory, name in (("my shop!", "my-shop"), ("x" * 90, "x" * 64), ("店", "eggcluster")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "app.py").write_text("app = make()\n")
        assert parse(tmp_path / directory).name == name


CHOICES: dict[str, st.SearchStrategy[object]] = {
    "workers": st.integers(-2, 6) | st.just("auto"),
    "port": st.integers(-1, 70000) | st.none(),
    "host": st.sampled_from(["127.0.0.1", "::1"]),
    "ports": st.lists(st.integers(1, 5), max_size=3).map(tuple),
    "log_level": st.sampled_from(["debug", "WARN", "ERROR", "loud"]),
    "app_log_level": st.sampled_from(["DEBUG", "INFO"]),
    "app_close_timeout": st.integers(-1, 30000),
    "app_start_timeout": st.floats(-1, 90),
    "access_log": st.booleans() | st.none(),
    "no_agent": st.booleans(),
    "headers": st.lists(st.sampled_from(["a:b", "c: d", "e"]), max_size=2),
    "env": st.sampled_from(["local", "prod"]),
}
FILES = "workers = 3\nhost = '::1'\n", "ports = [7, 8]\n", "uds = 's'\n", ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=CHOICES), st.sampled_from(FILES), st.sampled_from(["", "80", "x"]))
def test_parsing_a_result_again_changes_nothing(base: Path, options: dict[str, object], file: str, port: str) -> None:
    (base / "eggcluster.toml").write_text(file)
    try:
        resolved = parse(base, {"PORT": port}, **options)
    except OptionsError:
        return
    assert parse_options(resolved, environ={"PORT": port}) == resolved


def test_an_option_of_another_server_is_answered_with_ours(base: Path) -> None:
    assert problems(base, ssl_keyfile="x") == [
        "ssl_keyfile: is not an option; write https_key FILE instead of uvicorn's and granian's"
    ]


@pytest.mark.parametrize("field", ["pid_file", "uds", "log_config"])
def test_python_may_give_a_path(base: Path, field: str) -> None:
    path = base / "file"
    if field == "log_config":
        path.write_text("{}")
    more: dict[str, Any] = {field: path}
    options = parse_options(base_dir=base, environ={}, **more)
    assert (options.base_dir, getattr(options, field)) == (str(base), str(path))
    given = parse_options(ClusterOptions(base_dir=base), environ={})  # type: ignore[arg-type]
    assert given.base_dir == str(base)


def test_an_error_of_later_knows_the_name_that_the_source_uses(base: Path) -> None:
    options = parse(base, environ={"HOST": "x86_64-conda-linux-gnu"}, port=7001)
    assert (options.name_of("host"), options.name_of("port")) == ("HOST", "port")
    again = parse_options(options, environ={})
    assert again.name_of("host") == "HOST"
    assert parse_options(options, environ={}, host="127.0.0.1").name_of("host") == "host"
    assert command_line(base, host="nowhere").name_of("host") == "--host"


@pytest.mark.parametrize(
    ("limit", "more", "most"),
    [
        (256, {"workers": 64}, 22),
        (256, {"workers": 23}, 22),
        (256, {"workers": 22}, None),
        (256, {"workers": 64, "start_mode": "thread"}, 9),
        (256, {"workers": 37, "uds": "s.sock", "port": None}, None),
        (256, {"workers": 38, "uds": "s.sock", "port": None}, 37),
        (8, {"workers": 1}, None),  # a single worker is always tried
        (-1, {"workers": 1000}, None),
    ],
)
def test_more_workers_than_open_files_are_refused_before_the_start(
    base: Path, monkeypatch: pytest.MonkeyPatch, limit: int, more: dict[str, Any], most: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    if "uds" in more:
        more = {**more, "uds": str(base / "s.sock")}
    if most is None:
        parse(base, **more)
    else:
        (line,) = problems(base, **more)
        assert line.startswith(f"workers: {more['workers']} workers take at least ")
        assert line.endswith(f"the limit is {limit} (ulimit -n); raise it, or start at most {most}")


def test_preload_is_refused_in_thread_mode(base: Path) -> None:
    [line] = problems(base, start_mode="thread", preload=True)
    assert line.startswith("preload: with start_mode thread all workers share one process")


def test_threads_may_be_named_only_with_preload(base: Path) -> None:
    parse_options(base_dir=str(base), preload=True, preload_threads=("exporter", "Thread-1 (run)"))
    assert problems(base, preload_threads=("exporter",)) == [
        "preload_threads: without preload no thread matters; add it"
    ]
