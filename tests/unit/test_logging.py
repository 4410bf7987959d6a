"""The application's logging is the application's; ours survives it; what other servers show is shown here."""

import ast
import contextvars
import importlib
import io
import json
import logging
import logging.config
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eggcluster
from eggcluster.errors import OptionsError
from eggcluster.logs import Report, insist, set_speaker
from eggcluster.logs.own_loggers import OWN_NAMES
from tests.unit.logs_world import LoggedProcess, logged_process

Setup = Callable[[], object]


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Callable[[], LoggedProcess]]:
    """Enters a process under test: within the test, because pytest gives its handlers to the root logger before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        worlds = []

        def enter() -> LoggedProcess:
            worlds.append(logged_process(tmp_path))
            return worlds[-1].__enter__()

        try:
            yield enter
        finally:
            for world in worlds:
                world.__exit__(None, None, None)


def say(name: str, text: str, level: int = logging.INFO) -> None:
    logging.getLogger(name).log(level, text)


def dict_config(**more: Any) -> None:
    logging.config.dictConfig({"version": 1, **more})


def _add_a_handler() -> None:
    logging.root.addHandler(logging.FileHandler("shop.log"))
    logging.root.setLevel(logging.INFO)


def _assign_handlers() -> None:
    logging.root.handlers = [logging.FileHandler("shop.log")]
    logging.root.setLevel(logging.INFO)


def _disable_each() -> None:
    for name in [*logging.root.manager.loggerDict]:
        logging.getLogger(name).disabled = True


def _empty_each() -> None:
    for name in [*logging.root.manager.loggerDict]:
        logging.getLogger(name).handlers = []


# -- the application's own ---------------------------------------------------------------------------------------


def test_an_application_that_configures_nothing_is_shown_from_its_import_on(enter: Callable[[], LoggedProcess]) -> None:
    process = enter()
    process.start()
    process.boot(lambda: say("shop", "imported"))
    say("shop", "serves")
    say("shop", "too quiet", logging.DEBUG)
    assert process.lines == ["[app_worker#1] imported", "[app_worker#1] serves"]


def test_basic_config_does_what_it_does_anywhere(enter: Callable[[], LoggedProcess]) -> None:
    def configure() -> None:
        logging.basicConfig(filename="shop.log", format="%(message)s")
        say("shop", "quiet as anywhere")
        say("shop", "imported", logging.WARNING)

    process = enter()
    process.start()
    process.boot(configure)
    say("shop", "quiet, too")
    say("shop", "broken", logging.ERROR)
    assert process.file("shop.log") == "imported\nbroken\n"
    assert not process.text


@pytest.mark.parametrize(
    "configure",
    [
        lambda: logging.basicConfig(filename="shop.log", level="INFO", format="%(message)s"),
        lambda: dict_config(
            formatters={"plain": {"format": "%(message)s"}},
            handlers={"file": {"class": "logging.FileHandler", "filename": "shop.log", "formatter": "plain"}},
            root={"level": "INFO", "handlers": ["file"]},
        ),
        _add_a_handler,
        _assign_handlers,
    ],
    ids=["basicConfig", "dictConfig", "addHandler", "assignment"],
)
def test_the_root_loggers_handlers_are_the_applications_alone(
    enter: Callable[[], LoggedProcess], configure: Setup
) -> None:
    process = enter()
    process.start()
    process.boot(configure)
    say("shop", "for the file")
    say("eggcluster.worker", "for those who run it")
    assert process.file("shop.log") == "for the file\n"
    assert process.lines == ["[app_worker#1] for those who run it"]


def test_a_level_alone_is_kept(enter: Callable[[], LoggedProcess]) -> None:
    process = enter()
    process.start()
    process.boot(lambda: logging.root.setLevel(logging.ERROR))
    say("shop", "quiet", logging.WARNING)
    say("shop", "loud", logging.ERROR)
    assert process.lines == ["[app_worker#1] loud"]


def test_what_a_librarys_own_handler_shows_is_shown_once(
    enter: Callable[[], LoggedProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """As python-engineio and ddtrace do it."""

    def configure() -> None:
        library = logging.getLogger("library")
        library.setLevel(logging.INFO)
        library.addHandler(logging.StreamHandler())

    process = enter()
    process.start()
    process.boot(configure)
    say("library.server", "hello")
    assert capsys.readouterr().err == "hello\n"
    assert not process.text


@pytest.mark.parametrize("kind", ["an alarm", "a filter", "a null handler"])
def test_a_handler_that_shows_nothing_hides_nothing(enter: Callable[[], LoggedProcess], kind: str) -> None:
    """Django's mail to the administrators, and its console that is for debugging only."""

    def configure() -> None:
        handler = logging.FileHandler("alarm.log") if kind != "a null handler" else logging.NullHandler()
        if kind == "an alarm":
            handler.setLevel(logging.ERROR)
        if kind == "a filter":
            handler.addFilter(lambda record: False)
        logging.getLogger("django").addHandler(handler)

    process = enter()
    process.start()
    process.boot(configure)
    say("django.request", "Internal Server Error", logging.ERROR)
    assert process.lines == ["[app_worker#1] Internal Server Error"]


