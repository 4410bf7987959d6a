"""`--preload`: what the template of the application is, what its workers inherit, and what happens without it."""

import os
import re
import shutil
import signal

import psutil
import pytest

from eggcluster.kernel.process_tree import children_of, is_running
from tests.cluster.harness import AGENT, HELLO, TEMPLATES, Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.cluster.test_template import kill_worker, mark_in_proc, titled
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="there are no templates")

NOTED = """
remote.mark("imports", os.getpid())

@app.on_preload
def preloaded():
    remote.mark("preloads", os.getpid())

@app.on_fork
def forked():
    remote.mark("forks", os.getpid())

@app.on_fork
async def forked_too():
    remote.mark("forks", os.getpid())
"""


def preloading(project: Project, app: str = "", agent: str = "") -> Project:
    return obedient(project, app="import os\n" + NOTED + app, agent=agent)


def preload_template(cluster: Launched) -> int:
    """The pid of the template that has the application, once there is only one."""

    def found() -> int:
        pids = [each.pid for each in titled(cluster, "egg-template") if "(preload)" in each.cmdline()[0]]
        return pids[0] if len(pids) == 1 else 0

    return wait_until(found, "there is one template of --preload")


def imports(project: Project) -> list[int]:
    return [int(line[0]) for line in marks(project, "imports")]


def test_the_application_is_imported_once_and_every_worker_runs_its_fork_hooks(project: Project) -> None:
    forked = "import os, remote\n@agent.on_fork\ndef forked(): remote.mark('agents', os.getpid())\n"
    cluster = preloading(project, agent=forked).start("--preload", "--workers", "3").wait_ready()
    template = preload_template(cluster)
    assert imports(project) == [template]
    assert marks(project, "preloads") == [[str(template)]]
    pids = [str(pid) for pid in cluster.workers().values()]
    assert sorted(marks(project, "forks")) == sorted([pid] for pid in pids + pids)
    assert marks(project, "agents") == [[str(cluster.agent())]]
    assert cluster.close() == 0


def test_its_workers_are_the_masters_children_and_show_their_own_marks(project: Project) -> None:
    cluster = preloading(project).start("--preload", "--workers", "2").wait_ready()
    template = psutil.Process(preload_template(cluster))
    assert (template.ppid(), template.num_threads(), os.getsid(template.pid)) == (cluster.pid, 1, template.pid)
    for pid in cluster.workers().values():
        assert pid in children_of(cluster.pid)
        assert os.getsid(pid) == os.getpgid(pid) == pid
    shown = [mark_in_proc(pid).rpartition("/")[2] for pid in cluster.workers().values()]
    assert shown == ["app#1.1", "app#2.1"]


def test_without_it_each_worker_imports_the_application_and_runs_the_hooks(project: Project) -> None:
    cluster = preloading(project).start("--workers", "2").wait_ready()
    pids = sorted(cluster.workers().values())
    assert sorted(imports(project)) == pids
    assert sorted(marks(project, "preloads")) == sorted([str(pid)] for pid in pids)
    assert len(marks(project, "forks")) == 4


def test_a_worker_that_dies_is_replaced_from_the_template(project: Project) -> None:
    cluster = preloading(project).start("--preload", "--workers", "2").wait_ready()
    for _ in range(3):
        assert kill_worker(cluster) in children_of(cluster.pid)
    assert len(imports(project)) == 1


def test_a_template_that_dies_is_replaced_and_its_workers_live_on(project: Project) -> None:
    cluster = preloading(project).start("--preload", "--workers", "2").wait_ready()
    before, workers = preload_template(cluster), cluster.workers()
    os.kill(before, signal.SIGKILL)
    cluster.wait_log(f"the template of --preload {before} died (code: -9)")
    wait_until(lambda: len(imports(project)) == 2, "the application is imported anew")
    assert cluster.workers() == workers
    kill_worker(cluster)
    assert imports(project) == [before, preload_template(cluster)]


