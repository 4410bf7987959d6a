"""Messengers talking over real socket pairs through the switchboard, all in one event loop."""

import asyncio
import threading
from typing import Any

import pytest

from eggcluster.errors import (
    BadReceiver,
    MessageTooLarge,
    MessengerClosed,
    NotSerializable,
    ReceiverDied,
    RemoteError,
    RequestTimeout,
    ReservedAction,
)
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Role
from tests.unit.conftest import Run
from tests.unit.wires import Child, Wires, until


async def house(slots: int = 2) -> tuple[Wires, Child, list[Child]]:
    """Wires with a live agent and all app workers."""
    wires = Wires(slots)
    return wires, await wires.agent(), [await wires.app(slot) for slot in range(1, slots + 1)]


# -- sending ---------------------------------------------------------------------------------------------------


def test_broadcast_reaches_agent_and_all_apps_the_sender_too(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        apps[0].messenger.broadcast("note", {"n": 1})
        await until(lambda: all(child.got == [{"n": 1}] for child in (agent, *apps)))

    run(work())


def test_send_to_app_reaches_all_apps_and_not_the_agent(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        apps[1].messenger.send_to_app("note", 1)
        agent.messenger.send_to_app("note", 2)
        await until(lambda: all(sorted(child.got) == [1, 2] for child in apps))
        assert agent.got == []

    run(work())


def test_each_role_has_a_default_receiver(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        parent = await wires.parent()
        apps[0].messenger.send("note", "to the agent")
        agent.messenger.send("note", "to the apps")
        parent.messenger.send("note", "to the master")
        await until(lambda: agent.got and all(app.got for app in apps) and wires.switchboard.lost.total)
        assert agent.got == ["to the agent"]
        assert [app.got for app in apps] == [["to the apps"]] * 2

    run(work())


def test_send_to_reaches_exactly_the_named_receiver(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        parent = await wires.parent()
        assert apps[1].worker is not None
        assert apps[1].worker.worker_id is not None
        receivers: list[int | str] = ["agent", "app#1", apps[1].worker.worker_id, "parent"]
        for number, receiver in enumerate(receivers):
            apps[0].messenger.send_to(receiver, "note", number)
        apps[0].messenger.send_to_parent("note", 4)
        await until(lambda: len(parent.got) == 2)
        await until(lambda: agent.got == [0] and [app.got for app in apps] == [[1], [2]])
        assert parent.got == [3, 4]

    run(work())


def test_send_random_reaches_one_listening_worker_each_time_and_not_always_the_same(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        booting = await wires.app(2, live=False)
        for number in range(60):
            agent.messenger.send_random("note", number)
        await until(lambda: sum(len(app.got) for app in apps) == 60)
        assert all(app.got for app in apps)
        assert booting.got == []

    run(work())


def test_order_is_kept_between_one_sender_and_one_receiver(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        for number in range(2000):
            (apps[0].messenger.send_to_agent if number % 2 else apps[0].messenger.broadcast)("note", number)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(agent.got) == 2000)
        assert agent.got == list(range(2000))

    run(work())


def test_a_message_that_cannot_be_sent_raises_in_the_sender_only(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        messenger = apps[0].messenger
        with pytest.raises(ReservedAction):
            messenger.broadcast("egg-ready")
        with pytest.raises(NotSerializable):
            messenger.send_to_agent("note", object())
        with pytest.raises(MessageTooLarge):
            messenger.send_to_agent("note", b"x" * (16 << 20))
        with pytest.raises(BadReceiver):
            messenger.send_to("nobody", "note")
        messenger.send_to_agent("note", "fine")
        await until(lambda: agent.got == ["fine"])
        assert not wires.broken

    run(work())


def test_outside_of_a_cluster_sending_raises_and_handlers_can_be_registered() -> None:
    messenger = Messenger()
    messenger.on("note", print)
    with pytest.raises(MessengerClosed, match="no cluster runs here"):
        messenger.send_to_app("note")


def test_threads_send_too_and_each_keeps_its_order(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()

        def send(name: str) -> None:
            for number in range(300):
                apps[0].messenger.send_to_agent("note", [name, number])

        threads = [threading.Thread(target=send, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        await until(lambda: len(agent.got) == 600)
        for thread in threads:
            thread.join()
        for name in "ab":
            assert [number for who, number in agent.got if who == name] == list(range(300))

    run(work())


def test_a_request_may_be_made_in_another_threads_event_loop(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        agent.messenger.on("double", lambda data: data * 2)
        answers: list[Any] = []

        def ask() -> None:
            answers.append(asyncio.run(apps[0].messenger.request("double", 21)))

        thread = threading.Thread(target=ask)
        thread.start()
        await until(lambda: answers)
        thread.join()
        assert answers == [42]

    run(work())


# -- receiving -------------------------------------------------------------------------------------------------


def test_plain_and_async_handlers_are_called_with_the_data(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        got = []

        @agent.messenger.on("both")
        async def slow(data: Any) -> None:
            await asyncio.sleep(0)
            got.append(("async", data))

        @agent.messenger.on("both")
        def quick(data: Any) -> None:
            got.append(("plain", data))

        apps[0].messenger.send_to_agent("both", 1)
        await until(lambda: sorted(got) == [("async", 1), ("plain", 1)])

    run(work())


def test_a_handler_that_raises_is_logged_and_stops_neither_the_others_nor_the_worker(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        _, agent, apps = await house()

        async def fail_later(data: Any) -> None:
            raise RuntimeError("later")

        def fail(data: Any) -> None:
            raise RuntimeError("at once")

        for handler in (fail, fail_later, agent.got.append):
            agent.messenger.on("bad", handler)
        apps[0].messenger.send_to_agent("bad", 1)
        apps[0].messenger.send_to_agent("bad", 2)
        await until(lambda: agent.got == [1, 2] and caplog.text.count("RuntimeError: later") == 2)
        assert caplog.text.count("RuntimeError: at once") == 2
        assert not agent.closed

    run(work())


def test_wait_for_returns_the_data_of_the_next_message_or_times_out(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        waiting = asyncio.ensure_future(agent.messenger.wait_for("it", 5))
        await asyncio.sleep(0)
        apps[0].messenger.send_to_agent("it", "here")
        assert await waiting == "here"
        with pytest.raises(TimeoutError):
            await agent.messenger.wait_for("it", 0.01)
        assert "it" not in agent.messenger._handlers._by_action

    run(work())


def test_an_application_cannot_forge_a_lifecycle_message(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        agent.messenger.on("egg-ready", agent.got.append)
        apps[0].write(FrameKind.MESSAGE, Target.AGENT, ["egg-ready", {}])
        apps[0].messenger.send_to_agent("note", "after it")
        await until(lambda: agent.got == ["after it"])

    run(work())


@pytest.mark.parametrize("content", [None, 1, [], ["note"], [1, 2], ["note", 1, 2], {"note": 1}])
def test_a_message_of_another_shape_is_dropped_and_the_next_one_is_received(run: Run, content: Any) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        for kind in (FrameKind.MESSAGE, FrameKind.REQUEST):
            apps[0].write(kind, Target.AGENT, content, request_id=1)
        apps[0].messenger.send_to_agent("note", "next")
        await until(lambda: agent.got == ["next"])
        assert not agent.closed

    run(work())


# -- asking ----------------------------------------------------------------------------------------------------


def test_a_request_returns_what_the_handler_returned_plain_or_async(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()

        async def double(data: int) -> int:
            await asyncio.sleep(0.001 * (10 - data))
            return data * 2

        agent.messenger.on("double", double)
        agent.messenger.on("plain", lambda data: {"got": data})
        answers = await asyncio.gather(*(apps[n % 2].messenger.request("double", n) for n in range(10)))
        assert answers == [n * 2 for n in range(10)]
        assert await apps[0].messenger.request("plain", [1]) == {"got": [1]}
        assert not wires.switchboard._requests

    run(work())


def test_the_agents_request_goes_to_one_app_worker(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        for app in apps:
            app.messenger.on("who", lambda data, slot=app.address.slot: slot)
        assert {await agent.messenger.request("who") for _ in range(40)} == {1, 2}
        assert await agent.messenger.request("who", to="app#2") == 2
        with pytest.raises(BadReceiver):
            await agent.messenger.request("who", to="all")

    run(work())


def test_a_request_to_oneself_is_answered(run: Run) -> None:
    async def work() -> None:
        _, _, apps = await house()
        apps[0].messenger.on("me", lambda data: data)
        assert await apps[0].messenger.request("me", 1, to="app#1") == 1

    run(work())


def test_an_exception_of_the_handler_is_raised_with_its_kind_and_traceback(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()

        def fail(data: Any) -> None:
            raise KeyError("which")

        agent.messenger.on("bad", fail)
        with pytest.raises(RemoteError) as caught:
            await apps[0].messenger.request("bad")
        assert (caught.value.kind, caught.value.message) == ("KeyError", "'which'")
        assert "in fail" in caught.value.remote_traceback

    run(work())


def test_an_answer_that_cannot_be_sent_is_an_error_at_once_and_not_a_timeout(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        agent.messenger.on("object", lambda data: object())
        agent.messenger.on("huge", lambda data: b"x" * (16 << 20))
        for action, kind in (
            ("nobody listens", "NoHandler"),
            ("object", "NotSerializable"),
            ("huge", "MessageTooLarge"),
        ):
            with pytest.raises(RemoteError) as caught:
                await apps[0].messenger.request(action)
            assert caught.value.kind == kind

    run(work())


def test_an_exception_whose_text_cannot_be_sent_is_still_an_answer(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()

        def fail(data: Any) -> None:
            raise ValueError("\ud800")

        agent.messenger.on("bad", fail)
        with pytest.raises(RemoteError):
            await apps[0].messenger.request("bad")

    run(work())


@pytest.mark.parametrize("end", ["timeout", "cancel"])
def test_an_abandoned_request_cancels_the_handler(run: Run, end: str) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        seen: list[str] = []

        async def slow(data: Any) -> None:
            seen.append("began")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        agent.messenger.on("slow", slow)
        asking = asyncio.ensure_future(apps[0].messenger.request("slow", timeout=0.05 if end == "timeout" else 60))
        await until(lambda: seen)
        if end == "cancel":
            asking.cancel()
        with pytest.raises(RequestTimeout if end == "timeout" else asyncio.CancelledError):
            await asking
        await until(lambda: seen == ["began", "cancelled"])
        await until(lambda: not agent.messenger._incoming._running)
        assert not wires.switchboard._requests
        assert not apps[0].messenger._pending

    run(work())


def test_an_answer_that_comes_too_late_is_dropped(run: Run) -> None:
    async def work() -> None:
        _, agent, apps = await house()
        release = asyncio.Event()

        async def stubborn(data: Any) -> str:
            try:
                await release.wait()
            except asyncio.CancelledError:
                await release.wait()
            return "late"

        agent.messenger.on("late", stubborn)
        agent.messenger.on("next", lambda data: "next")
        with pytest.raises(RequestTimeout, match=r'no answer to "late" within 0\.02s'):
            await apps[0].messenger.request("late", timeout=0.02)
        release.set()
        assert await apps[0].messenger.request("next") == "next"

    run(work())


def test_a_request_that_has_begun_fails_as_soon_as_its_receiver_is_known_dead(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        agent.messenger.on("never", lambda data: asyncio.sleep(60))
        asking = asyncio.ensure_future(apps[0].messenger.request("never", timeout=60))
        page = agent.page
        assert page is not None
        await until(lambda: page.begun().count == 1)
        wires.dies(agent)
        with pytest.raises(ReceiverDied, match="died before it answered"):
            await asking

    run(work())


@pytest.mark.parametrize("receiver", ["parent", "app#9", 999_999])
def test_a_request_without_a_receiver_fails_at_once(run: Run, receiver: int | str) -> None:
    async def work() -> None:
        wires, _, apps = await house()
        with pytest.raises(ReceiverDied, match="no receiver"):
            await apps[0].messenger.request("x", to=receiver, timeout=60)
        assert wires.switchboard.lost.total == 1

    run(work())


def test_a_request_to_an_agent_that_is_being_replaced_is_answered_by_the_next_one(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        wires.dies(agent)
        asking = asyncio.ensure_future(apps[0].messenger.request("who", timeout=60))
        await until(lambda: wires.switchboard._router.kept)
        successor = await wires.agent(live=False)
        successor.messenger.on("who", lambda data: "the next one")
        wires.go_live(successor)
        assert await asking == "the next one"

    run(work())


def test_pending_requests_fail_when_the_channel_closes(run: Run) -> None:
    async def work() -> None:
        wires, agent, apps = await house()
        agent.messenger.on("never", lambda data: asyncio.sleep(60))
        asking = asyncio.ensure_future(apps[0].messenger.request("never", timeout=60))
        await until(lambda: wires.switchboard._requests)
        wires.dies(apps[0])
        with pytest.raises(MessengerClosed):
            await asking
        with pytest.raises(MessengerClosed):
            apps[0].messenger.send_to_agent("note")
        assert not wires.switchboard._requests

    run(work())


def test_a_messengers_own_role_decides_its_defaults() -> None:
    messenger = Messenger(Role.APP)
    assert messenger._one_receiver(None) == (Target.AGENT, 0)
    messenger.set_role(Role.AGENT)
    assert messenger._one_receiver(None) == (Target.RANDOM, 0)


def test_an_application_can_neither_send_nor_receive_internal_actions(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, app = await wires.agent(), await wires.app(1)
        heard: list[Any] = []
        action = "egg-schedule-run"
        for messenger in (agent.messenger, app.messenger):
            for refused in (messenger.on, messenger.once, messenger.off, messenger.send, messenger.send_to_app):
                with pytest.raises(ReservedAction, match="eggcluster's own"):
                    refused(action, heard.append)
            with pytest.raises(ReservedAction):
                await messenger.request(action, to="agent")
        app.messenger.internal.on(action, lambda data: data * 2)
        assert await agent.messenger.internal.request(action, 21, to="app#1") == 42
        app.messenger.internal.on("egg-schedule-ask", heard.append)
        agent.messenger.internal.send("egg-schedule-ask", "who?", to="app")
        await until(lambda: heard == ["who?"])

    run(work())


def test_a_message_without_a_handler_is_told_at_debug_level(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        _, agent, apps = await house(1)
        for action in ("nothing here", "nothing here", "forged\n\x1b[2J"):  # the second one takes the short cut
            apps[0].messenger.send_to_agent(action, "secret")
        apps[0].messenger.send_to_agent("note", 1)
        await until(lambda: agent.got == [1])

    with caplog.at_level("DEBUG", logger="eggcluster.messenger"):
        run(work())
    told = [record.getMessage() for record in caplog.records if "has no handler" in record.getMessage()]
    assert told == [
        "a message 'nothing here' has no handler here: it is dropped",
        "a message 'nothing here' has no handler here: it is dropped",
        "a message 'forged\\n\\x1b[2J' has no handler here: it is dropped",
    ]
