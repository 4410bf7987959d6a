"""Background tasks, and the other hooks on a worker's life."""

import asyncio
import contextlib
import contextvars
import functools
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from eggcluster import Agent, Application, DeclarationError
from eggcluster.kernel.stacks import application_stacks, called_stacks
from eggcluster.master.control.requests import background_states
from eggcluster.model.schedule.background_state import BackgroundState
from eggcluster.worker.background import BackgroundTask
from eggcluster.worker.function_calls import call_off_loop
from tests.unit.clock import in_no_time, now
from tests.waiting import DEADLINE, until

LOGGER = logging.getLogger("test")


def keep_running(function: Callable[[], Any], restart: str = "on-error") -> Any:
    """A background task's whole life."""
    return BackgroundTask(function, BackgroundState(function.__name__, restart), LOGGER).run()


def test_a_task_that_raises_is_started_again_with_growing_delays() -> None:
    starts: list[float] = []

    async def task() -> None:
        starts.append(now())
        if len(starts) < 9:
            raise ConnectionError

    in_no_time(keep_running(task))
    delays = [after - before for before, after in itertools.pairwise(starts)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_after_a_minute_of_running_the_delays_start_anew() -> None:
    starts: list[float] = []

    async def task() -> None:
        starts.append(now())
        if len(starts) == 5:
            await asyncio.sleep(61)
        if len(starts) < 7:
            raise ConnectionError

    in_no_time(keep_running(task))
    assert starts[5] - starts[4] == 61.5
    assert starts[6] - starts[5] == 1


def test_a_task_that_returns_is_done() -> None:
    starts = []

    async def task() -> None:
        starts.append(now())

    in_no_time(keep_running(task))
    assert starts == [0]


def test_one_that_is_always_to_run_is_started_again_when_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    starts: list[float] = []

    async def task() -> None:
        starts.append(now())

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await keep_running(task, "always")

    in_no_time(work())
    assert starts == [0, 0.5, 1.5, 3.5]
    assert "background task task returned, next try in 0.5s" in caplog.text


def test_one_that_is_never_to_run_again_is_not_even_when_it_raises() -> None:
    starts: list[float] = []

    async def task() -> None:
        starts.append(now())
        raise ConnectionError

    in_no_time(keep_running(task, "never"))
    assert starts == [0]


def test_each_exception_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    async def consume() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("broken pipe")

    in_no_time(keep_running(consume))
    assert "background task consume raised\n" in caplog.text
    assert "background task consume raised, next try in 0.5s" in caplog.text
    assert "ConnectionError: broken pipe" in caplog.text


def test_the_hooks_of_a_life_run_in_their_order_and_the_background_is_cancelled_first() -> None:
    seen: list[str] = []
    agent = Agent()

    @agent.on_start
    async def first() -> None:
        seen.append("start 1")

    @agent.on_start
    async def second() -> None:
        seen.append("start 2")

    @agent.background
    async def listen() -> None:
        seen.append("background")
        try:
            await asyncio.sleep(1e6)
        finally:
            seen.append("cancelled")

    @agent.on_close
    async def opened_first() -> None:
        seen.append("close 1")

    @agent.on_close
    async def opened_last() -> None:
        seen.append("close 2")

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        await agent.run_close()

    in_no_time(work())
    assert seen == ["start 1", "start 2", "background", "cancelled", "close 2", "close 1"]


def test_a_start_hook_that_raises_fails_the_start_and_starts_no_background() -> None:
    agent = Agent()
    seen = []

    @agent.on_start
    async def fail() -> None:
        raise RuntimeError("no database")

    @agent.background
    async def listen() -> None:
        seen.append(1)

    async def work() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            await agent.run_start()
        await asyncio.sleep(1)

    in_no_time(work())
    assert not seen


@pytest.mark.parametrize("kind", ["on_ready", "on_close"])
def test_a_ready_or_close_hook_that_raises_is_logged_and_stops_no_other(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application(print)
    seen = []

    async def fail() -> None:
        raise RuntimeError("oh")

    for hook in (lambda: seen.append(1), fail, lambda: seen.append(2)):
        getattr(app, kind)(hook)

    in_no_time(app.run_ready() if kind == "on_ready" else app.run_close())
    assert sorted(seen) == [1, 2]
    assert f"{kind}: " in caplog.text
    assert "RuntimeError: oh" in caplog.text


def test_a_task_whose_cleanup_raises_is_not_started_again_while_closing() -> None:
    agent = Agent()
    seen = []

    @agent.background
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            raise RuntimeError("while disconnecting") from None

    agent.on_close(lambda: seen.append("closed"))

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        async with asyncio.timeout(300):
            await agent.run_close()

    in_no_time(work())
    assert seen == ["closed"]


def test_a_cancellation_that_comes_from_within_is_an_exception_as_any_other() -> None:
    starts = []

    async def task() -> None:
        starts.append(now())
        if len(starts) == 1:
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost

    in_no_time(keep_running(task))
    assert starts == [0, 0.5]


def test_the_last_registered_is_stopped_first_and_each_has_time_to_finish() -> None:
    agent = Agent()
    seen: list[str] = []

    def listening(name: str) -> None:
        @agent.background(name=name)
        async def listen() -> None:
            try:
                await asyncio.sleep(1e6)
            finally:
                seen.append(f"{name} is stopping")
                await asyncio.sleep(2)
                seen.append(f"{name} is done")

    listening("first")
    listening("second")

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        await agent.run_close(10)

    in_no_time(work())
    assert seen == ["second is stopping", "second is done", "first is stopping", "first is done"]


def test_one_that_does_not_stop_costs_neither_the_others_nor_the_close_hooks_their_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent()
    seen: list[Any] = []
    reports: list[Any] = []
    agent.registrations.report = lambda action, details: reports.append(details["tasks"])

    @agent.background
    async def polite() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            seen.append("polite was cancelled")
            raise

    @agent.background
    async def stubborn() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1e6)
        await asyncio.sleep(1e6)

    @agent.on_close
    async def closed() -> None:
        seen.append(("closed", now()))

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        await agent.run_close(3)

    in_no_time(work())
    assert seen == ["polite was cancelled", ("closed", 3.75)]
    assert "background task stubborn did not stop in time" in caplog.text
    assert [task["state"] for task in reports[-1]] == ["stopped", "abandoned"]


def test_states_restarts_and_the_last_error_are_reported_at_each_change() -> None:
    agent = Agent()
    reports: list[Any] = []
    agent.registrations.report = lambda action, details: reports.append((action, now(), details["tasks"][0]))
    calls = []

    @agent.background
    async def consume() -> None:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(5)
            raise ConnectionError("broken\n pipe")
        await asyncio.sleep(1e6)

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(10)
        await agent.run_close()
        await asyncio.sleep(0)

    in_no_time(work())
    error = "ConnectionError: broken pipe"
    assert reports == [
        ("background", 0, {"name": "consume", "state": "running", "restarts": 0, "last_error": None}),
        ("background", 5, {"name": "consume", "state": "waiting", "restarts": 1, "last_error": error}),
        ("background", 5.5, {"name": "consume", "state": "running", "restarts": 1, "last_error": error}),
        ("background", 10, {"name": "consume", "state": "stopped", "restarts": 1, "last_error": error}),
    ]


def test_a_plain_function_runs_in_a_thread_and_ends_when_the_worker_closes() -> None:
    agent = Agent()
    began, threads = threading.Event(), []

    @agent.background
    def consume() -> None:
        threads.append(threading.current_thread())
        began.set()
        agent.closing.wait(DEADLINE)

    async def work() -> None:
        await agent.run_start()
        await asyncio.get_running_loop().run_in_executor(None, began.wait, DEADLINE)
        await agent.run_close()

    asyncio.run(work())
    assert threads[0] is not threading.main_thread()
    assert threads[0].name == "egg-consume"
    threads[0].join(DEADLINE)
    assert not threads[0].is_alive()


def test_calling_off_the_loop_gives_and_raises_what_the_function_does_in_its_context() -> None:
    variable = contextvars.ContextVar("variable", default="")

    class Callable_:
        async def __call__(self) -> str:
            return "an object"

    async def add(one: int, two: int) -> int:
        return one + two

    def stop() -> None:
        raise StopIteration("early")

    async def work() -> None:
        variable.set("here")
        assert await call_off_loop(variable.get) == "here"
        assert await call_off_loop(add, 1, 2) == 3
        assert await call_off_loop(functools.partial(add, 1), 2) == 3
        assert await call_off_loop(Callable_()) == "an object"
        with pytest.raises(RuntimeError, match="early"):
            await call_off_loop(stop)
        with pytest.raises(KeyError):
            await call_off_loop({}.__getitem__, 1)

    asyncio.run(work())


def test_a_cancellation_waits_for_the_thread_and_a_second_one_does_not() -> None:
    go_on = threading.Event()

    async def work() -> None:
        first = asyncio.ensure_future(call_off_loop(go_on.wait, DEADLINE))
        second = asyncio.ensure_future(call_off_loop(go_on.wait, DEADLINE))
        for task in (first, second):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0.05)
        assert not first.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not first.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(work())


