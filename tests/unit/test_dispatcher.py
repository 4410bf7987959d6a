"""The registry behind a messenger's `on`, `once` and `off`, and the switch of its short cuts."""

import runpy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from eggcluster.ipc import channel
from eggcluster.ipc.dispatcher import LOG_INTERVAL
from eggcluster.ipc.handlers import Handlers
from eggcluster.model.messages.message import FrameKind, Target
from tests.unit.conftest import Run
from tests.unit.wires import Wires, until


def first(data: Any) -> None: ...


def second(data: Any) -> None: ...


def test_handlers_are_called_in_the_order_of_their_registration() -> None:
    handlers = Handlers()
    handlers.add("a", second)
    handlers.add("a", first)
    assert handlers.take("a") == [second, first]
    assert handlers.take("a") == [second, first]


def test_an_unknown_action_has_no_handlers() -> None:
    assert Handlers().take("a") == []


def test_once_is_once() -> None:
    handlers = Handlers()
    handlers.add("a", first, once=True)
    handlers.add("a", second)
    assert handlers.take("a") == [first, second]
    assert handlers.take("a") == [second]


def test_the_same_function_is_called_once_however_often_it_was_registered() -> None:
    handlers = Handlers()
    handlers.add("a", first)
    handlers.add("a", first)
    handlers.add("b", first)
    assert handlers.take("a") == [first]
    assert handlers.take("b") == [first]


def test_discard_removes_one_handler_or_all_and_ignores_unknown_ones() -> None:
    handlers = Handlers()
    for handler in (first, second):
        handlers.add("a", handler)
    handlers.discard("a", first)
    handlers.discard("a", first)
    assert handlers.take("a") == [second]
    handlers.discard("a")
    handlers.discard("a")
    handlers.discard("never", first)
    assert handlers.take("a") == []


def test_actions_that_are_used_once_leave_nothing_behind() -> None:
    handlers = Handlers()
    for number in range(100):
        handlers.add(f"answer-{number}", first, once=True)
        handlers.take(f"answer-{number}")
        handlers.add(f"answer-{number}", first)
        handlers.discard(f"answer-{number}", first)
    assert not handlers._by_action


class Methods:
    def one(self, data: Any) -> None: ...
    def none(self) -> None: ...


@pytest.mark.parametrize(
    "handler", [first, Methods().one, lambda data, more=1: None, lambda *all: None, partial(max, 1), print, str, len]
)
def test_a_callable_of_one_argument_is_a_handler(handler: Callable[[Any], Any]) -> None:
    Handlers().add("a", handler)


@pytest.mark.parametrize(
    "handler", [lambda: None, lambda a, b: None, Methods().none, lambda *, data: None, None, 1, "first"]
)
def test_a_callable_of_other_arguments_is_refused_when_it_is_registered(handler: Any) -> None:
    with pytest.raises(TypeError, match="one argument, the data"):
        Handlers().add("a", handler)


def test_an_action_is_a_string() -> None:
    with pytest.raises(TypeError, match="an action is a string"):
        Handlers().add(1, first)  # type: ignore[arg-type]


@pytest.mark.parametrize("on", [True, False])
def test_short_cuts_can_be_turned_off(run: Run, monkeypatch: pytest.MonkeyPatch, on: bool) -> None:
    monkeypatch.setattr(channel, "SHORT_CUTS", on)

    async def scene() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("echo", lambda data: data)
        one.messenger.send_to_agent("note", 1)
        await until(lambda: agent.got == [1])
        assert [await one.messenger.request("echo", number) for number in range(3)] == [0, 1, 2]
        assert (len(agent.channel.short_cuts), len(one.channel.short_cuts)) == ((2, 1) if on else (0, 0))

    run(scene())


@pytest.mark.parametrize(("value", "on"), [(None, True), ("0", True), ("1", False)])
def test_an_environment_variable_turns_short_cuts_off(
    monkeypatch: pytest.MonkeyPatch, value: str | None, on: bool
) -> None:
    monkeypatch.delenv("EGG_NO_SHORT_CUTS", raising=False)
    if value is not None:
        monkeypatch.setenv("EGG_NO_SHORT_CUTS", value)
    assert runpy.run_path(channel.__file__)["SHORT_CUTS"] is on


def test_a_flood_of_unreadable_messages_does_not_flood_the_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        began = time.monotonic()
        for _ in range(2000):
            one.write(FrameKind.MESSAGE, Target.AGENT, "no pair of action and data")
        one.messenger.send_to_agent("note", "the last")
        await until(lambda: agent.got == ["the last"])
        lines = [record for record in caplog.records if "dropped a message from app#1" in record.getMessage()]
        assert 1 <= len(lines) <= 1 + (time.monotonic() - began) / LOG_INTERVAL

    run(work())
