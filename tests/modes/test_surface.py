"""What a user sees and chooses: the log, the status, sticky, a factory, WSGI, FastAPI; in every mode."""

import contextlib
import json
import re

from tests.cluster.clients import Target, homes
from tests.modes.conftest import Site, Visitor
from tests.waiting import wait_until

FACTORY = """
def make():
    from eggcluster import Application

    async def answer(scope, receive, send):
        if scope["type"] != "http":
            return
        text = f"{made.slot} {id(made)}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})

    made = Application(answer)
    made.messenger.on("who", lambda data: made.slot)
    return made
"""
WSGI = """
import threading
from eggcluster import Application, messenger

def wsgi(environ, start):
    start("200 OK", [("content-type", "text/plain")])
    messenger.send_to_agent("note", app.slot)
    return [f"{app.slot} {app.worker_id}".encode()]

app = Application(wsgi)
"""
FASTAPI = """
import both
from fastapi import FastAPI
from eggcluster import Application

api = FastAPI()
app = Application(api)

@api.get("/plain")
def plain() -> dict[str, int]:
    return {"slot": app.slot, "worker_id": app.worker_id}

@api.get("/")
async def loop() -> dict[str, int]:
    return {"slot": app.slot, "worker_id": app.worker_id}
"""


def test_log_lines_name_the_worker_that_spoke(site: Site) -> None:
    speak = "import logging\nlogging.getLogger('mine').warning('here')\n"
    site.append(
        "app",
        "@app.on_ready\nasync def speak():\n    await asyncio.to_thread(app.logger.warning, 'ready %d', app.slot)",
    )
    site.append("agent", "@agent.on_ready\ndef speak():\n    agent.logger.warning('ready')")
    cluster = site.launch("--workers", "2").wait_ready()
    with contextlib.closing(Visitor(cluster, 2)) as visitor:
        visitor.tell(speak)
    workers, agent = cluster.workers(), cluster.agent()
    for slot, id in workers.items():
        cluster.wait_log(f"WARNING {id} [app_worker#{slot}] ready {slot}")
    cluster.wait_log(f"WARNING {agent} [agent_worker] ready")
    cluster.wait_log(f"WARNING {workers[2]} [app_worker#2] here")
    assert f"INFO {cluster.pid} [master] app_worker#1:{workers[1]} started" in cluster.log
    assert cluster.close() == 0
    for slot, id in workers.items():
        assert f"INFO {id} [app_worker#{slot}] exit with code:0" in cluster.log


def test_each_role_logs_from_a_level_of_its_own(site: Site) -> None:
    site.environ |= {"EGG_APP_WORKER_LOGGER_LEVEL": "ERROR", "EGG_AGENT_WORKER_LOGGER_LEVEL": "DEBUG"}
    site.append("app", "@app.on_start\ndef speak():\n    app.logger.warning('quiet'); app.logger.error('loud')")
    site.append("agent", "@agent.on_start\ndef speak():\n    agent.logger.debug('whispered')")
    cluster = site.launch("--workers", "1", "--log-format", "json").wait_ready()
    assert cluster.close() == 0
    lines = [json.loads(line) for line in cluster.log.splitlines()]
    said = {(line["speaker"], line["message"]) for line in lines}
    assert ("app_worker#1", "loud") in said
    assert ("app_worker#1", "quiet") not in said
    assert ("agent_worker", "whispered") in said
    assert not [line for line in lines if line["level"] == "DEBUG" and line["speaker"] == "master"]


def test_the_status_knows_memory_of_processes_alone(site: Site) -> None:
    cluster = site.launch("--workers", "2").wait_ready()
    table = cluster.command("status").stdout
    assert all(str(id) in table for id in cluster.workers().values())
    plain = json.loads(cluster.command("status", "--json").stdout)
    known = [worker.get("rss") or worker.get("memory") for worker in plain["workers"]]
    assert all(known) is not site.shares_process, plain["workers"][0]
    assert plain["start_mode"] == site.mode


def test_a_client_keeps_its_worker_when_sticky(site: Site) -> None:
    site.write(
        app="import os\nfrom eggcluster import Application\n"
        "async def api(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': f'{app.slot}:{app.worker_id}'.encode()})\n"
        "app = Application(api)\nshared = app.shared\n"
    )
    cluster = site.launch("--workers", "2", "--sticky").wait_ready()
    target, sources = Target.of(cluster), [f"127.0.0.{n}" for n in range(2, 22)]
    first = homes(target, sources)
    assert set(first.values()) == {1, 2}
    assert homes(target, sources) == first
    assert cluster.command("reload").returncode == 0
    assert homes(target, sources) == first
    assert cluster.close() == 0