def test_a_handler_that_was_there_before_stays_alone(enter: Callable[[], LoggedProcess]) -> None:
    """As sitecustomize may add it."""
    process = enter()
    logging.basicConfig(filename="site.log", format="%(message)s", level="INFO")
    process.start()
    process.boot()
    say("shop", "hello")
    assert process.file("site.log") == "hello\n"
    assert not process.text


def test_a_reload_in_thread_mode_lets_the_new_code_configure(enter: Callable[[], LoggedProcess]) -> None:
    process = enter()
    process.start("master", start_mode="thread")
    process.boot()
    process.boot(lambda: logging.basicConfig(filename="shop.log", level="INFO", format="%(message)s"))
    say("shop", "hello")
    assert process.file("shop.log") == "hello\n"
    assert not process.text


# -- other servers' names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access", "hypercorn.error"]
)
@pytest.mark.parametrize("configure", [lambda: None, lambda: logging.basicConfig(filename="shop.log")])
def test_the_loggers_of_other_servers_are_shown_as_there(
    enter: Callable[[], LoggedProcess], name: str, configure: Setup
) -> None:
    process = enter()
    process.start()
    process.boot(configure)
    say(name, "hello")
    assert process.lines == ["[app_worker#1] hello"]
    assert not process.file("shop.log")


def test_their_handlers_can_be_taken_and_changed_without_changing_ours(enter: Callable[[], LoggedProcess]) -> None:
    def configure() -> None:
        flask, gunicorn = logging.getLogger("flask_app"), logging.getLogger("gunicorn.error")
        flask.handlers = gunicorn.handlers
        flask.setLevel(gunicorn.level)
        gunicorn.handlers[0].setFormatter(logging.Formatter("changed %(message)s"))

    process = enter()
    process.start()
    process.boot(configure)
    say("flask_app", "hello")
    say("eggcluster.worker", "ours")
    assert process.lines == ["changed hello", "[app_worker#1] ours"]


# -- ours --------------------------------------------------------------------------------------------------------

SILENCERS: dict[str, Setup] = {
    "dictConfig, which disables by default": lambda: dict_config(),
    "dictConfig with a root": lambda: dict_config(
        handlers={"file": {"class": "logging.FileHandler", "filename": "shop.log"}},
        root={"level": "CRITICAL", "handlers": ["file"]},
    ),
    "dictConfig that names ours without a handler": lambda: dict_config(loggers={"eggcluster": {"propagate": False}}),
    "logging.disable": lambda: logging.disable(),
    "each logger disabled": _disable_each,
    "each logger emptied": _empty_each,
    "a null handler": lambda: setattr(logging.getLogger("eggcluster"), "handlers", [logging.NullHandler()]),
    "a record factory": lambda: logging.setLogRecordFactory(logging.LogRecord),
    "a level of the root logger": lambda: logging.root.setLevel(logging.CRITICAL),
    "basicConfig by force": lambda: logging.basicConfig(filename="shop.log", level="CRITICAL", force=True),
}


