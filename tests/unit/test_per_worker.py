"""What each worker has of its own where several share a process: values, stand-ins, modules."""

import asyncio
import contextvars
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest

import eggcluster
from eggcluster.errors import MessengerClosed, OptionsError
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.per_worker import PerWorker
from eggcluster.model.messages.role import Role
from eggcluster.options import parse_options
from eggcluster.worker.context.current import current_context, leave_worker, run_as_worker
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.context.worker_proxy import WorkerProxy
from eggcluster.worker.threads.shared_modules import ThreadWorkerContext


def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` gives in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(10)


# -- values ------------------------------------------------------------------------------------------------------


def test_without_workers_there_is_the_default() -> None:
    value = PerWorker("value", "default")
    assert value.get() == in_thread(value.get) == "default"


def test_a_value_holds_in_its_thread_in_its_tasks_and_in_what_they_call_elsewhere() -> None:
    value = PerWorker("value", "default")

    async def ask() -> list[str]:
        return [
            value.get(),
            await asyncio.to_thread(value.get),
            await asyncio.create_task(asyncio.to_thread(value.get)),
        ]

    def live(name: str) -> list[str]:
        value.bind(name)
        return [value.get(), contextvars.Context().run(value.get), *asyncio.run(ask())]

    for name in ("one", "other"):
        assert in_thread(partial(live, name)) == [name] * 5
    assert value.get() == "default"


# -- stand-ins ---------------------------------------------------------------------------------------------------


def test_a_stand_in_is_whatever_it_stands_for_just_then() -> None:
    found: dict[str, Any] = {"it": {"a": 1}}
    stand_in: Any = WorkerProxy(lambda: found["it"])
    assert (stand_in["a"], "a" in stand_in, len(stand_in), list(stand_in)) == (1, True, 1, ["a"])
    assert repr(stand_in) == "{'a': 1}"
    assert stand_in.get("a") == 1
    found["it"] = str.upper
    assert stand_in("egg") == "EGG"
    assert "__call__" in dir(stand_in)
    found["it"] = holder = type("Holder", (), {})()
    stand_in.name = "egg"
    assert holder.name == "egg"
    with pytest.raises(AttributeError):
        _ = stand_in.nothing


# -- modules -----------------------------------------------------------------------------------------------------


class Village:
    """Workers that are threads of this one, one after the other, in a directory of modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: list[ThreadWorkerContext] = []

    def write(self, **modules: str) -> None:
        for name, code in modules.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(code))

    def settle(self, role: Role, imports: str, edition: int = 0, cluster: str = "one") -> ThreadWorkerContext:
        """A worker that has imported that module."""
        if not (self.folder / "app.py").exists():
            self.write(app="def app(environ, start): ...\n")
        options = parse_options(base_dir=str(self.folder), port=0, start_mode="thread")
        order = WorkerSpec(role.value, 1, 1, f"{cluster}-{self.folder}", options, reloads=edition)
        place = ThreadWorkerContext(role, order)
        self.places.append(place)
        run_as_worker(place)
        place.import_module(imports)
        return place


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Village]:
    found = Village(tmp_path)
    context = contextvars.copy_context()  # in which this thread may be one worker after the other
    thread = ThreadPoolExecutor(1)
    yield InThread(found, thread, context)  # type: ignore[misc]
    for place in found.places:
        thread.submit(context.run, leave_worker, place).result(10)
        place.leave()
    thread.shutdown()
    assert str(tmp_path) not in sys.path
    assert not [name for name in ("both", "mine", "theirs", "one") if name in sys.modules]


class InThread:
    """A village in a thread of its own: the worker that settled there last lives on in that thread."""

    def __init__(self, village: Village, thread: ThreadPoolExecutor, context: contextvars.Context) -> None:
        self._village, self._thread, self._context = village, thread, context

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._village, name)
        if not callable(found):
            return found
        return lambda *args, **more: self._thread.submit(self._context.run, found, *args, **more).result(10)


def answers(place: WorkerContext, action: str) -> bool:
    """Whether it has a handler."""
    return bool(place.messenger._handlers.take(action))


BOTH = "from eggcluster import messenger\nLIMIT = 5\nmessenger.on('any', lambda data: 1)\n"
MINE = """
from eggcluster import Agent, messenger
from both import LIMIT
agent = Agent()
agent.messenger.on("mine", lambda data: 1)
messenger.on("here", lambda data: 1)
"""
THEIRS = """
from eggcluster import Application
from both import LIMIT
async def api(scope, receive, send): ...
app = Application(api)
app.messenger.on("theirs", lambda data: 1)
app.on_start(print)
"""


def test_what_a_module_declares_holds_for_workers_that_come_later(village: Village) -> None:
    village.write(both=BOTH, theirs=THEIRS)
    first, second = village.settle(Role.APP, "theirs"), village.settle(Role.APP, "theirs")
    for place in (first, second):
        assert (answers(place, "any"), answers(place, "theirs")) == (True, True)


@pytest.mark.parametrize("order", [[Role.AGENT, Role.APP], [Role.APP, Role.AGENT]])
def test_each_role_has_its_own_and_what_both_import(village: Village, order: list[Role]) -> None:
    village.write(both=BOTH, theirs=THEIRS, mine=MINE)
    for role in order:
        place = village.settle(role, "mine" if role is Role.AGENT else "theirs")
        agent = role is Role.AGENT
        found = {action: answers(place, action) for action in ("any", "mine", "here", "theirs")}
        assert found == {"any": True, "mine": agent, "here": agent, "theirs": not agent}


def test_both_objects_in_one_module_keep_their_handlers_apart(village: Village) -> None:
    village.write(both=BOTH, one=MINE + THEIRS)
    agent, app = village.settle(Role.AGENT, "one"), village.settle(Role.APP, "one")
    found = [[answers(place, action) for action in ("any", "here", "mine", "theirs")] for place in (agent, app)]
    assert found == [[True, True, True, False], [True, True, False, True]]


def test_what_a_worker_registers_later_is_its_own(village: Village) -> None:
    village.write(both=BOTH, theirs=THEIRS)
    first = village.settle(Role.APP, "theirs")
    first.messenger.on("late", lambda data: 1)
    assert not answers(village.settle(Role.APP, "theirs"), "late")


def test_a_reload_imports_anew_and_forgets_what_is_no_more(village: Village) -> None:
    village.write(both=BOTH, theirs=THEIRS)
    village.settle(Role.APP, "theirs")
    village.write(theirs=THEIRS.replace('"theirs"', '"renewed"') + "# longer\n")
    place = village.settle(Role.APP, "theirs", edition=1)
    assert (answers(place, "any"), answers(place, "theirs"), answers(place, "renewed")) == (True, False, True)
    again = village.settle(Role.APP, "theirs", edition=1)
    assert again.import_module("theirs") is place.import_module("theirs")


def test_another_cluster_of_the_same_process_gets_what_its_own_modules_declare(village: Village) -> None:
    village.write(both=BOTH, theirs=THEIRS, mine=MINE)
    village.settle(Role.APP, "theirs")
    place = village.settle(Role.APP, "mine", cluster="other")
    assert (answers(place, "any"), answers(place, "here"), answers(place, "theirs")) == (True, True, False)


def test_a_module_of_the_same_name_elsewhere_is_refused_in_a_line(village: Village, tmp_path_factory: Any) -> None:
    village.write(both=BOTH, theirs=THEIRS)
    village.settle(Role.APP, "theirs")
    elsewhere = Village(tmp_path_factory.mktemp("elsewhere"))
    elsewhere.write(theirs=THEIRS, both=BOTH)

    def settle() -> None:
        with pytest.raises(OptionsError, match="workers that are threads share this process's modules, and") as refused:
            elsewhere.settle(Role.APP, "theirs")
        assert len(str(refused.value).splitlines()) == 1
        leave_worker(elsewhere.places[0])
        elsewhere.places[0].leave()

    in_thread(settle)


def test_a_folder_that_is_no_package_has_taken_no_name(village: Village, tmp_path: Path) -> None:
    """As people keep configuration: `uvicorn/`, `click/`. A regular package anywhere on the path wins over it."""
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "config.toml").touch()
    assert village.settle(Role.APP, "click").import_module("click") is click


@pytest.mark.parametrize("file", ["click.py", "click/__init__.py", "click/__init__.pyc"])
def test_a_module_that_another_one_hides_is_refused(village: Village, tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(OptionsError, match="and click is "):
        village.settle(Role.APP, "click")


def test_outside_of_a_worker_there_is_no_role(village: Village) -> None:
    village.write(both=BOTH, theirs=THEIRS)
    village.settle(Role.APP, "theirs")
    assert current_context().role is None
    assert threading.current_thread() is threading.main_thread()


def test_a_process_whose_worker_threads_have_left_runs_no_cluster_any_more() -> None:
    context, other = WorkerContext(Role.AGENT), WorkerContext(Role.APP)

    def why_closed() -> str:
        with pytest.raises(MessengerClosed) as caught:
            eggcluster.messenger.send_to_agent("hello")
        return str(caught.value)

    def live_and_leave() -> None:
        run_as_worker(context)
        run_as_worker(other)
        leave_worker(context)
        found.append(in_thread(why_closed))
        leave_worker(other)

    found: list[str] = []
    assert "no cluster runs here" in why_closed()
    in_thread(live_and_leave)
    assert "this thread belongs to no worker" in found[0]
    assert "no cluster runs here" in why_closed()