def test_both_templates_that_die_are_replaced(project: Project) -> None:
    cluster = preloading(project).start("--preload", "--workers", "2").wait_ready()
    workers = cluster.workers()
    for each in titled(cluster, "egg-template"):
        each.kill()
    wait_until(lambda: len(imports(project)) == 2, "the application is imported anew")
    assert cluster.workers() == workers
    kill_worker(cluster)
    assert len(imports(project)) == 2


VERSION = "\nasync def api(scope, receive, send): await remote.api(scope, receive, send)\nVERSION = {!r}\n"


def version(cluster: Launched, slot: int) -> str:
    with connect(cluster, slot) as worker:
        return str(worker.tell("import app; return app.VERSION"))


def test_a_reload_begins_a_new_template_and_ends_the_old_one(project: Project) -> None:
    cluster = preloading(project, VERSION.format("one")).start("--preload", "--workers", "2").wait_ready()
    before = preload_template(cluster)
    preloading(project, VERSION.format("two"))
    assert cluster.command("reload").returncode == 0
    assert [version(cluster, slot) for slot in (1, 2)] == ["two", "two"]
    wait_until(lambda: not is_running(before), "the old template has ended")
    assert imports(project) == [before, preload_template(cluster)]


def test_a_version_that_cannot_be_imported_leaves_everything_as_it_was(project: Project) -> None:
    cluster = preloading(project, VERSION.format("one")).start("--preload", "--workers", "2").wait_ready()
    cluster.allows_traceback = True
    before, workers = preload_template(cluster), cluster.workers()
    preloading(project, VERSION.format("two") + "\nraise RuntimeError('not today')\n")
    answer = cluster.command("reload")
    assert answer.returncode == 1
    assert "RuntimeError: not today" in answer.stdout + answer.stderr
    assert "app.py" in cluster.log  # the traceback
    assert len(imports(project)) == 2  # not tried again in the worker
    assert cluster.workers() == workers
    assert preload_template(cluster) == before
    kill_worker(cluster)
    assert version(cluster, 1) == "one"
    os.kill(preload_template(cluster), signal.SIGKILL)
    preloading(project, VERSION.format("three"))
    wait_until(lambda: len(imports(project)) == 3, "the application is imported anew")
    assert cluster.command("reload").returncode == 0
    assert [version(cluster, slot) for slot in (1, 2)] == ["three", "three"]
    assert len(imports(project)) == 4


def test_a_version_that_does_not_start_leaves_the_old_template(project: Project) -> None:
    cluster = preloading(project, VERSION.format("one")).start("--preload", "--workers", "2").wait_ready()
    cluster.allows_traceback = True
    before = preload_template(cluster)
    preloading(project, VERSION.format("two") + "\n@app.on_start\ndef fail(): raise RuntimeError('not today')\n")
    assert cluster.command("reload").returncode == 1
    assert preload_template(cluster) == before
    kill_worker(cluster)
    assert version(cluster, 1) == "one"


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("import sys; sys.exit('no configuration')", "SystemExit: no configuration"),
        ("app.on_preload(lambda: 1 / 0)", "ZeroDivisionError"),
        ("import os; os._exit(3)", "code: 3"),
    ],
)
def test_a_boot_that_fails_is_reported_once(project: Project, statement: str, line: str) -> None:
    cluster = obedient(project, app=f"\n{statement}\n").start("--preload", "--workers", "2")
    cluster.allows_traceback = True
    assert cluster.wait_exit() == 1
    assert len(re.findall(f"failed to start.*{line}|{line}.*\n", cluster.log)) >= 1, cluster.log


THREAD = """
import threading
def wait(): threading.Event().wait()
threading.Thread(target=wait, name="exporter", daemon=True).start()
"""


def test_a_thread_of_the_import_is_named_and_the_workers_start_without_it(project: Project) -> None:
    cluster = preloading(project, THREAD).start("--preload", "--workers", "2").wait_ready()
    number = (project.folder / "app.py").read_text().splitlines().index(THREAD.strip().splitlines()[-1]) + 1
    place = f"{project.folder}/app.py:{number}"
    assert cluster.log.count(f"the template has threads: exporter (started at {place}); --preload-threads") == 1
    pids = sorted(cluster.workers().values())
    assert sorted(imports(project))[-2:] == pids
    assert len(imports(project)) == 3
    wait_until(lambda: len(titled(cluster, "egg-template")) == 1, "the template of --preload has ended")
    assert cluster.get().status_code == 200


