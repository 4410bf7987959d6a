"""Functions that are scheduled, or run in the background: what is refused where it is written."""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from eggcluster import Agent, Application, DeclarationError, ScheduleStrategy
from eggcluster.model.schedule.schedule_run import TIMEOUT
from eggcluster.worker.schedule.runner import Runner
from tests.unit.clock import in_no_time
from tests.waiting import DEADLINE


async def poll() -> None: ...


async def stream() -> AsyncIterator[int]:
    yield 1


def count() -> Iterator[int]:
    yield 1


class Stream:
    """An object whose call is a generator."""

    async def __call__(self) -> AsyncIterator[int]:
        yield 1


def scheduled(function: Any, agent: Agent | None = None, **terms: Any) -> None:
    (agent or Agent()).schedule("1s", **terms)(function)


def in_background(function: Any, agent: Agent | None = None, **terms: Any) -> None:
    (agent or Agent()).background(**terms)(function)


declaring = pytest.mark.parametrize("declare", [scheduled, in_background])


def refusal(declare: Callable[..., Any], *args: Any, **terms: Any) -> str:
    with pytest.raises(DeclarationError) as refused:
        declare(*args, **terms)
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 250
    return text


@pytest.mark.parametrize("owner", [Agent(), Application(print)])
def test_a_schedule_without_brackets_has_to_say_when(owner: Any) -> None:
    assert refusal(owner.schedule, poll).startswith('schedule tests.unit.test_declarations.poll: say when: interval="')


@declaring
@pytest.mark.parametrize("function", [stream, count, functools.partial(stream), Stream(), functools.partial(Stream())])
def test_a_generator_is_refused_because_calling_it_runs_nothing(declare: Any, function: Any) -> None:
    assert ": it is a generator" in refusal(declare, function)


@declaring
@pytest.mark.parametrize("wrong", [5, "poll", Stream, ["x\n"] * 1000], ids=["5", "text", "class", "long"])
def test_what_is_no_function_is_refused(declare: Any, wrong: Any) -> None:
    assert refusal(declare, wrong).endswith(" is not a function")


@declaring
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (5, "is not a non-empty string"),
        ("", "is not a non-empty string"),
        (" ", "is not a non-empty string"),
        ("a\nb", "cannot be printed"),
        ("\x1b[2J", "cannot be printed"),
        ("\ud800", "cannot be printed"),
        ("x" * 101, "more than 100 characters"),
    ],
    ids=ascii,
)
def test_a_name_fits_in_a_line(declare: Any, name: Any, why: str) -> None:
    text = refusal(declare, poll, name=name)
    assert "tests.unit.test_declarations.poll: name=" in text
    assert why in text
    declare(poll, name="x" * 100)
    declare(poll, name="Grüße, 世界")


