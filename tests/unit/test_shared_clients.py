"""Leader and followers: one real client, and everybody has its methods."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from eggcluster.errors import LeaderGone, NoLeader, NotSerializable, RemoteError, RequestTimeout
from eggcluster.worker.sharing.client_spec import ClusterClient, idempotent
from eggcluster.worker.sharing.sharing import LocalSharing, Sharing
from tests.unit.conftest import Run
from tests.unit.site import raw_follower, site
from tests.unit.wires import until


class Registry:
    """A client with a connection that one may have only once. `made` are all that were made."""

    made: ClassVar[list["Registry"]] = []

    def __init__(self, url: str = "", *, broken: bool = False) -> None:
        self.url = url
        self.broken = broken
        self.life: list[str] = []
        self.forbids = ["forbidden"]
        self.subscribers: dict[str, Any] = {}
        self.calls: list[Any] = []
        Registry.made.append(self)

    async def start(self) -> None:
        self.life.append("start")
        if self.broken:
            raise ConnectionError("no registry")

    async def close(self) -> None:
        self.life.append("close")

    async def subscribe(self, info: Any, listener: Any) -> None:
        if info in self.forbids:
            raise PermissionError(info)
        self.life.append(f"subscribe {info}")
        self.subscribers[str(info)] = listener

    async def unsubscribe(self, info: Any, listener: Any) -> None:
        self.life.append(f"unsubscribe {info}")
        assert self.subscribers.pop(str(info)) == listener

    async def publish(self, info: Any) -> None:
        topic, value = info
        if topic in self.subscribers:
            self.subscribers[topic](value)

    async def lookup(self, name: str, *, limit: int = 1) -> Any:
        return [self.url, name, limit]

    async def fail(self) -> None:
        raise LookupError("not there")

    async def forever(self, name: str) -> None:
        self.calls.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            self.calls.append("cancelled")

    @idempotent
    async def read(self) -> str:
        self.calls.append("read")
        if self is Registry.made[0]:
            await asyncio.Event().wait()
        return "from the second agent"

    def size(self) -> int:
        return 42


@pytest.fixture(autouse=True)
def none_made_yet() -> None:
    Registry.made.clear()


def create(*args: Any, **options: Any) -> Any:
    """The line `app.cluster(Registry).create(...)` in a module."""
    return lambda sharing: sharing.cluster(Registry, None, 5.0).create(*args, **options)


def collect(client: Any, info: Any) -> list[Any]:
    got: list[Any] = []
    client.subscribe(info, got.append)
    return got


def test_there_is_one_real_client_and_every_worker_calls_it(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create("the agent's"))
            clients = [await here.worker(create("a worker's")) for _ in range(3)]
            answers = [await client.lookup("egg", limit=n) for n, client in enumerate(clients)]
            assert answers == [["the agent's", "egg", n] for n in range(3)]
        (real,) = Registry.made
        assert real.life == ["start", "close"]

    run(scene())


def test_in_the_agent_the_same_line_gives_the_real_client(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(create("url"))
            client = create("url")(hub)
            assert await client.lookup("egg") == ["url", "egg", 1]
            assert client.url == "url", "with everything that it has"
            assert repr(client) == "<leader of Registry>"
            with pytest.raises(LookupError, match="not there"):
                await client.fail()
            got = collect(client, "news")
            await until(lambda: "subscribe news" in Registry.made[0].life)
            await client.publish(["news", object])  # nothing is packed where nothing travels
            await client.publish(["news", 1])
            assert got == [1]

    run(scene())


def test_what_the_real_client_raises_is_raised_in_the_worker(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            with pytest.raises(RemoteError, match="LookupError: not there") as caught:
                await client.fail()
            assert 'raise LookupError("not there")' in caught.value.remote_traceback
            with pytest.raises(RemoteError, match="TypeError"):
                await client.lookup("too", "many")
            with pytest.raises(NotSerializable):
                await client.lookup(object())

    run(scene())


def test_many_subscribers_are_one_upstream_and_each_gets_every_value(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            clients = [await here.worker(create()) for _ in range(3)]
            got = [collect(client, "news") for client in clients for _ in range(2)]
            for client in clients:
                await client.subscribe({"b": 1, "a": 2}, lambda value: None)
                await client.subscribe({"a": 2, "b": 1}, lambda value: None)
            (real,) = Registry.made
            assert [each for each in real.life if each.startswith("subscribe")] == [
                "subscribe news",
                "subscribe {'b': 1, 'a': 2}",
            ]
            for n in range(3):
                await clients[0].publish(["news", n])
            await until(lambda: got == [[0, 1, 2]] * 6)

    run(scene())


def test_a_late_subscriber_gets_the_latest_value_at_once(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            first = await here.worker(create())
            await first.subscribe("news", lambda value: None)
            for n in (1, 2):
                await first.publish(["news", n])
            second = await here.worker(create())
            got = collect(second, "news")
            await until(lambda: got == [2])
            assert collect(second, "news") == [2], "the second listener of a worker, from its own memory"
            assert collect(create()(here.hub), "nothing said") == []
            here_too = collect(create()(here.hub), "news")
            await until(lambda: here_too == [2])

    run(scene())


def test_after_the_last_subscriber_the_real_client_unsubscribes(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            (real,) = Registry.made
            first, second = [await here.worker(create()) for _ in range(2)]
            got, kept = collect(first, "news"), collect(second, "news")
            await until(lambda: real.subscribers)
            first.unsubscribe("news")
            await first.publish(["news", 1])
            await until(lambda: kept == [1])
            assert got == []
            await here.kill_worker(2)
            await until(lambda: real.life[-1] == "unsubscribe news")
            first.unsubscribe("news", print)  # never subscribed: no error
            assert collect(first, "news") == []
            await until(lambda: real.life[-1] == "subscribe news")

    run(scene())


def test_a_subscription_that_fails_raises_where_it_is_awaited_and_is_logged(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            got: list[Any] = []
            with pytest.raises(RemoteError, match="PermissionError: forbidden"):
                await client.subscribe("forbidden", got.append)
            assert "Registry could not subscribe to 'forbidden'" in caplog.text
            Registry.made[0].forbids.clear()
            await client.subscribe("forbidden", print)  # the next subscriber tries again
            await client.publish(["forbidden", "allowed now"])
            await until(lambda: got == ["allowed now"])

    run(scene())


def test_a_listener_that_raises_is_logged_and_does_no_harm(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())

            async def later(value: Any) -> None:
                raise ValueError("later")

            client.subscribe("news", lambda value: 1 / value)
            client.subscribe("news", later)
            got = collect(client, "news")
            await client.subscribe("news", print)
            await client.publish(["news", 0])
            await until(lambda: got == [0] and caplog.text.count("a subscriber of Registry raised") == 2)
            assert await client.lookup("still there")

    run(scene())


def test_a_value_may_come_from_a_thread_of_the_library(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            got = collect(client, "news")
            await until(lambda: Registry.made[0].subscribers)
            thread = threading.Thread(target=Registry.made[0].subscribers["news"], args=("threaded",))
            thread.start()
            await until(lambda: got == ["threaded"])
            thread.join()

    run(scene())


def test_a_value_that_cannot_travel_is_logged_and_the_one_before_stays(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            await client.subscribe("news", print)
            for value in (1, object()):
                Registry.made[0].subscribers["news"](value)
            got = collect(await here.worker(create()), "news")
            await until(lambda: got == [1])
            assert "a value of Registry, 'news', was not passed on" in caplog.text

    run(scene())


def test_calls_work_from_another_loop_and_listeners_run_in_the_workers_own(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            threads: list[int] = []

            def view() -> Any:
                client.subscribe("news", lambda value: threads.append(threading.get_ident()))
                return asyncio.run(client.lookup("from a view"))

            assert (await asyncio.to_thread(view))[1] == "from a view"
            await client.subscribe("news", print)
            await client.publish(["news", 1])
            await until(lambda: threads == [threading.get_ident()])

    run(scene())


# -- what is no client -------------------------------------------------------------------------------------


def test_a_client_that_the_agent_has_not_created_is_named(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            with pytest.raises(NoLeader) as caught:
                await here.worker(create())
            said = str(caught.value)
            assert said == (
                'the agent has no client "Registry": put the same line, agent.cluster(Registry).create(...), '
                "into agent.py"
            )
            client = await here.worker(create(), wait=False)
            with pytest.raises(NoLeader, match='no client "Registry"'):
                await client.lookup("egg")
            leader = create("late")(here.hub)
            assert await leader.lookup("egg") == ["late", "egg", 1]
            await until(lambda: "Registry" in here.uplinks[-1]._leaders)
            assert await client.lookup("egg") == ["late", "egg", 1]

    run(scene())


def test_a_client_that_cannot_start_is_the_boots_failure(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            with pytest.raises(ConnectionError, match="no registry"):
                await here.agent(create(broken=True))

    run(scene())


def test_the_same_line_twice_is_the_same_client_another_one_needs_a_name() -> None:
    local = LocalSharing()
    first = create("blue")(local)
    assert create("blue")(local) is first
    green: Any = local.cluster(Registry, "green", 5.0).create("green")
    assert green is not first


class Unequal:
    """Cannot be compared, as an array cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Settings:
    """Takes whatever there is."""

    def __init__(self, *args: Any, **options: Any) -> None: ...


