"""`eggcluster dev`: a file is saved, and the next answer is the new version's."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from eggcluster.kernel.process_tree import is_running
from tests.cluster.harness import AGENT, Launched, Project, family
from tests.waiting import DEADLINE, wait_until

pytest.importorskip("watchfiles")

APP = """
import asyncio
from eggcluster import Application
import words

async def api(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/late":
        import late
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        while True:
            await send({"type": "http.response.body", "body": b"tick\\n", "more_body": True})
            await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": (words.WORD).encode()})

app = Application(api)
"""
STREAMS_END = 3.0  # seconds; without the short drain an endless stream holds its worker for four


def dev(project: Project, *arguments: str, **files: str) -> Launched:
    """A cluster of `eggcluster dev` whose application answers with what words.py says."""
    project.write(**{"app": APP, "words": "WORD = 'one'\n", **files})
    return project.start(*arguments, verb="dev")


def answers(cluster: Launched, word: str) -> None:
    wait_until(lambda: cluster.get().text.startswith(word), f"the answer {word!r}")


def write(path: Path, text: str) -> None:
    """Save in place."""
    path.write_text(text)


def save(path: Path, text: str) -> None:
    """Save as many editors do: another file takes the place of the old one."""
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text(text)
    draft.replace(path)


def generation(cluster: Launched, role: str) -> int:
    status = cluster.status()
    assert status is not None
    return int((status["agent"] if role == "agent" else status["workers"][0])["generation"])


def watcher(cluster: Launched) -> psutil.Process | None:
    """The file watcher's process, None while there is none."""
    return next((each for each in family(cluster.pid) if title(each).startswith("egg-watcher: ")), None)


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


# -- a change ------------------------------------------------------------------------------------------------


def test_a_saved_file_is_the_next_answer_and_the_agent_stays(project: Project) -> None:
    cluster = dev(project, agent=AGENT).wait_ready()
    answers(cluster, "one")
    for number, way in enumerate((write, save, write)):
        way(project.folder / "words.py", f"WORD = 'word {number}'\n")
        answers(cluster, f"word {number}")
    assert generation(cluster, "agent") == 1
    assert "words.py changed, reloading" in cluster.log
    status = cluster.status()
    assert status is not None
    assert len(status["workers"]) == 1
    assert cluster.close() == 0


def test_a_version_of_the_same_second_and_size_is_no_older_byte_code(project: Project) -> None:
    project.write(app=APP, words="WORD = 'one'\n")
    cluster = project.start(verb="dev", PYTHONDONTWRITEBYTECODE="").wait_ready()
    second = time.time_ns() // 10**9 * 10**9
    for nanoseconds, word in enumerate(("two", "six", "ten")):
        draft = project.folder / "draft"
        draft.write_text(f"WORD = '{word}'\n")
        os.utime(draft, ns=(second, second + nanoseconds))
        draft.replace(project.folder / "words.py")
        answers(cluster, word)
    assert cluster.close() == 0


def test_the_agent_is_replaced_if_its_own_file_has_changed(project: Project) -> None:
    cluster = dev(project, agent=f"import helper\n{AGENT}", helper="").wait_ready()
    save(project.folder / "helper.py", "changed = True\n")
    wait_until(lambda: generation(cluster, "agent") == 2 and cluster.agent(), "there is another agent")
    assert cluster.close() == 0


def test_files_that_are_saved_together_are_one_version(project: Project) -> None:
    app = "import more\n" + APP.replace("(words.WORD)", "(words.WORD + more.WORD)")
    cluster = dev(project, app=app, more="WORD = '1'\n").wait_ready()
    save(project.folder / "words.py", "WORD = 'two'\n")
    save(project.folder / "more.py", "WORD = '2'\n")
    answers(cluster, "two2")
    cluster.wait_log("reload done")
    assert cluster.close() == 0


def saved_until_noticed(cluster: Launched, name: str) -> None:
    """Save a file again and again: until the file watcher knows of it, nothing has to notice the change."""
    count = 0

    def noticed() -> bool:
        nonlocal count
        count += 1
        save(cluster.folder / name, "#" * count)
        with contextlib.suppress(AssertionError):
            return wait_until(lambda: f"{name} changed, reloading" in cluster.log, deadline=1)
        return False

    wait_until(noticed, f"the change of {name} is noticed")


def test_a_file_that_is_imported_within_a_request_counts_too(project: Project) -> None:
    cluster = dev(project, late="").wait_ready()
    assert cluster.get("/late").status_code == 200
    saved_until_noticed(cluster, "late.py")
    assert cluster.close() == 0


def test_what_the_options_name_counts_and_the_env_file(project: Project) -> None:
    (project.folder / "lib").mkdir()
    cluster = dev(project, "--reload-include", "*.html", "--reload-dir", "lib", agent=AGENT).wait_ready()
    for name in ("page.html", "lib/other.py"):
        before = generation(cluster, "app")
        saved_until_noticed(cluster, name)
        wait_until(lambda before=before: generation(cluster, "app") > before, "another worker")  # type: ignore[misc]
    assert generation(cluster, "agent") == 1
    saved_until_noticed(cluster, ".env")
    wait_until(lambda: generation(cluster, "agent") > 1, "the agent has read the new .env")
    assert cluster.close() == 0


# -- a version that does not start -----------------------------------------------------------------------------


BROKEN = {
    "a syntax error": ("words", "WORD = (\n", "SyntaxError: '(' was never closed"),
    "an exception": ("words", "raise ValueError('not yet')\n", "ValueError: not yet"),
    "a module to come": ("words", "from other import WORD\n", "ModuleNotFoundError: No module named 'other'"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_last_good_version_serves_until_the_next_one_is_mended(project: Project, what: str) -> None:
    file, text, told = BROKEN[what]
    cluster = dev(project).wait_ready()
    cluster.allows_traceback = True
    save(project.folder / f"{file}.py", text)
    cluster.wait_log("reload stopped, the current workers go on")
    assert f"could not start: {told}" in cluster.log
    assert f'File "{project.folder / file}.py"' in cluster.log
    assert cluster.get().text.startswith("one")
    save(project.folder / ("other.py" if "other" in text else f"{file}.py"), "WORD = 'mended'\n")
    answers(cluster, "mended")
    assert cluster.close() == 0


@pytest.mark.parametrize("what", BROKEN)
def test_the_first_version_may_be_broken_too(project: Project, what: str) -> None:
    file, text, told = BROKEN[what]
    cluster = dev(project, **{file: text})
    cluster.allows_traceback = True
    cluster.wait_log("is started again when its files change")
    assert f"could not start: {told}" in cluster.log
    save(project.folder / ("other.py" if "other" in text else f"{file}.py"), "WORD = 'mended'\n")
    answers(cluster.wait_ready(), "mended")
    assert cluster.close() == 0


@pytest.mark.parametrize("how", ["--preload", "--start-mode=thread"])
def test_other_ways_to_start_workers_do_the_same(project: Project, how: str) -> None:
    cluster = dev(project, how, words="WORD = (\n")
    cluster.allows_traceback = True
    cluster.wait_log("is started again when its files change")
    save(project.folder / "words.py", "WORD = 'one'\n")
    answers(cluster.wait_ready(), "one")
    save(project.folder / "words.py", "WORD = 'second'\n")
    answers(cluster, "second")
    save(project.folder / "words.py", "WORD = (\n")
    cluster.wait_log("reload stopped, the current workers go on")
    assert cluster.get().text == "second"
    save(project.folder / "words.py", "WORD = 'mended'\n")
    answers(cluster, "mended")
    assert cluster.close() == 0


def test_a_broken_agent_waits_for_its_mending(project: Project) -> None:
    cluster = dev(project, agent=f"raise ValueError('not yet')\n{AGENT}")
    cluster.allows_traceback = True
    cluster.wait_log("is started again when its files change")
    save(project.folder / "agent.py", AGENT)
    answers(cluster.wait_ready(), "one")
    assert cluster.close() == 0


def test_ctrl_c_ends_the_waiting(project: Project) -> None:
    cluster = dev(project, words="raise ValueError('not yet')\n")
    cluster.allows_traceback = True
    cluster.wait_log("is started again when its files change")
    cluster.signal(signal.SIGINT)
    assert cluster.wait_exit() == 0


# -- streams -------------------------------------------------------------------------------------------------


@pytest.fixture
def streaming(project: Project) -> Iterator[Launched]:
    """A cluster, and an endless response of its worker that is under way."""
    cluster = dev(project).wait_ready()
    with httpx.stream("GET", f"{cluster.address}/stream", timeout=DEADLINE) as response:
        lines = response.iter_lines()
        assert next(lines) == "tick"
        yield cluster


def test_a_reload_waits_for_no_stream(project: Project, streaming: Launched) -> None:
    old = streaming.workers()[1]
    save(project.folder / "words.py", "WORD = 'two'\n")
    answers(streaming, "two")
    began = time.monotonic()
    wait_until(lambda: not is_running(old), "the old worker is gone")
    assert time.monotonic() - began < STREAMS_END
    streaming.wait_log("cut 1 stream (/stream)")


def test_ctrl_c_waits_for_no_stream(streaming: Launched) -> None:
    began = time.monotonic()
    streaming.signal(signal.SIGINT)
    assert streaming.wait_exit() == 0
    assert time.monotonic() - began < STREAMS_END


# -- the file watcher ----------------------------------------------------------------------------------------


def test_the_file_watcher_ends_with_its_master_and_is_replaced_if_it_dies(project: Project) -> None:
    cluster = dev(project).wait_ready()
    first = wait_until(lambda: watcher(cluster), "there is a file watcher")
    first.kill()
    wait_until(lambda: (found := watcher(cluster)) and found.pid != first.pid, "there is another one")
    save(project.folder / "words.py", "WORD = 'two'\n")
    answers(cluster, "two")
    cluster.signal(signal.SIGKILL)
    cluster.wait_exit()
    wait_until(lambda: not cluster.family(), "nothing is left")


def test_without_reload_there_is_none(project: Project) -> None:
    cluster = dev(project, "--no-reload").wait_ready()
    assert watcher(cluster) is None
    save(project.folder / "words.py", "WORD = 'two'\n")
    assert cluster.command("reload").returncode == 0
    answers(cluster, "two")
    assert cluster.close() == 0


def test_a_library_that_is_missing_is_one_line(project: Project) -> None:
    project.write(app=APP, words="WORD = 'one'\n", sitecustomize="import sys\nsys.modules['watchfiles'] = None\n")
    environ = {"PYTHONPATH": os.pathsep.join([str(project.folder), os.environ.get("PYTHONPATH", "")])}
    told = project.command("dev", **environ)
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert 'pip install "eggcluster[dev]"' in line
    assert "--no-reload" in line
