"""The examples are run as their table says, from a copy, in every start mode: they have to show what they promise."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.cluster.harness import Launched, Project
from tests.cluster.surroundings import redis_server
from tests.waiting import DEADLINE, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
MODES = ("process", "thread", *(("interpreter",) if sys.version_info >= (3, 14) else ()))
MAX_LINES = 60  # an example that is longer explains itself no more; the board is an application


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, project: Project) -> str:
    """The start mode: from a file beside the example, which is not changed for it."""
    shutil.copytree(EXAMPLES, project.folder / "examples")
    for name in commands():
        (project.folder / "examples" / name / "eggcluster.toml").write_text(f'start_mode = "{request.param}"\n')
    return str(request.param)


def commands() -> dict[str, list[str]]:
    """The commands of examples/README.md by folder."""
    table = (EXAMPLES / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\(\w+/\) \|.*\| `([^`]+)` \|$", table, re.MULTILINE)
    return {name: shlex.split(command) for name, command in rows}


def run(project: Project, name: str, *arguments: str, **environ: str) -> Launched:
    """The example's command, on any free port."""
    program, verb, *documented = commands()[name]
    assert (program, verb) == ("eggcluster", "start")
    project.environ |= environ
    return project.start(*documented, *arguments).wait_ready()


def all_say(cluster: Launched, path: str, key: str, expected: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until every worker, named by `key` of its answer, has last answered as `expected`."""
    said: dict[Any, bool] = {}

    def agreed() -> bool:
        answer = cluster.get(path).json()
        said[answer[key]] = expected(answer)
        return len(said) == len(cluster.workers()) and all(said.values())

    wait_until(agreed, f"all workers say it at {path}, of {said}")


def test_every_example_has_a_command_and_is_short() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(commands()) == folders
    sources = [path for path in EXAMPLES.rglob("*.py") if path.relative_to(EXAMPLES).parts[0] != "board"]
    assert len(sources) > len(folders)
    too_long = {str(path): len(path.read_text().splitlines()) for path in sources}
    assert {path: count for path, count in too_long.items() if count > MAX_LINES} == {}


def test_fastapi_app_tells_all_workers_and_counts_in_the_agent(project: Project, mode: str) -> None:
    if mode == "interpreter":
        refused = project.start(*commands()["fastapi_app"][2:])
        refused.allows_traceback = True  # it is the report
        assert refused.wait_exit() == 1
        assert (
            "pydantic_core._pydantic_core cannot be loaded in a subinterpreter; use --start-mode process" in refused.log
        )
        return
    cluster = run(project, "fastapi_app", "--workers", "2")
    totals = [httpx.post(f"{cluster.address}/notes/{text}").json()["total"] for text in ("a", "b", "c")]
    assert totals == [1, 2, 3]
    all_say(cluster, "/notes", "worker", lambda answer: sorted(answer["heard"]) == ["a", "b", "c"])


def test_chat_takes_what_one_writes_to_the_clients_of_every_worker(project: Project, mode: str) -> None:
    cluster = run(project, "chat")
    assert "new WebSocket" in cluster.get().text
    with contextlib.ExitStack() as clients:
        by_worker: dict[str, ClientConnection] = {}

        def join() -> bool:
            """Connections are spread over the workers: join until there is a client of each."""
            url = cluster.address.replace("http", "ws", 1) + "/ws"
            client = clients.enter_context(connect(url, open_timeout=DEADLINE))
            by_worker[json.loads(client.recv(DEADLINE))["hello"].rpartition(" ")[2]] = client
            return len(by_worker) == 2

        wait_until(join, "a client of each worker")
        for worker, client in by_worker.items():
            client.send(f"hello from {worker}")
            for each in by_worker.values():
                assert json.loads(each.recv(DEADLINE)) == {"text": f"hello from {worker}", "by": worker}


def test_flask_app_shares_the_agent_s_sums(project: Project, mode: str) -> None:
    cluster = run(project, "flask_app", "--workers", "2")
    assert [cluster.get(f"/pages/{name}").text for name in "xyx"] == ["This is x.\n", "This is y.\n", "This is x.\n"]
    all_say(cluster, "/visits", "worker", lambda answer: answer["visits"] == {"x": 2, "y": 1})


def test_django_project_asks_the_agent_from_an_async_view(project: Project, mode: str) -> None:
    cluster = run(project, "django_project", "--workers", "2")
    assert cluster.get().text.startswith("Hello")
    answers = [cluster.get("/visits/eggs").json() for _ in range(4)]
    assert [answer["visits"] for answer in answers] == [1, 2, 3, 4]
    assert {answer["page"] for answer in answers} == {"eggs"}
    assert {answer["worker"] for answer in answers} <= set(cluster.workers().values())
    assert cluster.get("/visits/hens").json()["visits"] == 1
    assert cluster.get("/nowhere").status_code == 404


def test_django_project_passes_django_s_own_check(project: Project) -> None:
    folder = shutil.copytree(EXAMPLES / "django_project", project.folder / "django_project")
    check = [sys.executable, "manage.py", "check", "--fail-level", "WARNING"]
    done = subprocess.run(check, cwd=folder, env=project.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_asgi_callable_says_which_worker_answered(project: Project, mode: str) -> None:
    cluster = run(project, "asgi_callable", "--workers", "2")
    answer = cluster.get("/some/path").text
    assert answer in {f"GET /some/path answered by worker {worker}\n" for worker in cluster.workers().values()}


def test_cache_refresh_follows_its_source_in_every_worker(project: Project, mode: str) -> None:
    cluster = run(project, "cache_refresh", "--workers", "2", ASK_EVERY="100ms")
    source = project.folder / "examples" / "cache_refresh" / "prices.json"
    before = json.loads(source.read_text())
    all_say(cluster, "/prices", "worker", lambda answer: answer["prices"] == before)
    after = {**before, "ostrich egg": 25.0}
    replacement = source.with_suffix(".new")
    replacement.write_text(json.dumps(after))
    os.utime(replacement, (1, 1))  # another time than the old file's, whatever the clock's resolution
    replacement.rename(source)
    all_say(cluster, "/prices", "worker", lambda answer: answer["prices"] == after)


def test_job_queue_gives_each_job_to_one_worker_and_loses_none(project: Project, mode: str, tmp_path: Path) -> None:
    with redis_server(tmp_path):
        cluster = run(project, "job_queue", REDIS_URL=f"unix://{tmp_path}/redis.sock")
        cluster.allows_traceback = True  # a job that fails is one of the jobs
        names = [f"hen{n}@example.org" for n in range(20)]
        for name in [*names[:10], "nobody", *names[10:]]:
            assert httpx.post(f"{cluster.address}/mails/{name}").status_code == 200
        wait_until(lambda: len(cluster.get("/mails").json()["sent"]) == 20, "all are sent")
        mails = cluster.get("/mails").json()
        assert set(map(int, mails["sent"].values())) == set(cluster.workers().values())
        assert mails["failed"] == ['{"to": "nobody"}']
        assert cluster.close() == 0


def test_cache_refresh_is_pushed_what_the_feed_learns(project: Project, mode: str) -> None:
    cluster = run(project, "cache_refresh", "--workers", "2")
    httpx.put(f"{cluster.address}/prices/egg/0.4").raise_for_status()
    all_say(cluster, "/prices", "worker", lambda answer: answer["prices"]["egg"] == 0.4)


def test_rate_limiter_counts_over_all_workers(project: Project, mode: str) -> None:
    cluster = run(project, "rate_limiter", "--workers", "2")

    def ask(key: str) -> int:
        return cluster.get(headers={"x-api-key": key}).status_code

    assert [ask("a") for _ in range(12)] == [200] * 10 + [429] * 2
    assert ask("b") == 200, "each client has its own count"
    counts = cluster.get("/counts", headers={"x-api-key": "c"}).json()
    assert counts == {"requests:a": 10, "requests:b": 1, "requests:c": 1}


def test_flask_limiter_counts_over_all_workers(project: Project, mode: str) -> None:
    cluster = run(project, "flask_limiter")

    def ask(path: str, key: str) -> int:
        return cluster.get(path, headers={"x-api-key": key}).status_code

    assert [ask("/reports", "a") for _ in range(5)] == [200] * 3 + [429] * 2
    assert [ask("/", "a") for _ in range(12)] == [200] * 10 + [429] * 2
    answer = cluster.get("/reports", headers={"x-api-key": "b"})
    assert answer.json()["worker"] in cluster.workers().values()
    assert answer.headers["x-ratelimit-remaining"] == "2", "each client has its own count"


def test_django_cache_has_what_one_worker_computes_in_all(project: Project, mode: str) -> None:
    cluster = run(project, "django_cache")
    report = cluster.get("/report").json()["report"]
    assert report["by"] in cluster.workers().values()
    all_say(cluster, "/report", "worker", lambda answer: answer["report"] == report)
    assert [cluster.get("/visits/home").json()["visits"] for _ in range(10)] == list(range(1, 11))
    assert cluster.get("/visits/other").json()["visits"] == 1
    assert [cluster.get("/forget").json()["was there"] for _ in range(2)] == [True, False]


def test_rate_limiter_serves_at_once_while_there_is_no_agent(project: Project, mode: str) -> None:
    """An agent that stands still looks like one that is being replaced, for as long as the test needs. A write waits 5
    seconds for it."""
    if mode != "process":
        pytest.skip("a thread cannot be stopped")
    cluster = run(project, "rate_limiter", "--workers", "1", "--agent-timeout", "60")
    agent, address = wait_until(cluster.agent, "an agent"), cluster.address
    os.kill(agent, signal.SIGSTOP)
    try:
        answers = [
            httpx.get(address, headers={"x-api-key": "a"}, timeout=3) for _ in range(20)
        ]  # a write waits for 5 seconds
    finally:
        os.kill(agent, signal.SIGCONT)
    assert {answer.status_code for answer in answers} == {200}
    assert "requests are not counted now" in cluster.log
    wait_until(lambda: cluster.get(headers={"x-api-key": "b"}).status_code == 429, "they are counted again")


def test_broker_consumer_loses_no_order_when_the_agent_is_replaced(project: Project, mode: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as broker:
        orders = [*map(str, range(100)), "the moon"]
        broker.rpush("orders", *orders[:50])
        cluster = run(project, "broker_consumer", "--workers", "2", BROKER=f"unix://{tmp_path}/redis.sock")
        cluster.allows_traceback = True
        wait_until(lambda: cluster.get("/orders").json().get("done", 0) > 10, "it consumes")
        if mode == "process":
            os.kill(wait_until(cluster.agent, "an agent"), signal.SIGKILL)
        else:  # a thread cannot be killed
            assert cluster.command("reload", "--agent", "--name", "broker_consumer").returncode == 0
        broker.rpush("orders", *orders[50:])
        wait_until(lambda: broker.exists("orders", "orders:doing") == 0, "all orders are done")
        wait_until(lambda: cluster.get("/orders").json().get("refused") == 1, "one cannot be done")
        # A worker's copy of what is shared may be a moment behind the agent.
        done = wait_until(lambda: (count := cluster.get("/orders").json()["done"]) >= 100 and count, "all are counted")
        assert done <= 101, "each once, the one that was under way perhaps twice"


def test_tested_app_tells_all_workers_and_counts_in_the_agent(project: Project, mode: str) -> None:
    """Its own tests are run in test_pytest_plugin.py."""
    cluster = run(project, "tested_app")
    assert [httpx.post(f"{cluster.address}/guests/{name}").json()["number"] for name in ("hen", "egg")] == [1, 2]
    all_say(cluster, "/guests", "worker", lambda answer: answer["guests"] == ["hen", "egg"])


def test_embedded_program_starts_asks_and_closes_its_cluster(project: Project, mode: str) -> None:
    python, *arguments = commands()["embedded"]
    assert python == "python"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stderr
    assert done.returncode == 0, said
    assert "7 squared is {'slot': 1, 'result': 49}" in said
    assert "8 squared is {'slot': 2, 'result': 64}" in said
    assert re.search(r"^Hello egg, this is app_worker#[12]\.$", said, re.MULTILINE)
    assert "a worker told its parent the name that it greeted: egg" in said
    assert said.rstrip().endswith("closed, exit code 0")
    assert not list(Path(project.environ["EGG_RUNTIME_DIR"]).rglob("*"))
    assert not any(str(project.folder) in json.dumps(_environ(process)) for process in psutil.process_iter())


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


# -- the board ---------------------------------------------------------------------------------------------


@pytest.fixture
def board(project: Project, mode: str) -> Launched:
    return run(project, "board")


def generations(board: Launched) -> dict[int, int]:
    """The generations of the listening workers by slot."""
    status = board.status()
    assert status is not None
    return {w["slot"]: w["generation"] for w in status["workers"] if w["state"] == "listening"}


def history_of(board: Launched, slot: int) -> list[Any]:
    """What that slot's worker answers."""

    def told() -> list[Any] | None:
        answer = board.get("/api/history").json()
        history: list[Any] = answer["history"]
        return history if answer["served_by"]["slot"] == slot else None

    return wait_until(told, f"slot {slot} answers") or []


def test_board_shows_the_machine_s_figures_and_the_cluster(board: Launched) -> None:
    sample = wait_until(lambda: board.get("/api/now").json()["sample"], "a first sample", 8)
    assert len(sample["cpu"]) == psutil.cpu_count()
    assert all(0 <= percent <= 100 for percent in sample["cpu"])
    assert sample["memory"]["total"] == psutil.virtual_memory().total
    assert 0 < sample["memory"]["used"] < sample["memory"]["total"]
    assert len(sample["load"]) == 3
    assert all(rate >= 0 for rate in sample["network"].values())

    answer = board.get("/api/cluster").json()
    assert answer["cluster"]["phase"] == "serving"
    assert answer["cluster"]["agent"]["worker_id"] == board.agent()
    assert {w["slot"]: w["worker_id"] for w in answer["cluster"]["workers"]} == board.workers()
    assert board.workers()[answer["served_by"]["slot"]] == answer["served_by"]["worker_id"]

    histories: dict[int, list[Any]] = {}

    def all_have_it() -> bool:
        answer = board.get("/api/history").json()
        histories[answer["served_by"]["slot"]] = answer["history"]
        return len(histories) == 3 and all(sample in history for history in histories.values())

    wait_until(all_have_it, "one agent measures for all: every worker has the same sample")


def test_board_serves_its_page_with_all_that_it_loads(board: Launched) -> None:
    page = board.get()
    assert page.headers["content-type"].startswith("text/html")
    assert "SERVED_BY" not in page.text
    for file in sorted((EXAMPLES / "board" / "page").glob("*.*")):
        assert board.get(f"/page/{file.name}").text == file.read_text()
    loaded = [path for path in re.findall(r'(?:src|href)="([^"]+)"', page.text) if not path.startswith("data:")]
    assert "/page/board.js" in loaded
    assert all(board.get(path).status_code == 200 for path in loaded)


def test_board_pushes_samples_and_replaces_the_worker_that_is_made_to_crash(board: Launched) -> None:
    assert generations(board) == {1: 1, 2: 1, 3: 1}
    with connect(board.address.replace("http", "ws", 1) + "/ws", open_timeout=DEADLINE) as socket:
        hello = json.loads(socket.recv(DEADLINE))
        assert isinstance(hello["history"], list)
        pushed = [json.loads(socket.recv(DEADLINE))["sample"] for _ in range(2)]
        assert pushed[0]["time"] < pushed[1]["time"]
        slot = hello["served_by"]["slot"]

        crashed = httpx.post(f"{board.address}/api/crash", params={"who": f"app#{slot}"})
        assert crashed.json() == {"crashing": f"app#{slot}"}
        with pytest.raises(ConnectionClosedError):
            list(socket)

    expected = {1: 1, 2: 1, 3: 1, slot: 2}
    wait_until(lambda: generations(board) == expected, f"slot {slot} has its second generation")

    assert pushed[0] in history_of(board, slot)  # from before its birth


def test_board_crashes_the_worker_that_answers_and_refuses_unknown_names(board: Launched) -> None:
    assert httpx.post(f"{board.address}/api/crash", params={"who": "master"}).status_code == 422
    crashing = httpx.post(f"{board.address}/api/crash").json()["crashing"]
    expected = {1: 1, 2: 1, 3: 1, int(crashing.removeprefix("app#")): 2}
    wait_until(lambda: generations(board) == expected, f"{crashing} has its second generation")


def test_board_s_next_agent_remembers_what_the_last_one_measured(board: Launched) -> None:
    first = board.agent()
    sample = wait_until(lambda: board.get("/api/now").json()["sample"], "a first sample", 8)
    assert httpx.post(f"{board.address}/api/crash", params={"who": "agent"}).json() == {"crashing": "agent"}
    wait_until(lambda: board.agent() not in (None, first), "the agent has been replaced")
    # A worker born now has no memory but the agent's.
    wait_until(lambda: board.get("/api/now").json()["sample"]["time"] > sample["time"] + 1, "it measures again")
    httpx.post(f"{board.address}/api/crash", params={"who": "app#2"})
    wait_until(lambda: generations(board).get(2) == 2, "the second worker has been replaced")

    assert sample in history_of(board, 2)