def test_a_thread_may_be_allowed_by_its_name(project: Project) -> None:
    started = preloading(project, THREAD).start("--preload", "--preload-threads", "exporter", "--workers", "2")
    cluster = started.wait_ready()
    assert imports(project) == [preload_template(cluster)]
    kill_worker(cluster)
    assert len(imports(project)) == 1


OPENED = """
import asyncio, socket
kept = open(__file__)
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
loop = asyncio.new_event_loop()
"""


def test_descriptors_of_the_import_are_named_once(project: Project) -> None:
    cluster = preloading(project, OPENED).start("--preload", "--workers", "2").wait_ready()
    [line] = re.findall("preload: all workers share what the import has left open: (.*)", cluster.log)
    assert f"{project.folder}/app.py" in line
    assert re.search("socket at 127.0.0.1:[0-9]+, socket to 127.0.0.1:[0-9]+", line)
    assert line.endswith(", eventpoll, socket pair (2 times)")
    assert imports(project) == [preload_template(cluster)]


def test_an_import_that_leaves_nothing_open_warns_of_nothing(project: Project) -> None:
    cluster = preloading(project).start("--preload", "--workers", "2").wait_ready()
    assert "WARNING" not in cluster.log


MAKE_RANDOM = """
import random, uuid, secrets, ssl
made = random.random()

def generate():
    return [random.random(), str(uuid.uuid4()), str(uuid.uuid1()), secrets.token_hex(), ssl.RAND_bytes(16).hex()]

generate()
"""


def test_workers_do_not_share_random_numbers(project: Project) -> None:
    cluster = preloading(project, MAKE_RANDOM).start("--preload", "--workers", "3").wait_ready()
    made = set()
    for slot in (1, 2, 3):
        with connect(cluster, slot) as worker:
            made |= {*worker.tell("import app; return app.generate()")}
    assert len(made) == 3 * 5


IGNORES = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"


def test_an_import_that_ignores_the_ends_of_children_changes_nothing(project: Project) -> None:
    cluster = preloading(project, IGNORES).start("--preload", "--workers", "2").wait_ready()
    kill_worker(cluster)
    assert len(imports(project)) == 1


POOLS = """
import redis
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
pool, threads = redis.ConnectionPool(), ThreadPoolExecutor(2)

@app.on_fork
def make():
    global processes
    processes = ProcessPoolExecutor(1)
"""
USE_POOLS = """
import app
await asyncio.to_thread(lambda: app.threads.submit(os.getpid).result()) == os.getpid() or 1 / 0
other = await asyncio.to_thread(lambda: app.processes.submit(os.getpid).result())
app.processes.shutdown()
return other
"""


def test_executors_and_pools_of_the_import_work_in_each_worker(project: Project) -> None:
    cluster = preloading(project, POOLS).start("--preload", "--workers", "2").wait_ready()
    others = set()
    for slot in (1, 2):
        with connect(cluster, slot) as worker:
            others.add(worker.tell(USE_POOLS))
    assert len(others) == 2
    assert "left open" not in cluster.log
    assert cluster.close() == 0


def test_an_executor_of_processes_that_the_import_makes_is_named_by_its_pipes(project: Project) -> None:
    made = "from concurrent.futures import ProcessPoolExecutor\nprocesses = ProcessPoolExecutor(1)\n"
    cluster = preloading(project, made).start("--preload", "--workers", "1").wait_ready()
    assert re.search("preload: all workers share what the import has left open: pipe [(][0-9]+ times[)]", cluster.log)


SHARED = """
shared = app.shared
heard = []
messenger.on("word", heard.append)

class Client:
    async def double(self, number): return 2 * number

client = app.cluster(Client).create()
"""
SHARED_BY_AGENT = """
class Client:
    async def double(self, number): return 2 * number

client = agent.cluster(Client).create()
"""


