"""The messenger between real processes: which receivers are reached, in which order, and what happens without one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from eggcluster import (
    Cluster,
    MessageTooLarge,
    NotSerializable,
    ReceiverDied,
    RemoteError,
    RequestTimeout,
    ReservedAction,
)
from eggcluster.ipc.frame import HEADER, encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT, MASTER, app
from tests.cluster.harness import Project, projects
from tests.cluster.remote import ask, marks, obedient
from tests.waiting import DEADLINE, until

PLACES = ("agent", "app#1", "app#2")
LIMIT = 100_000  # bytes of the largest message

# A request returns what a worker has received; the other handlers answer requests in all ways.
LISTENING = """
@messenger.on("double")
def double(data):
    return data * 2

@messenger.on("echo")
async def echo(data):
    return data

@messenger.on("slow")
async def slow(seconds):
    await asyncio.sleep(seconds)
    return seconds

@messenger.on("refuse")
def refuse(data):
    raise KeyError("not this one")

cancelled = []

@messenger.on("hang")
async def hang(data):
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        cancelled.append(data)
        raise

@messenger.on("shapeless")
def shapeless(data):
    return object()
"""


@asynccontextmanager
async def running(project: Project, **options: Any) -> AsyncIterator[Cluster]:
    """A cluster of the project's; its log stays in the project."""
    environ = pytest.MonkeyPatch()
    environ.setenv("EGG_RUNTIME_DIR", project.environ["EGG_RUNTIME_DIR"])
    cluster = Cluster("app:app", **{"workers": 2, "port": 0, "base_dir": str(project.folder), **options})
    with (project.folder / "cluster.log").open("ab") as log, environ.context():
        await cluster.start(output=log.fileno())
        try:
            yield cluster
        finally:
            assert await cluster.close() == 0
    environ.undo()


def log_of(project: Project) -> str:
    return (project.folder / "cluster.log").read_text()


class Lab:
    """One cluster for many tests, and the loop in which its parent lives."""

    def __init__(self, runner: asyncio.Runner, cluster: Cluster) -> None:
        self._runner = runner
        self.messenger = cluster.messenger
        self.cluster = cluster

    def run(self, scenario: Callable[["Lab"], Coroutine[Any, Any, None]]) -> None:
        self._runner.run(scenario(self))

    async def ask(self, to: str | int, source: str, given: Any = None) -> Any:
        return await ask(self.messenger, to, source, given)

    async def seen(self, count: int, to: str | int) -> list[Any]:
        """What "note" has brought to a worker, once it is `count`; forgotten there afterwards."""
        waiting = "while len(seen) < given: await asyncio.sleep(0.01)\nfound = seen[:]; seen.clear(); return found"
        async with asyncio.timeout(DEADLINE):
            return list(await self.ask(to, waiting, count))

    async def counts(self) -> dict[str, int]:
        """How many notes are everywhere, once all messages under way have come to rest; forgotten afterwards."""
        for _ in range(2):  # a question follows what was sent before it to the same place
            await asyncio.gather(*(self.ask(place, "await messenger.drain()") for place in PLACES))
        source = "count = len(seen); seen.clear(); return count"
        return {place: await self.ask(place, source) for place in PLACES}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for project in projects(tmp_path_factory.mktemp("messenger")):
        project.write(remote_handlers="from remote import *\n" + LISTENING)
        obedient(project, app="\nimport remote_handlers\n", agent="\nimport remote_handlers\n")
        with asyncio.Runner() as runner:
            context = running(project, max_message_bytes=LIMIT)
            cluster = runner.run(context.__aenter__())
            try:
                yield Lab(runner, cluster)
            finally:
                runner.run(context.__aexit__(None, None, None))


