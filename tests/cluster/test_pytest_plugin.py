"""The pytest plugin in runs of pytest itself: what passes, what a failure shows, and that nothing is left."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import psutil
import pytest

import eggcluster
from tests.waiting import DEADLINE, wait_until

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "tested_app"
PLUGIN = ("-p", "eggcluster.testing", "-p", "no:cacheprovider")
APP = """
import os, sys
from eggcluster import Application

async def api(scope, receive, send):
    if scope["type"] != "http":
        raise AssertionError("no lifespan")
    if scope["path"] == "/log":
        print("a line of the application", file=sys.stderr, flush=True)
    text = f"{app.slot} {os.getpid()} {os.environ.get('COLOUR', '')}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})

app = Application(api)
"""
GET = """
import pytest
from urllib.request import urlopen

def get(cluster, path="/"):
    return urlopen(cluster.url + path, timeout=10).read().decode()
"""


class Surroundings:
    """Where the runs put their temporary files: after each run nothing may be there, and no process that knows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def processes(self) -> list[psutil.Process]:
        """The living processes that were started for a cluster in here."""
        return [process for process in psutil.process_iter() if self._is_in(process)]

    def _is_in(self, process: psutil.Process) -> bool:
        try:
            runtime = process.environ().get("EGG_RUNTIME_DIR", "")
            return process.status() != psutil.STATUS_ZOMBIE and runtime.startswith(str(self.folder))
        except psutil.Error:
            return False

    def clusters(self) -> list[Path]:
        return list(self.folder.glob("eggcluster-*"))


@pytest.fixture
def surroundings(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surroundings]:
    """The project of a user, and temporary files of its own. In the end nothing may be left."""
    # Not below pytester's own directory: the path of a Unix socket has 108 bytes at most.
    folder = Path(f"/tmp/egg-plugin-{os.getpid()}")
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(eggcluster.__file__).parents[1]))
    for variable in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):  # with one of the last two, pytest's summary is in full
        monkeypatch.delenv(variable, raising=False)
    pytester.makepyfile(app=APP)
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config -W error\n")
    yield (found := Surroundings(folder))
    try:
        wait_until(lambda: not found.processes(), "no process is left")
        assert found.clusters() == []
    finally:
        shutil.rmtree(folder)


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, surroundings: Surroundings) -> Run:
    """Run pytest with the plugin, and with this source as the test module."""

    def run_source(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_app=GET + textwrap.dedent(source))
        return pytester.runpytest_subprocess(*PLUGIN, *arguments, timeout=60)

    return run_source


def test_a_test_talks_with_the_cluster_of_its_mark(run: Run) -> None:
    run("""
    def test_default(cluster):
        assert len(cluster.workers) == 2
        assert cluster.status()["start_mode"] == "process"
        assert get(cluster).split()[1] in {str(worker.worker_id) for worker in cluster.workers}

    @pytest.mark.eggcluster(workers=3, start_mode="thread", environ={"COLOUR": "green"})
    class TestGroup:
        def test_group(self, cluster):
            assert len(cluster.workers) == 3
            assert get(cluster).split()[1:] == [str(cluster.pid), "green"]

        @pytest.mark.eggcluster("app:app", workers=1)
        def test_nearest(self, cluster):
            assert cluster.status()["start_mode"] == "thread"
            assert len(cluster.workers) == 1
            before = cluster.workers
            cluster.reload()
            assert cluster.workers != before
    """).assert_outcomes(passed=3)


def test_the_ini_file_says_what_holds_for_all(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "sources").mkdir()
    (pytester.path / "sources" / "main.py").write_text(APP)
    pytester.makeini("""
    [pytest]
    eggcluster_app = main:app
    eggcluster_base_dir = sources
    eggcluster_workers = 1
    eggcluster_start_mode = thread
    eggcluster_scope = session
    """)
    run("""
    seen = []

    @pytest.mark.parametrize("number", [1, 2])
    def test_one_for_all(cluster, number):
        assert get(cluster).split()[1] == str(cluster.pid)
        seen.append(cluster)
        assert len(cluster.workers) == 1
        assert len(set(seen)) == 1

    @pytest.mark.eggcluster(workers=2)
    def test_other_options(cluster):
        assert cluster not in seen
        assert len(cluster.workers) == 2

    @pytest.mark.eggcluster(scope="function")
    def test_its_own(cluster):
        assert cluster not in seen
    """).assert_outcomes(passed=4)


def test_fixtures_of_different_options_run_side_by_side(run: Run) -> None:
    run("""
    @pytest.fixture(scope="module")
    def green(cluster_factory):
        with cluster_factory(workers=1, start_mode="thread", environ={"COLOUR": "green"}) as cluster:
            yield cluster

    @pytest.fixture
    def red(cluster_factory):
        with cluster_factory(workers=1, start_mode="thread", environ={"COLOUR": "red"}) as cluster:
            yield cluster

    @pytest.mark.parametrize("number", [1, 2])
    def test_both(green, red, number):
        assert (get(green).split()[2], get(red).split()[2]) == ("green", "red")
        assert green.url != red.url
    """).assert_outcomes(passed=2)


def test_the_report_of_a_failing_test_has_the_log_of_that_test(run: Run) -> None:
    result = run("""
    pytestmark = pytest.mark.eggcluster(scope="session", start_mode="thread")

    def test_passes(cluster):
        get(cluster, "/log")

    def test_fails(cluster):
        get(cluster, "/log")
        assert False, "it is wrong"
    """)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*it is wrong*", "*Captured cluster log call*", "a line of the application"])
    assert result.stdout.str().count("a line of the application") == 1


