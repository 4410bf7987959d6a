"""What an application's code may do, wherever it runs: it is its worker's, in every mode."""

import os
import time
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.modes.conftest import PLACES, Lab
from tests.waiting import DEADLINE, wait_until

APPS = {"app#1": 1, "app#2": 2}


def slots(lab: Lab, source: str) -> dict[str, Any]:
    """What each app worker says to it."""
    return {place: lab.tell(place, source) for place in APPS}


def answers(lab: Lab, path: str) -> dict[int, dict[str, Any]]:
    """An answer of each app worker: connections are spread over them."""
    found: dict[int, dict[str, Any]] = {}

    def both() -> bool:
        answer = httpx.get(lab.cluster.address + path, timeout=DEADLINE).json()
        found[answer["slot"]] = answer
        return len(found) == 2

    wait_until(both, "both workers have answered")
    return found


@pytest.mark.parametrize(
    "call",
    [
        "app.slot",
        "await asyncio.to_thread(lambda: app.slot)",
        "await asyncio.get_running_loop().run_in_executor(None, lambda: app.slot)",
        "await asyncio.create_task(asyncio.to_thread(lambda: app.slot))",
        "(await asyncio.gather(*(asyncio.to_thread(lambda: app.slot) for _ in range(20))))[-1]",
        "app.local.ready",
        "app.local.server",
        "app.local.background",
        "app.local.plain_background",
    ],
)
def test_the_application_s_objects_are_the_worker_s_wherever_its_code_runs(lab: Lab, call: str) -> None:
    assert slots(lab, f"return {call}") == APPS


def test_a_timer_s_code_is_its_worker_s(lab: Lab) -> None:
    source = (
        "done = asyncio.get_running_loop().create_future()\n"
        "asyncio.get_running_loop().call_later(0.01, lambda: done.set_result(app.slot))\nreturn await done"
    )
    assert slots(lab, source) == APPS


def test_an_executor_of_the_application_s_own_works_in_the_worker_s_name(lab: Lab) -> None:
    source = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(1) as pool:\n"
        "    return await asyncio.get_running_loop().run_in_executor(pool, lambda: app.slot)"
    )
    assert slots(lab, source) == APPS


def test_messages_from_threads_go_out_in_the_worker_s_name(lab: Lab) -> None:
    for place, slot in APPS.items():
        lab.tell(place, "await asyncio.to_thread(lambda: messenger.send_to_agent('note', ['thread', app.slot]))")
        lab.wait("agent", f"['thread', {slot}] in agent.local.notes")
    lab.everywhere("(globals().get('app') or agent).local.notes.clear()")


def test_endpoints_answer_in_the_name_of_their_worker(lab: Lab) -> None:
    ids = {slot: lab.tell(place, "return app.worker_id") for place, slot in APPS.items()}
    for path in ("/", "/plain"):
        found = answers(lab, path)
        assert {slot: answer["worker_id"] for slot, answer in found.items()} == ids
        assert {answer["pid"] == lab.cluster.pid for answer in found.values()} == {lab.site.shares_process}
    threads = {answer["thread"] for answer in answers(lab, "/plain").values()}
    assert len(threads) == 2
    assert not threads & set(ids.values()), "a sync endpoint does not hold up the loop"


def test_websockets_are_served_by_their_workers(lab: Lab) -> None:
    said = set()

    def both() -> bool:
        with connect(lab.cluster.address.replace("http", "ws", 1) + "/ws", open_timeout=DEADLINE) as socket:
            socket.send("hello")
            said.add(socket.recv(DEADLINE))
        return len(said) == 2

    wait_until(both, "both have answered")
    assert said == {"hello from 1", "hello from 2"}


def test_worker_ids_are_pids_or_thread_ids_and_the_status_has_them(lab: Lab) -> None:
    status = lab.run(lab.cluster.status())
    ids = [status["agent"]["worker_id"], *(worker["worker_id"] for worker in status["workers"])]
    own = "threading.get_native_id()" if lab.site.shares_process else "os.getpid()"
    assert lab.everywhere(f"return {own}") == dict(zip(PLACES, ids, strict=True))
    assert len({*ids, lab.cluster.pid}) == 4
    assert all(os.path.exists(f"/proc/{lab.cluster.pid}/task/{id}") is lab.site.shares_process for id in ids)
    assert (status["start_mode"], status["abandoned"]) == (lab.site.mode, [])


def test_a_module_s_globals_are_shared_by_threads_alone(lab: Lab) -> None:
    lab.tell("app#1", "both.answered.append('here')")
    seen = lab.everywhere("return 'here' in both.answered")
    shared = lab.site.shares_modules
    assert seen == {"agent": shared, "app#1": True, "app#2": shared}
    born = slots(lab, "return len({*visitors}), imported_by == app.worker_id")
    assert {count for count, _ in born.values()} == {2 if shared else 1}
    assert [own for _, own in born.values()].count(True) == (1 if shared else 2)