def test_what_is_no_way_to_restart_is_refused_where_it_is_written() -> None:
    async def consume() -> None: ...

    where = r"test_background\.test_what_is_no_way_\w+\.<locals>\.consume"
    with pytest.raises(DeclarationError, match=f'{where}: restart=\'sometimes\' is not one of "always", "on-error"'):
        Agent().background(restart="sometimes")(consume)
    with pytest.raises(DeclarationError, match="background: None is not a function"):
        Agent().background(restart="always")(None)  # type: ignore[type-var]


@pytest.mark.parametrize("tasks", [None, 1, [1], [{"name": "x"}], [{"name": 1}]])
def test_a_report_of_another_shape_changes_nothing_in_the_master(tasks: Any) -> None:
    known = [{"name": "consume"}]
    assert background_states({"tasks": tasks}, known) is known


# -- closing -------------------------------------------------------------------------------------------------------


def test_a_close_hook_that_is_slow_does_not_end_the_turn_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    app = Application(str)
    seen: list[tuple[str, float]] = []

    @app.on_close
    async def first() -> None:
        seen.append(("first", now()))

    @app.on_close
    async def last() -> None:
        await asyncio.sleep(1000)
        seen.append(("last", now()))

    in_no_time(app.run_close(grace=4, limit=5))
    assert seen == [("first", 4.75), ("last", 1000)]
    assert "last is not done after 4.8s, the next one begins beside it" in caplog.text