def test_a_boot_that_fails_is_one_error_with_the_log(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=f"{APP}\nprint('so far', flush=True)\nraise LookupError('no database')\n")
    result = run("def test_it(cluster): ...\n")
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    result.stdout.fnmatch_lines(["the cluster did not start: LookupError: no database", "*raise LookupError*"])
    assert "so far" in text
    assert "cluster_pool.py" not in text, "it shows our own code"
    assert "another exception" not in text
    assert text.count("raise LookupError") == 1, "it shows the report twice"


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        ("workers='many'", "*workers: *many*"),
        ("wokers=2", "*wokers*"),
        ("scope='modul'", '*the scope \'modul\' is unknown; use "function" or "session"'),
    ],
)
def test_a_wrong_option_is_one_error(mark: str, line: str, run: Run) -> None:
    result = run(f"@pytest.mark.eggcluster({mark})\ndef test_it(cluster): ...\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str()


def test_a_close_that_fails_is_an_error_of_the_test(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP + "\n@app.on_close\ndef fail():\n    raise LookupError('no end')\n")
    result = run("def test_it(cluster): get(cluster)\n")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["the cluster did not close in order: its exit code is 1; its log:", "*LookupError: no end*"]
    )


def test_workers_of_xdist_run_clusters_side_by_side(run: Run) -> None:
    run(
        """
    @pytest.mark.parametrize("number", range(2))
    @pytest.mark.eggcluster(workers=1, start_mode="thread")
    def test_it(cluster, number):
        assert get(cluster).split()[1] == str(cluster.pid)
    """,
        "-n2",
    ).assert_outcomes(passed=2)


INTERRUPTED = """
import pathlib, time

def test_it(cluster):
    pathlib.Path("reached").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_is_interrupted_leaves_no_process(
    number: signal.Signals, pytester: pytest.Pytester, surroundings: Surroundings
) -> None:
    pytester.makepyfile(test_app=INTERRUPTED)
    with _pytest_run(pytester) as process:
        wait_until((pytester.path / "reached").exists, "the test has its cluster")
        process.send_signal(number)
        process.wait(DEADLINE)
    wait_until(lambda: not surroundings.processes(), "the cluster has closed")
    if number == signal.SIGKILL:  # files are removed by the one that made them
        for directory in surroundings.clusters():
            shutil.rmtree(directory)


def test_a_run_that_is_interrupted_while_the_cluster_boots_leaves_nothing(
    pytester: pytest.Pytester, surroundings: Surroundings
) -> None:
    pytester.makepyfile(app=f"{APP}\nimport pathlib, time\npathlib.Path('reached').touch()\ntime.sleep(60)\n")
    pytester.makepyfile(test_app="def test_it(cluster): ...\n")
    with _pytest_run(pytester) as process:
        wait_until((pytester.path / "reached").exists, "the application is being loaded")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == pytest.ExitCode.INTERRUPTED


def _pytest_run(pytester: pytest.Pytester) -> "subprocess.Popen[bytes]":
    log = (pytester.path / "run.log").open("wb")
    with log:
        return subprocess.Popen([sys.executable, "-m", "pytest", *PLUGIN], cwd=pytester.path, stdout=log, stderr=log)


def test_nothing_is_left_in_the_process_of_the_tests(run: Run) -> None:
    run("""
    import os, threading
    before = {}

    def state():
        return {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}

    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.eggcluster(workers=1, start_mode="thread")
    def test_it(cluster, number):
        before.setdefault("now", state())
        assert state() == before["now"]
    """).assert_outcomes(passed=3)


def test_a_run_that_does_not_use_the_plugin_loads_nothing_of_us(run: Run) -> None:
    run("""
    import sys

    def test_it():
        ours = {name for name in sys.modules if name.partition(".")[0] == "eggcluster"}
        assert ours == {"eggcluster", "eggcluster.testing"}
    """).assert_outcomes(passed=1)


def test_pytest_is_imported_by_the_plugin_alone() -> None:
    root = Path(eggcluster.__file__).parent
    users = {path.relative_to(root).parts[0] for path in root.rglob("*.py") if "import pytest" in path.read_text()}
    assert users == {"testing"}


def test_the_fixture_for_a_view_alone_ends_with_its_test(run: Run) -> None:
    run("""
    from eggcluster import messenger, MessengerClosed
    from eggcluster.testing import SentMessage

    def test_with(sent_messages):
        messenger.send_to_app("news", 1)
        assert sent_messages == [SentMessage("news", 1)]

    def test_without():
        with pytest.raises(MessengerClosed):
            messenger.send_to_app("news", 1)
    """).assert_outcomes(passed=2)


def test_the_example_s_tests_pass(pytester: pytest.Pytester, surroundings: Surroundings) -> None:
    shutil.copytree(EXAMPLE, pytester.path, dirs_exist_ok=True)
    result = pytester.runpytest_subprocess(*PLUGIN, "-c", "pytest.ini", timeout=60)
    result.assert_outcomes(passed=4)


def test_an_installed_package_registers_the_plugin() -> None:
    """As `make test` installs it. A checkout beside an older installation is not what is installed."""
    if not Path(eggcluster.__file__).is_relative_to(sys.prefix):
        pytest.skip("the package under test is not the installed one")
    assert EntryPoint("eggcluster.testing", "eggcluster.testing", "pytest11") in entry_points(group="pytest11")