@pytest.mark.parametrize("silence", SILENCERS.values(), ids=SILENCERS)
@pytest.mark.parametrize("late", [False, True], ids=["at its import", "later"])
def test_nothing_silences_our_loggers(enter: Callable[[], LoggedProcess], silence: Setup, late: bool) -> None:
    process = enter()
    process.start()
    if late:
        process.boot()
        silence()
    else:
        process.boot(silence)
    for name in OWN_NAMES:
        say(name, name, logging.WARNING)  # from the level on that the code of `eggcluster.http.websockets` sets
    logging.getLogger("eggcluster.http").error("GET / failed", exc_info=ValueError("no price"))
    assert process.lines[: len(OWN_NAMES)] == [f"[app_worker#1] {name}" for name in OWN_NAMES]
    assert "ValueError: no price" in process.text


def test_our_loggers_can_still_be_configured_by_name(enter: Callable[[], LoggedProcess]) -> None:
    process = enter()
    process.start()
    process.boot(
        lambda: dict_config(
            formatters={"plain": {"format": "%(speaker)s %(message)s"}},
            handlers={"file": {"class": "logging.FileHandler", "filename": "access.log", "formatter": "plain"}},
            loggers={
                "eggcluster.access": {"handlers": ["file"], "propagate": False},
                "eggcluster.worker": {"level": "ERROR"},
            },
        )
    )
    say("eggcluster.access", "GET /")
    say("eggcluster.worker", "quiet")
    say("eggcluster.http", "still here")
    assert process.file("access.log") == "app_worker#1 GET /\n"
    assert process.lines == ["[app_worker#1] still here"]


def test_our_lines_follow_a_loguru_interception_of_all_loggers(enter: Callable[[], LoggedProcess]) -> None:
    """The recipe that loguru's users know: every logger that exists propagates to one handler at the root logger."""
    caught: list[str] = []

    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            caught.append(record.getMessage())

    def configure() -> None:
        logging.basicConfig(handlers=[Intercept()], level=0, force=True)
        for name in [*logging.root.manager.loggerDict]:
            logging.getLogger(name).handlers = []
            logging.getLogger(name).propagate = True

    process = enter()
    process.start()
    process.boot(configure)
    for name in ("shop", "uvicorn.error", "eggcluster.http"):
        say(name, name)
    assert caught == ["shop", "uvicorn.error", "eggcluster.http"]
    assert not process.text


def test_loguru_gets_the_applications_lines_and_ours_stay(enter: Callable[[], LoggedProcess]) -> None:
    loguru = pytest.importorskip("loguru")
    caught: list[str] = []

    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loguru.logger.log(record.levelname, record.getMessage())

    def configure() -> None:
        loguru.logger.remove()
        loguru.logger.add(caught.append, format="{message}")
        logging.basicConfig(handlers=[Intercept()], level=0, force=True)

    process = enter()
    process.start()
    process.boot(configure)
    say("shop", "hello")
    say("eggcluster.worker", "ours")
    assert caught == ["hello\n"]
    assert process.lines == ["[app_worker#1] ours"]