# -- receivers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "call", "reached"),
    [
        ("app#1", "broadcast('note', 1)", {"agent": 1, "app#1": 1, "app#2": 1}),
        ("agent", "broadcast('note', 1)", {"agent": 1, "app#1": 1, "app#2": 1}),
        ("parent", "broadcast('note', 1)", {"agent": 1, "app#1": 1, "app#2": 1}),
        ("app#1", "send_to_app('note', 1)", {"app#1": 1, "app#2": 1}),
        ("agent", "send_to_app('note', 1)", {"app#1": 1, "app#2": 1}),
        ("parent", "send_to_app('note', 1)", {"app#1": 1, "app#2": 1}),
        ("app#2", "send_to_agent('note', 1)", {"agent": 1}),
        ("agent", "send_to_agent('note', 1)", {"agent": 1}),
        ("parent", "send_to_agent('note', 1)", {"agent": 1}),
        ("app#1", "send_to('app#2', 'note', 1)", {"app#2": 1}),
        ("app#1", "send_to('app#1', 'note', 1)", {"app#1": 1}),
        ("app#1", "send_to('agent', 'note', 1)", {"agent": 1}),
        ("agent", "send_to('app#1', 'note', 1)", {"app#1": 1}),
        ("app#1", "send('note', 1)", {"agent": 1}),
        ("agent", "send('note', 1)", {"app#1": 1, "app#2": 1}),
    ],
)
def test_a_message_reaches_the_receivers_it_names(lab: Lab, sender: str, call: str, reached: dict[str, int]) -> None:
    async def scenario(lab: Lab) -> None:
        if sender == "parent":
            eval(f"messenger.{call}", {"messenger": lab.messenger})
        else:
            await lab.ask(sender, f"messenger.{call}")
        assert await lab.counts() == {place: reached.get(place, 0) for place in PLACES}

    lab.run(scenario)


def test_a_worker_id_names_one_worker(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        for place in PLACES:
            worker_id = await lab.ask(place, "return me.worker_id")
            await lab.ask("app#1", "messenger.send_to(given, 'note', 1)", worker_id)
            assert await lab.counts() == {name: int(name == place) for name in PLACES}

    lab.run(scenario)


def test_random_means_one_app_worker_at_a_time_and_each_at_some_time(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        await lab.ask("agent", "for n in range(100): messenger.send_random('note', n)")
        counts = await lab.counts()
        assert counts["agent"] == 0
        assert counts["app#1"] + counts["app#2"] == 100
        assert min(counts["app#1"], counts["app#2"]) > 10

    lab.run(scenario)


@pytest.mark.parametrize("call", ["send_to_parent('hi', 7)", "send_to('parent', 'hi', 7)", "send('hi', 7, 'parent')"])
def test_the_parent_hears_agent_and_apps(lab: Lab, call: str) -> None:
    async def scenario(lab: Lab) -> None:
        for place in PLACES:
            heard = asyncio.ensure_future(lab.messenger.wait_for("hi", DEADLINE))
            await asyncio.sleep(0)
            await lab.ask(place, f"messenger.{call}")
            assert await heard == 7

    lab.run(scenario)


def test_a_message_without_a_receiver_is_counted_and_logged(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        before = (await lab.cluster.status())["messages_to_nobody"]
        await lab.ask("app#1", "messenger.send_to(2 ** 40, 'note', 1); messenger.send_to('app#9', 'note', 1)")
        await lab.counts()
        assert (await lab.cluster.status())["messages_to_nobody"] == before + 2
        with pytest.raises(ReceiverDied, match="no receiver"):
            await lab.messenger.request("echo", to=2**40)
        assert lab.cluster.options is not None
        log = open(os.path.join(lab.cluster.options.base_dir, "cluster.log")).read()  # noqa: ASYNC230, SIM115
        # the next ones of the same second are counted only
        assert f"a message not delivered: no receiver: worker {2**40}, from app#1" in log

    lab.run(scenario)


# -- what arrives ------------------------------------------------------------------------------------------------

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    1.5,
    float("inf"),
    "",
    "héllo ✓ 🥚",
    b"",
    bytes(range(256)),
    [],
    {},
    [1, [2, [3, {"deep": [None, b"x"]}]]],
    {"a": {"b": {"c": 1}}, "list": [1, "2", 3.0]},
    {1: "int keys", "s": 2},
    datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=8))),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_data_comes_back_as_it_was_sent(lab: Lab, value: Any) -> None:
    async def scenario(lab: Lab) -> None:
        for place in PLACES:
            answer = await lab.messenger.request("echo", value, to=place)
            assert answer == value
            assert type(answer) is type(value)

    lab.run(scenario)