def test_what_is_local_is_a_worker_s_own_in_every_mode(lab: Lab) -> None:
    for place, slot in APPS.items():
        lab.tell(place, f"app.local.number = {slot * 10}")
    assert slots(lab, "return app.local.number") == {"app#1": 10, "app#2": 20}
    assert lab.tell("agent", "return hasattr(agent.local, 'number')") is False


def test_the_schedule_runs_in_the_agent_in_one_worker_and_in_all(lab: Lab) -> None:
    lab.everywhere("(globals().get('app') or agent).local.ticks.clear()")
    for place in APPS:
        lab.wait(place, "app.local.ticks.count('all') >= 3")
    lab.wait("agent", "len(agent.local.ticks) >= 3")
    assert lab.tell("agent", "return {*agent.local.ticks} == {agent.worker_id}")
    ticks = slots(lab, "return app.local.ticks")
    runs = [one.count("worker") for one in ticks.values()]
    everywhere = [one.count("all") for one in ticks.values()]
    assert 1 <= sum(runs) <= max(everywhere) + 2, "in one worker at a time, not in each"


def test_what_is_shared_is_read_in_every_worker_and_its_listeners_hear_of_it(lab: Lab) -> None:
    lab.everywhere("me = globals().get('app') or agent\nme.local.changes = []")
    version = lab.tell("app#1", "return await shared.set('price', 7)")
    for place in PLACES:
        lab.wait(place, "shared.get('price') == 7")
        assert lab.tell(place, "return shared.version('price')") == version
    for place in APPS:
        lab.wait(place, "app.local.changes == [7]")
    counts = [lab.tell(place, "return await shared.increment('n')") for place in PLACES]
    assert counts == [1, 2, 3]
    assert lab.tell("app#2", "return await asyncio.to_thread(lambda: asyncio.run(shared.increment('n')))") == 4


def test_there_is_one_shared_client_and_every_worker_follows_it(lab: Lab) -> None:
    births = [line for line in lab.site.marks("births") if line.startswith("agent")]
    assert lab.site.marks("registries") == ["here"] * len(births)
    lab.everywhere("me = globals().get('app') or agent\nme.local.news = []")
    assert {lab.tell(place, "return await registry.tell('early', 'one')") for place in APPS} == {1}
    for place in APPS:  # from the line in the module itself
        lab.wait(place, "app.local.news == ['one', 'one']")


def test_what_a_worker_subscribes_to_at_its_start_is_its_own(lab: Lab) -> None:
    for place, slot in APPS.items():
        source = "app.local.mine = []\nawait registry.subscribe(f'for {app.slot}', app.local.mine.append)"
        lab.tell(place, source)
        assert lab.tell("agent", f"return await registry.tell('for {slot}', {slot})") == 1
        lab.wait(place, f"app.local.mine == [{slot}]")


def test_subprocesses_work_from_loop_and_threads(lab: Lab) -> None:
    asynchronous = (
        "child = await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1)\n"
        "return (await child.communicate())[0].decode(), child.returncode"
    )
    plain = "import subprocess\nreturn await asyncio.to_thread(subprocess.check_output, ['echo', 'hi'], text=True)"
    for place in PLACES:
        assert lab.tell(place, asynchronous) == ["hi\n", 0]
        assert lab.tell(place, plain) == "hi\n"


def test_a_pool_of_processes_works(lab: Lab) -> None:
    source = (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool, both.refusals() as names:\n"
        "    return await asyncio.get_running_loop().run_in_executor(pool, pow, 2, 10)\n"
        "return names"
    )
    assert lab.tell("app#1", source) == 1024


def test_a_forked_child_has_its_signals_for_itself(lab: Lab) -> None:
    source = (
        "import multiprocessing\nwith both.refusals() as names:\n"
        "    here, there = os.pipe()\n"
        "    work = lambda: (os.write(there, b'x'), time.sleep(60))\n"
        "    child = multiprocessing.get_context('fork').Process(target=work)\n"
        "    child.start(); await asyncio.to_thread(os.read, here, 1)\n"
        "    child.terminate(); await asyncio.to_thread(child.join, 10)\n"
        "    os.close(here); os.close(there)\n"
        "    if child.is_alive(): child.kill()\n"
        "    return child.exitcode\n"
        "return names"
    )
    for place in PLACES:  # a subinterpreter cannot fork
        assert lab.tell(place, source) == (["RuntimeError"] if lab.site.mode == "interpreter" else -15)
    assert lab.run(lab.cluster.status())["phase"] == "serving"


def test_a_worker_that_computes_in_its_pool_does_not_hold_up_the_others(lab: Lab) -> None:
    lab.tell("app#1", "app.local.busy = asyncio.ensure_future(asyncio.to_thread(time.sleep, 1))")
    began = time.monotonic()
    assert lab.tell("app#1", "return app.slot") == 1
    assert lab.tell("app#2", "return app.slot") == 2
    assert time.monotonic() - began < 0.8