def test_structlog_writes_its_lines_as_it_is_told(
    enter: Callable[[], LoggedProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("structlog")
    structlog: Any = importlib.import_module("structlog")  # not of every test environment, so without its types

    def configure() -> None:
        formatter = structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer())
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        logging.basicConfig(handlers=[handler], level="INFO")

    process = enter()
    process.start()
    process.boot(configure)
    logger = structlog.wrap_logger(
        logging.getLogger("shop"),
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logger.info("sold", pieces=3)
    say("eggcluster.worker", "ours")
    assert json.loads(capsys.readouterr().err) == {"event": "sold", "pieces": 3}
    assert process.lines == ["[app_worker#1] ours"]


def test_what_must_not_be_lost_ignores_levels(enter: Callable[[], LoggedProcess]) -> None:
    process = enter()
    process.start("master", "CRITICAL")
    master = logging.getLogger("eggcluster.master")
    master.error("quiet")
    insist(master, logging.ERROR, "%s could not start", "app_worker#1")
    insist(master, logging.ERROR, "%s could not start: %s", "app_worker#1", Report("a\x1b[2J\nb\x9b"))
    assert process.lines == [
        "[master] app_worker#1 could not start",
        r"[master] app_worker#1 could not start: a\x1b[2J",
        r"  b\x9b",
    ]


def test_what_must_not_be_lost_is_written_once_where_the_configuration_says(
    enter: Callable[[], LoggedProcess],
) -> None:
    process = enter()
    config = {
        "version": 1,
        "handlers": {"file": {"class": "logging.FileHandler", "filename": "own.log"}},
        "root": {"level": "CRITICAL", "handlers": ["file"]},
    }
    Path("log.json").write_text(json.dumps(config))
    process.start("master", log_config="log.json")
    insist(logging.getLogger("eggcluster.master"), logging.ERROR, "could not start")
    assert process.file("own.log") == "could not start\n"
    assert not process.text


def test_each_logger_of_ours_is_among_those_that_are_kept_alive() -> None:
    for path in Path(eggcluster.__file__ or "").parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger" and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    assert name.value in OWN_NAMES, path


# -- workers that are threads ------------------------------------------------------------------------------------


def test_an_applications_set_up_does_not_silence_a_master_in_the_same_process(
    enter: Callable[[], LoggedProcess],
) -> None:
    process = enter()
    process.start("master", start_mode="thread")
    for silence in SILENCERS.values():
        process.boot(silence)
    say("eggcluster.master", "reload done")
    assert process.lines[-1] == "[master] reload done"


# -- log_config --------------------------------------------------------------------------------------------------

AS_JSON = {
    "version": 1,
    "formatters": {"own": {"format": "%(levelname)s %(speaker)s %(name)s %(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "own.log", "formatter": "own"}},
    "root": {"level": "INFO", "handlers": ["file"]},
}
AS_YAML = """
version: 1
formatters: {own: {format: '%(levelname)s %(speaker)s %(name)s %(message)s'}}
handlers: {file: {class: logging.FileHandler, filename: own.log, formatter: own}}
root: {level: INFO, handlers: [file]}
"""
AS_INI = """
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=own
[logger_root]
level=INFO
handlers=file
[handler_file]
class=FileHandler
args=("own.log",)
formatter=own
[formatter_own]
format=%(levelname)s %(speaker)s %(name)s %(message)s
"""
FILES = {"log.json": json.dumps(AS_JSON), "log.yaml": AS_YAML, "log.yml": AS_YAML, "log.ini": AS_INI, "log": AS_INI}


@pytest.mark.parametrize("file", FILES)
def test_a_log_config_in_each_form_takes_every_line_with_its_speaker(
    enter: Callable[[], LoggedProcess], file: str
) -> None:
    if file.endswith((".yaml", ".yml")):
        pytest.importorskip("yaml")
    process = enter()
    Path(file).write_text(FILES[file])
    process.start(log_config=file)
    process.boot()
    for name in ("shop", "eggcluster.access", "eggcluster.worker"):
        say(name, "hello")
    assert process.file("own.log").splitlines() == [
        "INFO app_worker#1 shop hello",
        "INFO app_worker#1 eggcluster.access hello",
        "INFO app_worker#1 eggcluster.worker hello",
    ]
    assert not process.text


def test_uvicorns_own_configuration_is_taken(enter: Callable[[], LoggedProcess]) -> None:
    from uvicorn.config import LOGGING_CONFIG

    process = enter()
    Path("log.json").write_text(json.dumps({**LOGGING_CONFIG, "root": {"level": "INFO", "handlers": ["default"]}}))
    process.start(log_config="log.json")
    process.boot()
    written = io.StringIO()
    for handler in logging.root.handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
    for name in ("shop", "uvicorn.error", "eggcluster.access"):
        say(name, name)
    lines = [line.split() for line in written.getvalue().splitlines()]
    assert lines == [["INFO:", "shop"], ["INFO:", "uvicorn.error"], ["INFO:", "eggcluster.access"]]
    assert not process.text


def test_yaml_without_pyyaml_is_refused_with_what_to_do(
    enter: Callable[[], LoggedProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = enter()
    Path("log.yaml").write_text(AS_YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(OptionsError, match="YAML needs PyYAML: install it, or write the same as JSON"):
        process.start(log_config="log.yaml")


def test_a_log_config_may_name_classes_of_the_project(enter: Callable[[], LoggedProcess], tmp_path: Path) -> None:
    process = enter()
    (tmp_path / "shop_forms_1.py").write_text(
        "import logging\nclass Loud(logging.Formatter):\n    def format(self, record):\n        return 'LOUD'\n"
    )
    config = {**AS_JSON, "formatters": {"own": {"()": "shop_forms_1.Loud"}}}
    Path("log.json").write_text(json.dumps(config))
    process.start("master", log_config="log.json", base_dir=str(tmp_path))
    say("eggcluster.master", "hello")
    assert process.file("own.log") == "LOUD\n"


@pytest.mark.parametrize("config", [{"version": 1}, {"version": 1, "handlers": {}, "root": {"handlers": []}}])
def test_a_log_config_without_handlers_leaves_our_lines_on_standard_error(
    enter: Callable[[], LoggedProcess], config: dict[str, Any]
) -> None:
    process = enter()
    Path("log.json").write_text(json.dumps(config))
    process.start("master", log_config="log.json")
    say("eggcluster.master", "hello")
    assert process.lines == ["[master] hello"]


def test_what_a_log_config_gives_our_loggers_an_application_does_not_take(
    enter: Callable[[], LoggedProcess],
) -> None:
    """As Litestar does, which gives the root logger a handler and a form of its own."""
    process = enter()
    Path("log.json").write_text(FILES["log.json"])
    process.start(log_config="log.json")
    process.boot(
        lambda: dict_config(
            handlers={"file": {"class": "logging.FileHandler", "filename": "shop.log"}},
            root={"level": "WARNING", "handlers": ["file"]},
        )
    )
    say("eggcluster.worker", "ours")
    say("shop", "theirs", logging.WARNING)
    assert process.file("own.log") == "INFO app_worker#1 eggcluster.worker ours\n"
    assert process.file("shop.log") == "theirs\n"


# -- attributes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [False, True], ids=["as it is", "a record factory of its own"])
def test_an_applications_own_format_may_have_the_speaker(enter: Callable[[], LoggedProcess], factory: bool) -> None:
    def configure() -> None:
        if factory:
            logging.setLogRecordFactory(logging.LogRecord)
        logging.basicConfig(filename="shop.log", format="{speaker} {message}", style="{", level="INFO")

    process = enter()
    process.start()
    process.boot(configure)
    say("shop", "hello")
    assert process.file("shop.log") == "app_worker#1 hello\n"


def test_a_worker_that_is_a_thread_has_its_own_name_and_id(enter: Callable[[], LoggedProcess]) -> None:
    process = enter()
    process.start("master", start_mode="thread")
    process.boot(lambda: logging.basicConfig(filename="shop.log", format="%(process)d %(speaker)s", level="INFO"))

    def live() -> None:
        set_speaker("app_worker#2", 4711, "INFO")
        say("shop", "hello")

    thread = threading.Thread(target=contextvars.copy_context().run, args=(live,))
    thread.start()
    thread.join()
    assert process.file("shop.log") == "4711 app_worker#2\n"


# -- where nothing is configured ---------------------------------------------------------------------------------


def test_without_a_configuration_of_ours_a_worker_thread_changes_nothing(
    enter: Callable[[], LoggedProcess],
) -> None:
    """Under `start_cluster`: the process is the program's."""
    process = enter()
    before = (logging.lastResort, logging.getLogRecordFactory(), logging.root.level)
    logging.basicConfig(filename="program.log", format="%(message)s", level="INFO")
    process.boot()
    say("eggcluster.master", "started")
    insist(logging.getLogger("eggcluster.master"), logging.ERROR, "%s could not start", "app_worker#1")
    assert process.file("program.log") == "started\napp_worker#1 could not start\n"
    assert (logging.lastResort, logging.getLogRecordFactory()) == before[:2]
    logging.disable()
    say("eggcluster.master", "quiet, as the program wants it")
    assert "quiet" not in process.file("program.log")