@pytest.mark.parametrize(
    "value", [object(), {1, object()}, 2**64, 1j], ids=["an object", "a set", "a big number", "a complex number"]
)
def test_what_messagepack_cannot_carry_raises_in_the_sender(lab: Lab, value: Any) -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(NotSerializable):
            lab.messenger.send_to_agent("note", value)
        with pytest.raises(NotSerializable):
            await lab.messenger.request("echo", value, to="agent")

    lab.run(scenario)
    assert lab_raises(lab, "agent", "messenger.send_to_app('note', object())") == "NotSerializable"


def lab_raises(lab: Lab, to: str, source: str) -> str:
    """The name of the exception that `source` raises there."""
    names: list[str] = []

    async def scenario(lab: Lab) -> None:
        body = "\n    ".join(source.splitlines())
        caught = f"try:\n    {body}\nexcept Exception as error:\n    return type(error).__name__"
        names.append(str(await lab.ask(to, caught)))

    lab.run(scenario)
    return names[0]


def test_a_message_above_the_limit_raises_in_the_sender_and_one_below_arrives(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(MessageTooLarge, match=f"max_message_bytes is {LIMIT}"):
            lab.messenger.send_to_agent("note", b"x" * LIMIT)
        large = b"x" * (LIMIT - 100)
        assert await lab.messenger.request("echo", large, to="app#1") == large
        with pytest.raises(RemoteError, match="MessageTooLarge"):
            await lab.ask("app#1", "return b'x' * given", LIMIT)

    lab.run(scenario)
    assert lab_raises(lab, "app#1", f"messenger.broadcast('note', b'x' * {LIMIT})") == "MessageTooLarge"


@pytest.mark.parametrize("action", ["egg-ready", "egg-pids", "app-start", "agent-start", "app-worker-died", "realport"])
def test_lifecycle_messages_are_the_masters(lab: Lab, action: str) -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(ReservedAction):
            lab.messenger.broadcast(action)
        with pytest.raises(ReservedAction):
            await lab.messenger.request(action, to="agent")

    lab.run(scenario)
    assert lab_raises(lab, "app#1", f"messenger.send_to_agent('{action}')") == "ReservedAction"


def test_ten_thousand_messages_keep_their_order(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        flood = "for n in range(10_000): messenger.{}\nawait messenger.drain()"
        await asyncio.gather(
            lab.ask("app#1", flood.format("send_to_agent('note', ['a', n])")),
            lab.ask("app#2", flood.format("send_to_agent('note', ['b', n])")),
        )
        received = "while len(seen) < 20_000: await asyncio.sleep(0.01)\nfound = seen[:]; seen.clear()\n"
        check = "return [[n for who, n in found if who == w] == list(range(10_000)) for w in 'ab']"
        assert await lab.ask("agent", received + check) == [True, True]

    lab.run(scenario)


def test_sending_works_from_a_thread_and_keeps_its_order(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        source = (
            "def work():\n    for n in range(100): messenger.send_to_agent('note', n)\n"
            "await asyncio.to_thread(work)\nawait messenger.drain()"
        )
        await lab.ask("app#1", source)
        assert await lab.seen(100, "agent") == list(range(100))

    lab.run(scenario)


def test_an_error_in_sending_from_a_thread_raises_there(lab: Lab) -> None:
    source = "await asyncio.to_thread(messenger.send_to_agent, 'note', object())"
    assert lab_raises(lab, "app#1", source) == "NotSerializable"


# -- requests ----------------------------------------------------------------------------------------------------


def test_requests_work_in_every_direction(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        lab.messenger.on("half", lambda data: data / 2)
        for place in PLACES:
            assert await lab.messenger.request("double", 21, to=place) == 42
            assert await lab.ask(place, "return await messenger.request('half', 84, to='parent')") == 42
            for other in PLACES:
                answer = await lab.ask(place, "return await messenger.request('double', 21, to=given)", other)
                assert answer == 42
        assert await lab.messenger.request("double", 4, to="app") == 8
        pid = await lab.ask("app#2", "return os.getpid()")
        assert await lab.messenger.request("double", 5, to=pid) == 10
        assert await lab.ask("agent", "return await messenger.request('double', 3)") == 6
        assert (
            await lab.ask("app#1", "return await messenger.request('run', ['return me.role.value', None])") == "agent"
        )
        assert await lab.ask("app#1", "return (await messenger.request('status', to='master'))['phase']") == "serving"
        lab.messenger.off("half")

    lab.run(scenario)


def test_what_the_handler_raises_is_raised_with_its_traceback(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(RemoteError) as raised:
            await lab.messenger.request("refuse", to="app#1")
        assert raised.value.kind == "KeyError"
        assert raised.value.message == "'not this one'"
        assert "in refuse" in raised.value.remote_traceback
        with pytest.raises(RemoteError, match="no handler for the request"):
            await lab.messenger.request("unheard-of", to="agent")
        with pytest.raises(RemoteError, match="NotSerializable"):
            await lab.messenger.request("shapeless", to="agent")
        with pytest.raises(RemoteError, match="does not answer"):
            await lab.messenger.request("anything", to="master")

    lab.run(scenario)


def test_requests_are_answered_out_of_order(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        ended: list[float] = []

        async def one(seconds: float) -> None:
            assert await lab.messenger.request("slow", seconds, to="agent") == seconds
            ended.append(seconds)

        await asyncio.gather(one(0.5), one(0.25), one(0))
        assert ended == [0, 0.25, 0.5]

    lab.run(scenario)


def test_a_request_without_an_answer_in_time_is_given_up_on_both_sides(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(RequestTimeout, match=r'no answer to "hang" within 0.2s'):
            await lab.messenger.request("hang", to="agent", timeout=0.2)
        source = "while not cancelled: await asyncio.sleep(0.01)"
        async with asyncio.timeout(DEADLINE):
            await lab.ask("agent", f"from remote_handlers import cancelled\n{source}")

    lab.run(scenario)


# -- receiving ---------------------------------------------------------------------------------------------------


def test_once_on_off_and_wait_for(lab: Lab) -> None:
    async def scenario(lab: Lab) -> None:
        source = """
got = []
messenger.once("tick", lambda n: got.append(("once", n)))
@messenger.on("tick")
def always(n): got.append(("on", n))
waiting = asyncio.ensure_future(messenger.wait_for("tick", 5))
await asyncio.sleep(0)
for n in range(2): messenger.send_to("app#1", "tick", n)
assert await waiting == 0
while len(got) < 3: await asyncio.sleep(0.01)
messenger.off("tick", always)
messenger.send_to("app#1", "tick", 2)
await messenger.request("echo", to="app#1")
try:
    await messenger.wait_for("never", 0.05)
except TimeoutError:
    got.append("timeout")
return got
"""
        assert await lab.ask("app#1", source) == [["once", 0], ["on", 0], ["on", 1], "timeout"]

    lab.run(scenario)


# -- without a receiver ------------------------------------------------------------------------------------------


def test_a_request_fails_at_once_when_its_receiver_is_killed(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with running(project) as cluster:
            for place in ("app#1", "agent"):
                pid = await ask(cluster.messenger, place, "return os.getpid()")
                source = "mark('asked'); await asyncio.sleep(1000)"
                asked = asyncio.ensure_future(ask(cluster.messenger, place, source))
                through = f"await messenger.request('run', [given, None], to={place!r}, timeout=60)"
                relayed = asyncio.ensure_future(ask(cluster.messenger, "app#2", through, source))
                await until(lambda: len(marks(project, "asked")) % 2 == 0 and marks(project, "asked"))
                os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(3):
                    with pytest.raises(ReceiverDied, match=f":{pid} died before it answered"):
                        await asked
                    with pytest.raises(RemoteError, match=f"ReceiverDied: .*:{pid} died"):
                        await relayed
                (project.folder / "asked").unlink()

    asyncio.run(scenario())


def test_messages_to_a_worker_that_boots_are_kept_for_it_in_order(project: Project) -> None:
    slow = """
async def wait_until_allowed():
    remote.mark("booting", app.generation)
    while remote.os.path.exists(remote.os.path.join(remote.os.path.dirname(__file__), "not-yet")):
        await remote.asyncio.sleep(0.01)

app.on_start(wait_until_allowed)
"""
    obedient(project, app=slow)

    async def scenario() -> None:
        async with running(project) as cluster:
            (project.folder / "not-yet").touch()
            pid = await ask(cluster.messenger, "app#2", "return os.getpid()")
            os.kill(pid, signal.SIGKILL)
            await until(lambda: ["2"] in marks(project, "booting"))
            every_way = "send_to('app#2', 'note', n)", "broadcast('note', n)", "send_to_app('note', n)"
            for call in every_way:
                await ask(cluster.messenger, "agent", f"for n in range(100): messenger.{call}")
            await ask(cluster.messenger, "app#1", "await messenger.request('run', ['pass', None])")
            assert await ask(cluster.messenger, "app#1", "return len(seen)") == 200
            (project.folder / "not-yet").unlink()
            assert await ask(cluster.messenger, "app#2", "return seen") == list(range(100)) * 3
            assert (await cluster.status())["messages_to_nobody"] == 0

    asyncio.run(scenario())


def test_workers_that_boot_together_can_ask_each_other(project: Project) -> None:
    asking = """
@app.on_start
async def ask_the_other():
    if app.slot == 1 and app.generation == 1:
        answer = await app.messenger.request("run", ["return me.slot", None], to="app#2")
        remote.mark("answers", answer)
"""
    obedient(project, app=asking)

    async def scenario() -> None:
        async with running(project):
            assert marks(project, "answers") == [["2"]]

    asyncio.run(scenario())


# -- a child that misbehaves -------------------------------------------------------------------------------------

ME = app(1).pack()  # the worker that misbehaves is in slot 1


def frame(kind: int, target: int, content: Any, source: int = ME) -> bytes:
    return encode_frame(kind, target, content, source=source)  # type: ignore[arg-type]  # that is the point


def raw_frame(length: int, kind: int, target: int, body: bytes = b"") -> bytes:
    return HEADER.pack(length, kind, target, 0, 0, ME, 0) + body


NO_MESSAGEPACK = b"\xc1"  # the one byte that the format never uses
BROKEN = {
    "random bytes": bytes(range(255, 55, -1)),
    "a huge length": raw_frame(2**32 - 1, FrameKind.MESSAGE, Target.AGENT),
    "an unknown kind": raw_frame(0, 99, Target.AGENT),
    "an unknown target": raw_frame(0, FrameKind.MESSAGE, 99),
    "the agent's address": frame(FrameKind.MESSAGE, Target.AGENT, ["note", 1], AGENT.pack()),
    "a sibling's address": frame(FrameKind.MESSAGE, Target.AGENT, ["note", 1], app(2).pack()),
    "the master's address": frame(FrameKind.MESSAGE, Target.AGENT, ["note", 1], MASTER.pack()),
    "an event": frame(FrameKind.EVENT, Target.AGENT, ["egg-pids", ["forged"]]),
    "a loss": frame(FrameKind.LOST, Target.AGENT, "gone"),
    "an unknown report": frame(FrameKind.REPORT, Target.MASTER, ["egg-ready", {}]),
    "another role's report": frame(FrameKind.REPORT, Target.MASTER, ["agent-start", {}]),
    "a report of another shape": frame(FrameKind.REPORT, Target.MASTER, 5),
    "a report that cannot be read": raw_frame(1, FrameKind.REPORT, Target.MASTER, NO_MESSAGEPACK),
}
ODD = {
    "a second app-start": frame(FrameKind.REPORT, Target.MASTER, ["app-start", {"address": ""}]),
    "a lifecycle message": frame(FrameKind.MESSAGE, Target.AGENT, ["egg-pids", ["forged"]]),
    "a lifecycle request": frame(FrameKind.REQUEST, Target.AGENT, ["egg-pids", ["forged"]]),
    "an answer without a request": frame(FrameKind.REPLY, Target.ADDRESS, 1),
    "a message to an address": frame(FrameKind.MESSAGE, Target.ADDRESS, ["note", 1]),
    "a cancellation of nothing": frame(FrameKind.CANCEL, Target.AGENT, None),
    "a message that cannot be read": raw_frame(1, FrameKind.MESSAGE, Target.AGENT, NO_MESSAGEPACK),
    "a request that cannot be read": raw_frame(1, FrameKind.REQUEST, Target.AGENT, NO_MESSAGEPACK),
    "an order that cannot be read": raw_frame(1, FrameKind.REQUEST, Target.MASTER, NO_MESSAGEPACK),
    "an order to close": frame(FrameKind.REQUEST, Target.MASTER, ["close", None]),
}
WRITE = "os.write(int(sys.argv[1]), given)"  # a worker's channel is the file descriptor that it is started with
NOTING_PIDS = "\nagent.messenger.on('egg-pids', lambda pids: remote.mark('pids', *pids))\n"


# With real processes, which take their time; tests/unit/test_switchboard.py has the others.
@pytest.mark.parametrize("name", ["random bytes", "a huge length", "the agent's address", "an event"])
def test_a_child_that_breaks_the_protocol_is_replaced_and_the_others_go_on(project: Project, name: str) -> None:
    obedient(project, agent=NOTING_PIDS)

    async def scenario() -> None:
        async with running(project) as cluster:
            victim, other = (worker.worker_id for worker in cluster.workers)
            agent = await ask(cluster.messenger, "agent", "return os.getpid()")
            cluster.messenger.send_to(victim, "run", [WRITE, BROKEN[name]])
            await until(lambda: [worker.generation for worker in cluster.workers] == [2, 1])
            assert await ask(cluster.messenger, "app#1", "return me.generation") == 2
            assert await ask(cluster.messenger, "app#2", "return os.getpid()") == other
            assert await ask(cluster.messenger, "agent", "return [os.getpid(), seen]") == [agent, []]
        assert f"app_worker#1:{victim} broke the protocol" in log_of(project)

    asyncio.run(scenario())
    assert ["forged"] not in marks(project, "pids")


def test_a_child_that_sends_odd_things_changes_nothing(project: Project) -> None:
    obedient(project, agent=NOTING_PIDS)

    async def scenario() -> None:
        async with running(project) as cluster:
            for name, data in ODD.items():
                await ask(cluster.messenger, "app#1", WRITE, data)
                for place in PLACES:
                    assert await ask(cluster.messenger, place, "return [me.generation, seen]") == [1, []], name

    asyncio.run(scenario())
    assert ["forged"] not in marks(project, "pids")
    assert "Traceback" not in log_of(project)


def test_a_child_that_closes_its_channel_and_lives_on_is_replaced(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with running(project) as cluster:
            cluster.messenger.send_to("app#1", "run", ["messenger._outbox._channel.close()", None])
            await until(lambda: [worker.generation for worker in cluster.workers] == [2, 1])
        assert "closed its channel" in log_of(project)

    asyncio.run(scenario())


def test_a_small_limit_for_messages_does_not_hinder_the_master(project: Project) -> None:
    """Its own messages, such as the status or the report of a failed boot, are longer than that."""
    obedient(project)

    async def scenario() -> None:
        async with running(project, max_message_bytes=300) as cluster:
            assert (await cluster.status())["phase"] == "serving"
            source = "return (await messenger.request('status', to='master'))['phase']"
            assert await ask(cluster.messenger, "app#1", source) == "serving"

    asyncio.run(scenario())


def test_a_large_limit_for_messages_is_the_parents_as_well(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with running(project, workers=1, max_message_bytes=20 * 2**20) as cluster:
            assert await ask(cluster.messenger, "app#1", "return len(given)", b"x" * 18 * 2**20) == 18 * 2**20

    asyncio.run(scenario())
