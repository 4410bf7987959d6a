"""Every call of the messenger, from one worker to another, in every mode."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eggcluster import ReceiverDied, RemoteError, RequestTimeout
from tests.modes.conftest import PLACES, Lab
from tests.waiting import DEADLINE


def reached(lab: Lab) -> dict[str, list[Any]]:
    """The notes that came to each place, once all under way have come to rest; forgotten afterwards."""
    for _ in range(2):  # a question follows what was sent before it to the same place
        lab.everywhere("await messenger.drain()")
    source = "me = globals().get('app') or agent; notes = me.local.notes[:]; me.local.notes.clear(); return notes"
    return {place: notes for place, notes in lab.everywhere(source).items() if notes}


@pytest.mark.parametrize(
    ("sender", "call", "receivers"),
    [
        ("app#1", "send('note', 1)", ["agent"]),
        ("agent", "send('note', 1)", ["app#1", "app#2"]),
        ("app#1", "send('note', 1, 'app#2')", ["app#2"]),
        ("app#1", "broadcast('note', 1)", [*PLACES]),
        ("agent", "broadcast('note', 1)", [*PLACES]),
        ("app#1", "send_to_app('note', 1)", ["app#1", "app#2"]),
        ("app#2", "send_to_agent('note', 1)", ["agent"]),
        ("agent", "send_to_agent('note', 1)", ["agent"]),
        ("agent", "send_to('app#2', 'note', 1)", ["app#2"]),
        ("app#1", "send_to('agent', 'note', 1)", ["agent"]),
    ],
)
def test_a_message_reaches_only_the_receivers_it_names(lab: Lab, sender: str, call: str, receivers: list[str]) -> None:
    lab.tell(sender, f"messenger.{call}")
    assert reached(lab) == {place: [1] for place in receivers}


def test_the_parent_s_messages_arrive_like_the_others(lab: Lab) -> None:
    lab.messenger.broadcast("note", "all")
    lab.messenger.send_to("app#2", "note", "one")
    lab.run(lab.messenger.drain())
    assert reached(lab) == {"agent": ["all"], "app#1": ["all"], "app#2": ["all", "one"]}


def test_each_worker_has_an_id_of_its_own_and_is_reached_by_it(lab: Lab) -> None:
    ids = lab.everywhere("return (globals().get('app') or agent).worker_id")
    assert len(set(ids.values())) == 3
    for place, worker_id in ids.items():
        lab.tell("app#1", "messenger.send_to(given, 'note', given)", worker_id)
        assert reached(lab) == {place: [worker_id]}
        assert lab.run(lab.messenger.request("double", 4, to=worker_id)) == 8


def test_random_is_one_app_worker_at_a_time_and_each_at_some_time(lab: Lab) -> None:
    lab.tell("agent", "for n in range(60): messenger.send_random('note', n)")
    came = reached(lab)
    assert set(came) == {"app#1", "app#2"}
    assert sorted(came["app#1"] + came["app#2"]) == list(range(60))


@pytest.mark.parametrize("call", ["send_to_parent('hi', 7)", "send_to('parent', 'hi', 7)", "send('hi', 7, 'parent')"])
def test_agent_and_apps_reach_the_parent(lab: Lab, call: str) -> None:
    async def work(place: str) -> None:
        heard = asyncio.ensure_future(lab.messenger.wait_for("hi", DEADLINE))
        await asyncio.sleep(0)
        await lab.ask(place, f"messenger.{call}")
        assert await heard == 7

    for place in PLACES:
        lab.run(work(place))


def test_handlers_of_a_module_that_both_import_are_everybody_s(lab: Lab) -> None:
    """`messenger.on` in a module that the agent and the app import: each of them answers."""
    for sender in PLACES:
        for place in PLACES:
            assert lab.tell(sender, "return await messenger.request('double', 21, to=given)", place) == 42


def test_handlers_of_an_object_s_messenger_are_of_its_role_alone(lab: Lab) -> None:
    assert lab.tell("app#1", "messenger is not None; return await messenger.request('run', ['return 5', None])") == 5
    with pytest.raises(RemoteError, match="NoHandler"):
        lab.run(lab.messenger.request("farewell", to="app#1"))


@pytest.mark.parametrize("place", ["agent", "app#1"])
def test_an_application_asks_the_master_for_its_status_and_for_nothing_else(lab: Lab, place: str) -> None:
    """What a closing agent asks of the master has a name that an application cannot use."""
    ask = """
try:
    return await messenger.request(given, to="master")
except Exception as error:
    return repr(error)