def test_a_key_keeps_its_worker_unless_it_is_an_interpreter(site: Site) -> None:
    site.write(
        app="from eggcluster import Application\n"
        "async def api(scope, receive, send):\n"
        "    query = scope['query_string']\n"
        "    if query.startswith(b'claim='):\n"
        "        app.claim(query.removeprefix(b'claim='))\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': f'{app.slot}'.encode()})\n"
        "app = Application(api)\nshared = app.shared\n"
    )
    cluster = site.launch("--workers", "2", "--sticky-by", "query:room")
    if site.mode == "interpreter":
        assert cluster.wait_exit() == 2
        return
    cluster.wait_ready()
    placed = [cluster.get(f"/?room={key}").text for key in range(20)]
    assert set(placed) == {"1", "2"}
    assert [cluster.get(f"/?room={key}").text for key in range(20)] == placed
    for key in range(6):
        slot = cluster.get(f"/?claim=c{key}").text
        assert cluster.get(f"/?room=c{key}").text == slot
    assert "6 keys" in cluster.command("status").stdout
    assert cluster.close() == 0


def test_a_factory_gives_each_worker_an_application_of_its_own(site: Site) -> None:
    site.write(factory=FACTORY)
    cluster = site.launch("factory:make", "--factory", "--workers", "2").wait_ready()
    said: dict[int, str] = {}

    def both() -> bool:
        slot, made = cluster.get().text.split()
        said[int(slot)] = made
        return len(said) == 2

    wait_until(both, "both have answered")
    if site.shares_modules:
        assert said[1] != said[2]
    assert cluster.close() == 0


def test_wsgi_works(site: Site) -> None:
    cluster = (
        site.write(app=WSGI + "app.shared\n" + "from registry import Registry\n").launch("--workers", "2").wait_ready()
    )
    said: dict[int, int] = {}

    def both() -> bool:
        slot, id = map(int, cluster.get().text.split())
        said[slot] = id
        return len(said) == 2

    wait_until(both, "both have answered")
    assert said == cluster.workers()
    assert cluster.close() == 0


def test_fastapi_works_where_pydantic_can_be_loaded_and_else_the_error_names_it(site: Site) -> None:
    cluster = site.write(app=FASTAPI).launch("--workers", "2")
    if site.mode == "interpreter":
        cluster.allows_traceback = True
        assert cluster.wait_exit() == 1
        assert re.search(
            r"pydantic_core\S* cannot be loaded in a subinterpreter; use --start-mode process", cluster.log
        )
        return
    cluster.wait_ready()
    for path in ("/plain", "/"):
        answer = cluster.get(path).json()
        assert answer["worker_id"] == cluster.workers()[answer["slot"]]
    assert cluster.close() == 0


def test_both_objects_may_live_in_one_module(site: Site) -> None:
    one = (
        "from eggcluster import Agent, Application, messenger\n"
        "agent = Agent()\n"
        "async def api(scope, receive, send): ...\n"
        "app = Application(api)\n"
        "app.messenger.on('who', lambda data: ['app', app.slot])\n"
        "agent.messenger.on('who', lambda data: ['agent', agent.slot])\n"
        "messenger.on('any', lambda data: 'any')\n"
        "@app.on_ready\n"
        "async def ready():\n"
        "    ask = app.messenger.request\n"
        "    found = [await ask('who'), await ask('who', to='app#2'), await ask('any'), await ask('any', to='app#2')]\n"
        "    app.logger.warning('found %s', found)\n"
    )
    cluster = site.write(one=one).launch("one:app", "--agent", "one:agent", "--workers", "2").wait_ready()
    cluster.wait_log("found [['agent', 0], ['app', 2], 'any', 'any']")
    assert cluster.close() == 0


def test_an_app_that_imports_its_agent_s_module_gets_what_is_everybody_s(site: Site) -> None:
    site.write(
        agent="from eggcluster import Agent, messenger\nagent = Agent()\nLIMIT = 5\n"
        "messenger.on('any', lambda data: 'any')\nagent.messenger.on('mine', lambda data: 'agent')\n",
        app="from agent import LIMIT\nfrom eggcluster import Application, RemoteError\n"
        "async def api(scope, receive, send): ...\napp = Application(api)\n"
        "@app.on_ready\nasync def ready():\n"
        "    ask = app.messenger.request\n"
        "    found = [await ask('any'), await ask('any', to='app#1'), await ask('mine')]\n"
        "    try: await ask('mine', to='app#1')\n"
        "    except RemoteError as error: found.append(error.kind)\n"
        "    app.logger.warning('found %s', found)\n",
    )
    cluster = site.launch("--workers", "2").wait_ready()
    cluster.wait_log("found ['any', 'any', 'agent', 'NoHandler']")
    assert cluster.close() == 0


def test_code_at_import_runs_once_for_each_that_has_its_own_modules(site: Site) -> None:
    site.append("app", "both.mark('imports', 'app')")
    cluster = site.launch("--workers", "2").wait_ready()
    assert len(site.marks("imports")) == (1 if site.shares_modules else 2)
    assert cluster.close() == 0