def test_a_ready_hook_that_never_ends_does_not_end_the_turn_of_the_others() -> None:
    app = Application(str)
    seen: list[str] = []

    @app.on_ready
    async def endless() -> None:
        await asyncio.sleep(1e6)

    app.on_ready(lambda: seen.append("ready"))

    async def work() -> None:
        running = asyncio.ensure_future(app.run_ready())
        await asyncio.sleep(60)
        assert seen == ["ready"]
        running.cancel()

    in_no_time(work())


def test_a_background_task_that_is_slow_to_stop_does_not_take_the_time_of_the_others() -> None:
    agent = Agent()
    seen: list[str] = []

    @agent.background
    async def tidy() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(0.2)
            seen.append("tidied")

    @agent.background
    async def stubborn() -> None:
        while now() < 1000:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        await agent.run_close(grace=4)
        assert seen == ["tidied"]

    in_no_time(work())


def test_a_plain_function_that_returns_because_the_worker_closes_is_not_started_again() -> None:
    app = Application(str)
    starts: list[int] = []

    @app.background(restart="always")
    async def beat() -> None:
        starts.append(1)
        await app.closing

    async def work() -> None:
        await app.run_start()
        await asyncio.sleep(1)
        app.closing.set()
        await asyncio.sleep(60)
        assert len(starts) == 1
        assert [task["state"] for task in app.registrations.background.plain()] == ["stopped"]
        await app.run_close()

    in_no_time(work())


# -- where the hooks run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["on_start", "on_ready", "on_close"])
def test_a_plain_hook_runs_in_a_thread_and_an_async_one_in_the_loop(kind: str) -> None:
    """As scheduled and background functions do. Django's ORM refuses to work where a loop runs."""
    app = Application(str)
    seen: list[tuple[str, bool, str]] = []

    def note(name: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen.append((name, False, variable.get()))
        else:
            seen.append((name, True, variable.get()))

    async def in_loop() -> None:
        note("async")

    def returns_a_coroutine() -> Any:
        return in_loop()

    for hook in (lambda: note("plain"), in_loop, returns_a_coroutine):
        getattr(app, kind)(hook)

    async def work() -> None:
        variable.set("the worker's")
        lives: dict[str, Any] = {"on_start": app.run_start, "on_ready": app.run_ready, "on_close": app.run_close}
        await lives[kind]()

    variable = contextvars.ContextVar[str]("variable")
    asyncio.run(work())
    expected = [("plain", False, "the worker's"), ("async", True, "the worker's"), ("async", True, "the worker's")]
    assert seen == (expected[::-1] if kind == "on_close" else expected)


def test_what_a_plain_start_hook_raises_fails_the_start() -> None:
    app = Application(str)

    @app.on_start
    def fail() -> None:
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        asyncio.run(app.run_start())


def test_a_plain_hook_is_left_behind_by_the_first_cancellation() -> None:
    app = Application(str)
    began, go_on = threading.Event(), threading.Event()

    @app.on_start
    def hang() -> None:
        began.set()
        assert go_on.wait(DEADLINE)

    async def work() -> None:
        starting = asyncio.ensure_future(app.run_start())
        await until(began.is_set)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, DEADLINE)

    asyncio.run(work())
    go_on.set()


def test_the_stacks_show_the_thread_that_a_worker_waits_for() -> None:
    app = Application(str)
    began, go_on = threading.Event(), threading.Event()

    @app.on_start
    def hang_in_a_thread() -> None:
        began.set()
        assert go_on.wait(DEADLINE)

    async def work() -> None:
        starting = asyncio.ensure_future(app.run_start())
        await until(began.is_set)
        try:
            assert "in hang_in_a_thread" in called_stacks(threading.get_ident())
            for own in (None, threading.get_ident()):
                assert "in hang_in_a_thread" in application_stacks(asyncio.get_running_loop(), own)
            assert not called_stacks(threading.get_ident() + 1)
            assert "hang" not in application_stacks(None, threading.get_ident() + 1)
        finally:
            go_on.set()
        await starting

    asyncio.run(work())