def test_what_the_import_shares_and_listens_to_is_each_workers_own(project: Project) -> None:
    project = preloading(project, "from eggcluster import messenger\n" + SHARED, SHARED_BY_AGENT)
    cluster = project.start("--preload", "--workers", "2").wait_ready()
    with connect(cluster, 1) as one, connect(cluster, 2) as two:
        assert one.tell("import app; return await app.client.double(21)") == 42
        assert two.tell("import app; return await app.client.double(4)") == 8
        one.tell("import app; await app.shared.set('key', 'value')")
        waits = "import app\nwhile app.shared.get('key') is None: await asyncio.sleep(0.01)\nreturn app.shared['key']"
        assert two.tell(waits) == "value"
        one.tell("messenger.send_to_app('word', 'hello')")
        waits = "import app\nwhile not app.heard: await asyncio.sleep(0.01)\nreturn app.heard"
        assert [one.tell(waits), two.tell(waits)] == [["hello"], ["hello"]]


def test_a_message_in_the_import_says_where_it_belongs(project: Project) -> None:
    sends = "from eggcluster import messenger\nmessenger.send_to_agent('word', 1)\n"
    cluster = preloading(project, sends).start("--preload", "--workers", "1")
    cluster.allows_traceback = True
    assert cluster.wait_exit() == 1
    assert "MessengerClosed: the application is imported in the template" in cluster.log


def test_the_templates_end_with_a_master_that_is_killed(project: Project) -> None:
    cluster = preloading(project).start("--preload", "--workers", "2").wait_ready()
    os.kill(cluster.pid, signal.SIGKILL)
    cluster.wait_exit()
    wait_until(lambda: not cluster.family(), "every process has ended")


BLOCKS = """
import time, pathlib
pathlib.Path(__file__).with_name("blocks").touch()
time.sleep(3600)
"""


def test_a_template_ends_with_its_master_while_it_imports(project: Project) -> None:
    cluster = preloading(project, BLOCKS).start("--preload", "--workers", "1")
    wait_until(lambda: (project.folder / "blocks").exists(), "the import blocks")
    os.kill(cluster.pid, signal.SIGKILL)
    cluster.wait_exit()
    wait_until(lambda: not cluster.family(), "every process has ended")


def test_an_import_that_does_not_end_is_reported_with_its_place(project: Project) -> None:
    cluster = preloading(project, BLOCKS).start("--preload", "--workers", "1", "--app-start-timeout", "2")
    assert cluster.wait_exit() == 1
    assert "start timeout: not ready after 2s; it was at" in cluster.log
    number = (project.folder / "app.py").read_text().splitlines().index("time.sleep(3600)") + 1
    assert f'File "{project.folder}/app.py", line {number}, in <module>' in cluster.log


COMPUTES = "\nsum(range(10**16))\n"  # C code that holds the GIL for years, and looks at no signal


def test_an_import_that_hangs_in_c_is_shown_in_the_log(project: Project) -> None:
    cluster = preloading(project, COMPUTES).start("--preload", "--workers", "1", "--app-start-timeout", "2")
    assert cluster.wait_exit() == 1
    assert "has not imported the application within 1.8s" in cluster.log
    assert re.search('File ".*app.py", line [0-9]+ in <module>', cluster.log)


def test_a_template_whose_directory_was_removed_is_replaced(project: Project) -> None:
    current = project.folder / "current"
    for release in ("r1", "r2"):
        (project.folder / release).mkdir()
        app = "import os\nfrom eggcluster import Application\n" + HELLO.replace("{app.slot}", release)
        (project.folder / release / "app.py").write_text(app)
    current.symlink_to("r1")
    project.environ["PWD"] = str(current)
    started = project.start(
        "--preload", "--workers", "1", "--base-dir", str(current), launcher=["env", "-C", str(current)]
    )
    cluster = started.wait_ready()
    assert cluster.get().text.startswith("r1:")
    current.unlink()
    current.symlink_to("r2")
    kill_worker(cluster)
    assert cluster.get().text.startswith("r1:")
    shutil.rmtree(project.folder / "r1")
    kill_worker(cluster)
    assert cluster.get().text.startswith("r2:")