"""
    assert lab.tell(place, ask, "status")["name"]
    for action in ("leave", "reload", "anything"):
        assert "NoHandler" in lab.tell(place, ask, action)
    assert "ReservedAction" in lab.tell(place, ask, "egg-leave")
    assert lab.tell("app#2", "return await messenger.request('double', 21, to='agent')") == 42


def test_what_a_worker_registers_at_run_time_is_its_own(lab: Lab) -> None:
    async def work() -> None:
        assert [await lab.messenger.request("registered at run time", to=place) for place in PLACES] == [0, 1, 2]
        await lab.ask("app#1", "app.messenger.on('only here', lambda data: 'here')")
        assert await lab.messenger.request("only here", to="app#1") == "here"
        for other in ("agent", "app#2"):
            with pytest.raises(RemoteError, match="NoHandler"):
                await lab.messenger.request("only here", to=other)
        await lab.ask("app#1", "app.messenger.off('only here')")
        with pytest.raises(RemoteError, match="NoHandler"):
            await lab.messenger.request("only here", to="app#1")

    lab.run(work())


def test_once_is_once_in_each_worker(lab: Lab) -> None:
    async def work() -> None:
        for place in PLACES:
            assert await lab.messenger.request("first", to=place) == "once"
            with pytest.raises(RemoteError, match="NoHandler"):
                await lab.messenger.request("first", to=place)

    lab.run(work())


def test_a_worker_waits_for_a_message(lab: Lab) -> None:
    async def work(place: str) -> None:
        waiting = asyncio.ensure_future(lab.ask(place, "return await messenger.wait_for('the moment', 10)"))
        while not waiting.done():  # until a worker waits for it, it has no receiver
            lab.messenger.send_to(place, "the moment", place)
            await asyncio.sleep(0.02)
        assert await waiting == place
        raised = "with both.refusals() as names: await messenger.wait_for('the moment', 0.05)\nreturn names"
        assert await lab.ask(place, raised) == ["TimeoutError"]

    for place in PLACES:
        lab.run(work(place))


def test_a_request_gives_what_the_handler_raised(lab: Lab) -> None:
    source = (
        "import eggcluster\ntry: await messenger.request('refuse', to=given)\n"
        "except eggcluster.RemoteError as error: return error.kind, error.message, error.remote_traceback"
    )
    for sender in PLACES:
        kind, message, traceback = lab.tell(sender, source, "app#2")
        assert (kind, message) == ("KeyError", "'not this one'")
        assert "both.py" in traceback


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("await messenger.request('slow', 60, to='app#2', timeout=0.1)", "RequestTimeout"),
        ("await messenger.request('double', 1, to=2 ** 40)", "ReceiverDied"),
        ("await messenger.request('double', 1, to='app#9')", "ReceiverDied"),
        ("await messenger.request('double', 1, to='all')", "BadReceiver"),
        ("messenger.send('note', object())", "NotSerializable"),
        ("messenger.send('note', bytes(17 << 20))", "MessageTooLarge"),
        ("messenger.send('egg-ready')", "ReservedAction"),
        ("messenger.send_to('the moon', 'note')", "BadReceiver"),
        ("messenger.on('double')(lambda: 0)", "TypeError"),
        ("await asyncio.to_thread(messenger.send, 'note', object())", "NotSerializable"),
    ],
)
def test_what_cannot_be_sent_or_answered_raises_in_the_sender(lab: Lab, call: str, error: str) -> None:
    for sender in ("agent", "app#1"):
        assert lab.tell(sender, f"with both.refusals() as names: {call}\nreturn names") == [error]


def test_a_request_that_times_out_cancels_its_handler(lab: Lab) -> None:
    endless = "try: await asyncio.sleep(1000)\nexcept asyncio.CancelledError: app.local.cancelled = True; raise"

    async def work() -> None:
        with pytest.raises(RequestTimeout):
            await lab.messenger.request("run", [endless, None], to="app#1", timeout=0.2)

    lab.run(work())
    lab.wait("app#1", "getattr(app.local, 'cancelled', False)")


def test_messages_keep_their_order(lab: Lab) -> None:
    flood = "for n in range(2000): messenger.send_to_agent('note', [app.slot, n])\nawait messenger.drain()"

    async def work() -> None:
        await asyncio.gather(lab.ask("app#1", flood), lab.ask("app#2", flood))

    lab.run(work())
    notes = reached(lab)["agent"]
    for slot in (1, 2):
        assert [n for who, n in notes if who == slot] == list(range(2000))


# -- a worker dies -----------------------------------------------------------------------------------------------

DIE = "asyncio.get_running_loop().call_soon(sys.exit, 3)"


@asynccontextmanager
async def replaced(lab: Lab, slot: int) -> AsyncIterator[None]:
    """The worker in that slot dies in the block; afterwards there is another."""
    before = {worker.worker_id for worker in lab.cluster.workers}
    yield
    while len(lab.cluster.workers) < 2 or {worker.worker_id for worker in lab.cluster.workers} <= before:
        await asyncio.sleep(0.01)


def test_a_request_whose_receiver_dies_says_so_at_once(lab: Lab) -> None:
    asking = "with both.refusals() as names: await messenger.request('slow', 60, to='app#2', timeout=60)\nreturn names"

    async def work() -> None:
        async with replaced(lab, 2):
            asked = [asyncio.ensure_future(lab.ask(place, asking)) for place in ("agent", "app#1")]
            await asyncio.sleep(0.1)
            with pytest.raises(ReceiverDied):
                await lab.ask("app#2", f"{DIE}\nawait asyncio.sleep(60)")
            assert await asyncio.gather(*asked) == [["ReceiverDied"], ["ReceiverDied"]]
        assert await lab.messenger.request("double", 5, to="app#2") == 10

    lab.run(work())


def test_what_is_sent_to_a_worker_that_still_boots_is_kept_for_it(lab: Lab) -> None:
    async def work() -> None:
        async with replaced(lab, 2):
            with pytest.raises(ReceiverDied):
                await lab.ask("app#2", f"{DIE}\nawait asyncio.sleep(60)")
            lab.messenger.send_to("app#2", "note", "kept")

    lab.run(work())
    lab.wait("app#2", "'kept' in app.local.notes")
    reached(lab)


def test_the_agent_s_mail_waits_for_the_next_agent(lab: Lab) -> None:
    async def work() -> None:
        with pytest.raises(ReceiverDied):
            await lab.ask("agent", f"{DIE}\nawait asyncio.sleep(60)")
        await lab.ask("app#1", "messenger.send_to_agent('note', 'kept')")
        assert await lab.messenger.request("double", 3, to="agent", timeout=DEADLINE) == 6

    lab.run(work())
    lab.wait("agent", "'kept' in agent.local.notes")
    assert lab.run(lab.cluster.status())["agent"]["generation"] == 2
    reached(lab)
