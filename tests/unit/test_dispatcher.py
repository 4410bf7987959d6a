"""The registry behind a messenger's `on`, `once` and `off`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from eggcluster.ipc.dispatcher import Handlers


def first(data: Any) -> None: ...


def second(data: Any) -> None: ...


def test_handlers_are_called_in_the_order_of_their_registration() -> None:
    handlers = Handlers()
    handlers.add("a", second)
    handlers.add("a", first)
    assert handlers.take("a") == [second, first]
    assert handlers.take("a") == [second, first]


def test_an_action_that_nobody_listens_to_has_no_handlers() -> None:
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


def test_off_forgets_one_or_all_and_what_is_not_there_is_no_error() -> None:
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


class Bound:
    def one(self, data: Any) -> None: ...
    def none(self) -> None: ...


@pytest.mark.parametrize(
    "handler", [first, Bound().one, lambda data, more=1: None, lambda *all: None, partial(max, 1), print, str, len]
)
def test_what_takes_the_data_is_a_handler(handler: Callable[[Any], Any]) -> None:
    Handlers().add("a", handler)


@pytest.mark.parametrize(
    "handler", [lambda: None, lambda a, b: None, Bound().none, lambda *, data: None, None, 1, "first"]
)
def test_what_cannot_take_the_data_alone_is_refused_when_it_is_registered(handler: Any) -> None:
    with pytest.raises(TypeError, match="one argument, the data"):
        Handlers().add("a", handler)


def test_an_action_is_a_string() -> None:
    with pytest.raises(TypeError, match="an action is a string"):
        Handlers().add(1, first)  # type: ignore[arg-type]