def test_two_of_one_name_are_told_apart_by_what_is_different() -> None:
    local, array = LocalSharing(), Unequal()

    def again(cls: Any, *args: Any, **options: Any) -> Any:
        return local.cluster(cls, "one", 5.0).create(*args, **options)

    first = again(Settings, "blue", array=array, retries=2)
    assert again(Settings, "blue", array=array, retries=2) is first
    another: list[tuple[str, type, str, dict[str, Any]]] = [
        ("retries", Settings, "blue", {"array": array, "retries": 3}),
        ("array, retries, port", Settings, "blue", {"array": Unequal(), "port": 1}),
        ("argument", Settings, "green", {"array": array, "retries": 2}),
        ("class", Unequal, "blue", {"array": array, "retries": 2}),
    ]
    for what, cls, argument, options in another:
        with pytest.raises(ValueError, match=f'a client "one" was created before, with another {what}; give this one'):
            again(cls, argument, **options)


def test_a_follower_has_the_async_methods_and_says_what_it_has_not(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            assert repr(client) == "<follower of Registry>"
            for name in ("size", "nothing", "start", "close"):
                with pytest.raises(AttributeError, match=f"a follower of Registry has no '{name}'"):
                    getattr(client, name)

    run(scene())


def test_delegate_maps_other_names(run: Run, tmp_path: Path) -> None:
    class Watcher:
        def __init__(self) -> None:
            self.listener: Any = None

        def watch(self, info: Any, listener: Any) -> None:
            listener(["watched", info])
            self.listener = listener

        def unwatch(self, info: Any, listener: Any) -> None:
            self.listener = None

        def send(self, info: Any) -> None:
            self.listener(info)

        def is_watched(self) -> bool:
            return self.listener is not None

    def connection(sharing: Sharing) -> Any:
        builder = sharing.cluster(Watcher, None, 5.0).delegate("watch", "subscribe").delegate("unwatch", "unsubscribe")
        return builder.delegate("send", "publish").delegate("is_watched").create()

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(connection)
            client = await here.worker(connection)
            got: list[Any] = []
            await client.watch("x", got.append)
            await client.send("hello")
            await until(lambda: got == [["watched", "x"], "hello"])
            assert await client.is_watched() is True
            client.unwatch("x")
            while await client.is_watched():
                await asyncio.sleep(0)

    run(scene())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda sharing: sharing.cluster(Registry(), None, 5.0), "made from a class"),
        (lambda sharing: sharing.cluster(Registry, None, 0), "timeout: 0 is not a duration"),
        (lambda sharing: sharing.cluster(Registry, None, 5.0).delegate("close"), "has no method 'close'"),
        (lambda sharing: sharing.cluster(Registry, None, 5.0).delegate("sizes"), "has no method 'sizes'"),
        (lambda sharing: sharing.cluster(Registry, None, 5.0).delegate("size", "call"), "'call' is not a meaning"),
    ],
)
def test_what_can_be_no_client_is_refused_at_once(wrong: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        wrong(LocalSharing())


def test_a_subscriber_that_cannot_be_called_is_refused_at_once(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            for client in (await here.worker(create()), create()(LocalSharing())):
                with pytest.raises(TypeError, match="a subscriber is a function of one argument, not 5"):
                    client.subscribe("news", 5)

    run(scene())


# -- the agent goes ----------------------------------------------------------------------------------------


def test_a_call_under_way_fails_when_the_agent_goes_and_the_next_one_waits_for_its_successor(
    run: Run, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create("first"))
            client = await here.worker(create())
            calling = asyncio.create_task(client.forever("x"))
            await until(lambda: Registry.made[0].calls)
            here.kill_agent()
            with pytest.raises(LeaderGone):
                await calling
            waiting = asyncio.create_task(client.lookup("egg"))
            await asyncio.sleep(0)
            await here.agent(create("second"))
            assert await waiting == ["second", "egg", 1]

    run(scene())


def test_an_idempotent_call_is_made_again(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create("first"))
            client = await here.worker(create())
            calling = asyncio.create_task(client.read())
            await until(lambda: Registry.made[0].calls == ["read"])
            here.kill_agent()
            await here.agent(create("second"))
            assert await calling == "from the second agent"

    run(scene())


def test_followers_subscribe_again_and_hear_of_the_next_agents_values(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            clients = [await here.worker(create()) for _ in range(2)]
            got = [collect(client, "news") for client in clients]
            await until(lambda: Registry.made[0].subscribers)
            await clients[0].publish(["news", "before"])
            await until(lambda: got == [["before"]] * 2)
            here.kill_agent()
            meanwhile = collect(clients[0], "other news")
            await here.agent(create())
            real = Registry.made[1]
            await until(lambda: len(real.subscribers) == 2)
            assert sorted(real.life) == ["start", "subscribe news", "subscribe other news"]
            await clients[1].publish(["news", "after"])
            await clients[1].publish(["other news", "after"])
            await until(lambda: got == [["before", "after"]] * 2 and meanwhile == ["after"])

    run(scene())


def test_no_follower_is_served_before_the_agent_has_booted(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(wait=False)
            here.open_port()
            client = await here.worker(create(), wait=False)
            calling = asyncio.create_task(client.lookup("egg"))
            await until(lambda: hub._connections)
            create("created in on_start")(hub)
            await hub.start()
            hub.booted()
            assert await calling == ["created in on_start", "egg", 1]

    run(scene())


def test_without_an_agent_a_call_ends_with_its_timeout(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(wait=False)

            def connection(sharing: Sharing) -> Any:
                builder: ClusterClient[Registry] = sharing.cluster(Registry, None, 0.05)
                return builder.create()

            client = await here.worker(connection, wait=False)
            with pytest.raises(RequestTimeout, match=r'no agent to ask for "Registry.lookup" within 0.05s'):
                await client.lookup("egg")
            await here.agent(connection)
            with pytest.raises(RequestTimeout, match=r'no answer to "Registry.forever" within 0.05s'):
                await client.forever("x")
            await until(lambda: Registry.made[0].calls == ["x", "cancelled"])

    run(scene())


# -- bad company -------------------------------------------------------------------------------------------


def test_a_slow_follower_does_not_hold_up_the_others(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            slow, fast = [await here.worker(create()) for _ in range(2)]
            got = {name: collect(client, "news") for name, client in (("slow", slow), ("fast", fast))}
            await fast.subscribe("news", print)
            connection = here.uplinks[0]._connection
            assert connection is not None
            connection.channel.pause_reading()
            for n in range(500):
                await fast.publish(["news", [n, bytes(10_000)]])
            await until(lambda: len(got["fast"]) == 500)
            (held,) = [each for each in here.hub._connections if each.channel.queued_bytes]
            assert held.channel.queued_bytes < 1_100_000, "what is not read does not pile up"
            connection.channel.resume_reading()
            await until(lambda: got["slow"] and got["slow"][-1][0] == 499)
            assert len(got["slow"]) < 500

    run(scene())


def test_a_connection_that_sends_nonsense_is_cut_and_no_other(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create())
            client = await here.worker(create())
            with raw_follower(here) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
                await until(lambda: "closed a direct connection" in caplog.text)
            assert await client.lookup("egg")

    run(scene())


def test_a_worker_does_not_follow_another_clusters_agent(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The runtime directory was emptied, and a cluster of the same name has taken it over."""

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(create("theirs"))
            ours, here.cluster_id = here.cluster_id, "1-another"
            await here.worker(create("ours"), wait=False)
            await until(lambda: "WrongCluster: the agent at this path is another cluster's" in caplog.text)
            assert "the agent cannot be reached" in caplog.text

            here.cluster_id = ours
            own = await here.worker(create("theirs"))
            assert await own.lookup("egg")

    run(scene())


# -- outside of a cluster ----------------------------------------------------------------------------------


def test_alone_a_client_is_a_real_one_started_at_its_first_use() -> None:
    client = create("alone")(LocalSharing())
    assert Registry.made == [], "a module may be imported without a connection"

    async def test() -> None:
        assert await client.lookup("egg") == ["alone", "egg", 1]
        got = collect(client, "news")
        await client.subscribe("news", print)
        await client.publish(["news", 1])
        assert got == [1]

    asyncio.run(test())
    asyncio.run(test())
    assert [each.life for each in Registry.made] == [["start", "subscribe news"]] * 2, "one for each loop"
