"""The event that threads wait for and coroutines await: `app.closing` and `app.drained`."""

import asyncio
import threading

import pytest

from eggcluster import Application
from eggcluster.kernel.awaitable_event import AwaitableEvent
from tests.waiting import DEADLINE, until


async def wait_for(event: AwaitableEvent) -> None:
    await event


def test_it_can_be_awaited_waited_for_and_asked() -> None:
    event = AwaitableEvent()
    waited: list[bool] = []
    thread = threading.Thread(target=lambda: waited.append(event.wait(DEADLINE)))
    thread.start()

    async def main() -> None:
        waiting = [asyncio.ensure_future(wait_for(event)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not event.is_set()
        event.set()
        await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE)
        await event  # once it is set, at once
        event.set()

    asyncio.run(main())
    thread.join()
    assert waited == [True]


def test_it_wakes_loops_in_other_threads() -> None:
    event, ended = AwaitableEvent(), threading.Event()

    async def wait() -> None:
        await event
        ended.set()

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    event.set()
    thread.join(DEADLINE)
    assert ended.is_set()


def test_cancelling_a_wait_ends_only_that_one_and_leaves_nothing() -> None:
    async def main() -> None:
        event = AwaitableEvent()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_for(event), 0.001)
        assert not event._waiters
        other = asyncio.ensure_future(wait_for(event))
        await until(lambda: event._waiters, "it waits")
        event.set()
        await asyncio.wait_for(other, DEADLINE)

    asyncio.run(main())


def test_a_loop_that_was_closed_while_it_waited_keeps_no_other_waiting() -> None:
    event = AwaitableEvent()
    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(wait_for(event))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def main() -> None:
        waiting = asyncio.ensure_future(wait_for(event))
        await asyncio.sleep(0)
        event.set()
        await asyncio.wait_for(waiting, DEADLINE)

    asyncio.run(main())
    forgotten._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of this test


def test_an_application_is_closing_before_it_is_drained() -> None:
    app = Application(lambda scope, receive, send: None)
    assert not app.closing.is_set()
    assert not app.drained.is_set()
    asyncio.run(app.run_close())
    assert app.closing.is_set()
    assert app.drained.is_set()