class Sly:
    """Nothing can be said of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


TERMS = [
    "interval",
    "type",
    "name",
    "immediate",
    "disable",
    "env",
    "timeout",
    "overlap",
    "catch_up",
    "retry",
    "options",
]


@pytest.mark.parametrize("term", [*TERMS, "cron", "timezone", "jitter"])
@pytest.mark.parametrize("owner", [Agent, lambda: Application(print)])
def test_whatever_a_term_is_given_is_taken_or_refused_in_a_line(owner: Any, term: str) -> None:
    wrong = [
        5,
        -1,
        1.5,
        float("nan"),
        10**400,
        10**5000,
        True,
        None,
        "",
        "x",
        "\ud800",
        "1" * 5000,
        b"x",
        [],
        [5],
        ["x", 5],
    ]
    for value in [*wrong, {}, {1: 2}, {"a": object()}, {"a": "\ud800"}, {"a": threading.Lock()}, iter("x"), Sly(), int]:
        terms = {"cron": "* * * * *", term: value} if term in ("cron", "timezone") else {"interval": "10s", term: value}
        try:
            owner().schedule(**terms)(poll)
        except DeclarationError as error:
            text = str(error).encode().decode()
            assert len(text.splitlines()) == 1
            assert len(text) < 300
            assert term in text or "carry its terms" in text


def test_environments_are_a_list_and_options_a_dictionary_that_can_be_sent() -> None:
    app = Application(print)
    assert "env=5 is not a list of environments" in refusal(lambda: app.schedule("1s", env=5)(poll))  # type: ignore[arg-type]
    assert "options=[5] is not a dictionary" in refusal(lambda: app.schedule("1s", options=[5])(poll))  # type: ignore[arg-type]
    assert "MessagePack cannot carry its terms" in refusal(lambda: app.schedule("1s", options={"a": object()})(poll))


@pytest.mark.parametrize("name", [5, "", "a\nb", "worker"])
def test_a_type_has_a_name_that_fits_in_a_line(name: Any) -> None:
    assert "schedule type" in refusal(Agent().schedule.use, name, ScheduleStrategy)


def test_a_type_without_brackets_has_to_say_its_name() -> None:
    assert 'give it a name: agent.schedule.use("name")' in refusal(Agent().schedule.use, ScheduleStrategy)


@declaring
def test_two_of_one_name_are_refused_and_the_other_one_is_named(declare: Any) -> None:
    agent = Agent()
    declare(poll, agent=agent)
    assert '"poll" is also the name of tests.unit.test_declarations.poll: give one of them another name=' in refusal(
        declare, functools.partial(poll), agent=agent, name="poll"
    )
    declare(poll, agent=agent, name="another")


@pytest.mark.parametrize("term", ["interval", "timeout", "catch_up"])
@pytest.mark.parametrize("value", [1e300, "36526d"])
def test_nothing_takes_more_than_a_hundred_years(term: str, value: Any) -> None:
    terms = {"interval": "1s", term: value}
    assert f": {term}={value!r} is more than 100 years" in refusal(lambda: Agent().schedule(**terms)(poll))
    Agent().schedule("36525d")(poll)


def test_what_on_ready_declares_comes_too_late_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent()
    refused: list[str] = []

    @agent.on_ready
    def late() -> None:
        refused.append(refusal(agent.schedule("1s"), poll))
        refused.append(refusal(agent.background, poll))
        refused.append(refusal(agent.schedule.use, "mine", ScheduleStrategy))

    async def work() -> None:
        await agent.run_start()
        await agent.run_ready()
        await agent.run_close()

    in_no_time(work())
    assert len(refused) == 3, caplog.text
    assert all("too late" in text for text in refused)


def test_on_start_may_still_declare_a_background_task() -> None:
    agent = Agent()
    ran: list[int] = []

    @agent.on_start
    def declare() -> None:
        @agent.background
        async def note() -> None:
            ran.append(1)

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        await agent.run_close()

    in_no_time(work())
    assert ran == [1]


async def time_out(function: Callable[[], Any], then: float = 0) -> None:
    agent = Agent()
    agent.schedule("1m", timeout="500ms", name="poll")(function)
    end = await Runner(logging.getLogger("test")).begin(agent.schedule.tasks["poll"], "1", 0.0)
    assert end.outcome == TIMEOUT
    await asyncio.sleep(then)


COMPLAINT = "poll exceeded its timeout of 500ms and does not end; it counts as running"


def test_one_that_swallows_its_cancellation_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def swallow() -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    in_no_time(time_out(swallow))
    assert caplog.text.count(COMPLAINT) == 1


def test_a_thread_that_outlives_its_timeout_is_told_of_while_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if COMPLAINT in record.getMessage():
                told.set()

    handler = Listening()
    logging.getLogger("test").addHandler(handler)
    try:
        asyncio.run(time_out(lambda: told.wait(DEADLINE)))
    finally:
        logging.getLogger("test").removeHandler(handler)
    assert told.is_set()


def test_one_that_ends_when_it_is_cancelled_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    async def obedient() -> None:
        await asyncio.sleep(10)

    in_no_time(time_out(obedient, then=5))
    assert COMPLAINT not in caplog.text