HELPER = """
import subprocess
helper = subprocess.Popen(["sleep", "3600"])
remote.mark("helpers", helper.pid)
"""


def test_what_an_import_has_started_ends_with_its_template(project: Project) -> None:
    cluster = preloading(project, HELPER).start("--preload", "--workers", "2").wait_ready()
    assert cluster.command("reload").returncode == 0
    first, second = (int(line[0]) for line in marks(project, "helpers"))
    wait_until(lambda: not is_running(first), "the old helper has ended")
    assert is_running(second)
    assert cluster.close() == 0
    wait_until(lambda: not is_running(second), "the helper has ended")


def test_a_sitecustomize_with_threads_leaves_the_workers_to_fresh_interpreters(project: Project) -> None:
    site = "import sys, threading\nif 'eggcluster.template' in sys.orig_argv:\n"
    site += "    threading.Thread(target=threading.Event().wait, name='exporter', daemon=True).start()\n"
    preloading(project).write(sitecustomize=site)
    paths = [str(project.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    started = project.start("--preload", "--workers", "2", PYTHONPATH=os.pathsep.join(paths))
    cluster = started.wait_ready()
    assert cluster.log.count("workers are started as fresh interpreters") == 1
    assert sorted(imports(project)) == sorted(cluster.workers().values())


def test_it_has_no_effect_without_templates(project: Project) -> None:
    project.write(app=HELLO, agent=AGENT)
    cluster = project.start("--preload", "--workers", "1", EGG_NO_TEMPLATE="1").wait_ready()
    assert "preload has no effect" in cluster.log
    assert cluster.get().status_code == 200


LOGS = """
import logging
logging.basicConfig(format="OWN %(message)s", level="INFO")
logging.getLogger("shop").info("imported")
"""


def test_the_log_says_which_worker_speaks(project: Project) -> None:
    cluster = preloading(project, LOGS).start("--preload", "--workers", "2").wait_ready()
    for slot in (1, 2):
        with connect(cluster, slot) as worker:
            worker.tell("import app, logging; app.app.logger.info('here'); logging.getLogger('shop').info('there')")
    log = cluster.log
    assert re.findall(r"\[(template|app_worker#\d)\] here", log) == ["app_worker#1", "app_worker#2"]
    assert re.search(r"\[template\] preloaded .* in \d+ms", log)
    assert log.count("OWN imported") == 1
    assert log.count("OWN there") == 2


def test_a_factory_is_called_once(project: Project) -> None:
    preloading(project, "\ndef make():\n    remote.mark('made', os.getpid())\n    return app\n")
    cluster = project.start("app:make", "--factory", "--preload", "--workers", "2").wait_ready()
    assert marks(project, "made") == [[str(preload_template(cluster))]]
    assert cluster.get().status_code == 200


def test_required_modules_are_imported_once(project: Project) -> None:
    preloading(project).write(first="import os, remote\nremote.mark('firsts', os.getpid())\n")
    cluster = project.start("--preload", "--require", "first", "--workers", "2").wait_ready()
    firsts = sorted(int(line[0]) for line in marks(project, "firsts"))
    assert firsts == sorted([cluster.agent() or 0, preload_template(cluster)])


def test_a_kill_during_a_reload_is_replaced_by_the_new_version(project: Project) -> None:
    slow = VERSION.format("two") + "import time\ntime.sleep(1)\n"
    cluster = preloading(project, VERSION.format("one")).start("--preload", "--workers", "2").wait_ready()
    preloading(project, slow)
    signal_to = cluster.workers()[2]
    cluster.signal(signal.SIGHUP)
    wait_until(lambda: len(imports(project)) == 2, "the new version is being imported")
    os.kill(signal_to, signal.SIGKILL)
    cluster.wait_log("reload done")
    assert [version(cluster, slot) for slot in (1, 2)] == ["two", "two"]
    assert len(imports(project)) == 2
