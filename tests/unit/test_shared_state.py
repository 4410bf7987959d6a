"""`shared`: written through the agent, read by every worker from its own memory, restored from their copies."""

import asyncio
import inspect
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from eggcluster.errors import LeaderGone, NotSerializable, RemoteError, RequestTimeout, SharedFull, SharedNotReady
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.model.shared.shared_store import Store
from eggcluster.model.shared.shared_table import Table
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.sharing.follower import Follower
from eggcluster.worker.sharing.leader import Leader
from eggcluster.worker.sharing.recovery import SharedRecovery
from eggcluster.worker.sharing.shared import Change, Shared
from eggcluster.worker.sharing.sharing import LocalSharing, Sharing
from tests.unit.conftest import Run
from tests.unit.site import Site, raw_follower, site
from tests.unit.wires import until
from tests.waiting import DEADLINE


def share(sharing: Sharing) -> Shared:
    """The line `shared = app.shared` in a module."""
    return sharing.shared


async def workers(here: Site, count: int) -> list[Shared]:
    return [await here.worker(share) for _ in range(count)]


def test_what_one_writes_it_reads_at_once_and_the_others_soon(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            one, two = await workers(here, 2)
            version = await one.set("k", {"n": [1, 2.5, None, b"x"]})
            assert one["k"] == {"n": [1, 2.5, None, b"x"]}
            assert one.version("k") == version == hub.shared.version("k")
            await until(lambda: "k" in two and two.version("k") == version)
            await hub.shared.set("by the agent", 1)
            await until(lambda: dict(one) == dict(two) == dict(hub.shared))
            assert (len(one), sorted(one), one.get("nothing", 7)) == (2, ["by the agent", "k"], 7)
            with pytest.raises(KeyError):
                one["nothing"]
            assert await two.delete("k") is True
            assert "k" not in two
            assert await two.delete("k") is False
            await until(lambda: "k" not in one)

    run(scene())


def test_what_is_read_is_the_readers_own(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            (one,) = await workers(here, 1)
            await one.set("k", [1])
            one["k"].append(2)
            assert one["k"] == [1]

    run(scene())


def test_writes_of_many_come_in_one_order_for_all(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            everybody = [*await workers(here, 3), hub.shared]
            seen: list[list[Any]] = [[] for _ in everybody]
            for shared, list_ in zip(everybody, seen, strict=True):
                shared.on_change("k", lambda change, list_=list_: list_.append((change.version, change.value)))
            await asyncio.gather(*(shared.set("k", [n, m]) for n, shared in enumerate(everybody) for m in range(50)))
            await until(lambda: all(len(each) == 200 for each in seen))
            assert seen.count(seen[0]) == 4
            assert seen[0] == sorted(seen[0], key=lambda each: each[0])

    run(scene())


def test_no_increment_is_lost_and_none_counted_twice(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            everybody = [*await workers(here, 3), hub.shared]
            got = await asyncio.gather(*(each.increment("n") for each in everybody for _ in range(100)))
            assert sorted(got) == list(range(1, 401))
            assert await everybody[0].increment("n", -0.5) == 399.5

    run(scene())


def test_of_many_workers_that_compare_and_set_one_wins(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            everybody = await workers(here, 3)
            won = await asyncio.gather(*(each.compare_and_set("lock", 0, n) for n, each in enumerate(everybody)))
            (version,) = [each for each in won if each is not None]
            await until(lambda: all(each.version("lock") == version for each in everybody))
            assert everybody[0]["lock"] == won.index(version)
            assert await everybody[1].compare_and_set("lock", version, "next") == version + 1

    run(scene())


def test_listeners_hear_of_a_key_or_of_all_with_a_prefix(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            one, two = await workers(here, 2)
            key: list[Change] = []
            prefix: list[str] = []

            @two.on_change("user:1")
            def raises(change: Change) -> None:
                raise ValueError("a listener's own business")

            two.on_change("user:1", key.append)

            @two.on_change(prefix="user:")
            async def collect(change: Change) -> None:
                prefix.append(change.key)

            version = await one.set("user:1", "a")
            await one.set("user:2", "b")
            await one.set("other", "c")
            await one.delete("user:1")
            await until(lambda: prefix == ["user:1", "user:2", "user:1"])
            assert key == [Change("user:1", "a", version, False), Change("user:1", None, version + 3, True)]
            assert "a subscriber of shared['user:1'] raised" in caplog.text
            two.off_change(collect)
            await one.set("user:2", "again")
            await until(lambda: two["user:2"] == "again")
            assert len(prefix) == 3

    run(scene())


@pytest.mark.parametrize("names", [{}, {"key": "k", "prefix": "k"}])
def test_a_listener_is_for_a_key_or_for_a_prefix(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give a key or prefix="):
        LocalSharing().shared.on_change(**names)


@pytest.mark.parametrize(
    "use",
    [lambda s: s.on_change(5), lambda s: s.get(5), lambda s: s[5], lambda s: s.version(5), lambda s: 5 in s],
    ids=["on_change", "get", "item", "version", "in"],
)
def test_a_key_that_is_no_string_is_refused(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="a key is a string, not 5"):
        use(LocalSharing().shared)


@pytest.mark.parametrize("ttl", [float("inf"), 1e300, 10**400])
def test_a_time_to_live_of_a_hundred_years_is_for_good(ttl: float) -> None:
    async def scene() -> None:
        shared = LocalSharing().shared
        await shared.set("k", 1, ttl=ttl)
        assert await shared.increment("k", ttl=ttl) == 2

    asyncio.run(scene())


@pytest.mark.parametrize("where", ["worker", "agent", "alone"])
@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.get("\ud800"),
        lambda s: s.version("\ud800"),
        lambda s: s.on_change(prefix="\ud800"),
        lambda s: s.set("\ud800", 1),
        lambda s: s.increment("\ud800"),
        lambda s: s.compare_and_set("\ud800", 0, 1),
        lambda s: s.delete("\ud800"),
    ],
    ids=["get", "version", "on_change", "set", "increment", "compare_and_set", "delete"],
)
def test_a_key_that_is_no_text_is_refused_in_a_line(tmp_path: Path, where: str, use: Callable[[Any], Any]) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (worker,) = await workers(here, 1)
            shared = {"worker": worker, "agent": hub.shared, "alone": LocalSharing().shared}[where]
            with pytest.raises(ValueError, match=r"the key '.ud800' has a lone surrogate"):
                await use(shared)
            await shared.set("Grüße", 1)

    asyncio.run(scene())


def test_what_cannot_be_called_is_no_listener() -> None:
    with pytest.raises(TypeError, match="a subscriber is a function of one argument, not 5"):
        LocalSharing().shared.on_change("k", 5)  # type: ignore[call-overload]


def test_what_has_outlived_its_time_is_gone_everywhere_and_said_so(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (one,) = await workers(here, 1)
            heard: list[Change] = []
            one.on_change("short", heard.append)
            await one.set("long", 1, ttl=1000)
            await one.set("short", 1, ttl=0.1)
            assert one["short"] == 1
            await until(lambda: "short" not in one and "short" not in hub.shared)
            await until(lambda: [each.deleted for each in heard] == [False, True])
            assert set(one) == {"long"}
            assert set(hub._writer.store.entries) == {"long"}

    run(scene())


@pytest.mark.parametrize(
    ("write", "error", "says"),
    [
        (lambda s: s.set("k", object()), NotSerializable, "cannot carry"),
        (lambda s: s.set("k", bytes(70_000)), SharedFull, "the value has 70005 bytes; the limit is 65536"),
        (lambda s: s.set(1, 1), TypeError, "a key is a string, not 1"),
        (lambda s: s.set("k", 1, ttl=0), ValueError, "ttl: 0 is not a duration"),
        (lambda s: s.set("k", 1, ttl=float("nan")), ValueError, "ttl: nan is not a duration"),
        (lambda s: s.increment("k", 10**5000), ValueError, "by: it does not fit 64 bits"),
        (lambda s: s.increment("k", "1"), TypeError, "by: '1' is not a number"),
        (lambda s: s.compare_and_set("k", None, 1), TypeError, "expected: None is not a version"),
        (lambda s: s.compare_and_set("k", "x", 1), TypeError, "expected: 'x' is not a version"),
        (lambda s: s.increment("text"), TypeError, "'text' holds a str; only a number can be incremented"),
        (lambda s: s.increment("x" * 1025), SharedFull, "the key has 1025 bytes; the limit is 1024"),
    ],
)
@pytest.mark.parametrize("where", ["worker", "agent", "alone"])
def test_a_write_that_cannot_be_is_refused_where_it_was_asked(
    tmp_path: Path, where: str, write: Callable[[Shared], Any], error: type[Exception], says: str
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (one,) = await workers(here, 1)
            shared = {"worker": one, "agent": hub.shared, "alone": LocalSharing().shared}[where]
            await shared.set("text", "a")
            with pytest.raises(error, match=says):
                await write(shared)
            assert dict(shared) == {"text": "a"}

    asyncio.run(asyncio.wait_for(scene(), 20))


# -- when there is a copy ----------------------------------------------------------------------------------


def test_a_worker_that_comes_later_starts_with_a_copy(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            await hub.shared.set("k", 1)
            (one,) = await workers(here, 1)
            assert dict(one) == {"k": 1}

    run(scene())


def test_a_worker_that_asks_for_it_late_has_to_wait_for_a_copy(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            await hub.shared.set("k", 1)
            await here.worker()
            shared = here.uplinks[0].shared
            for read in (lambda: shared["k"], lambda: shared.get("k"), lambda: "k" in shared, lambda: len(shared)):
                with pytest.raises(SharedNotReady, match=r"use `app.shared` where the module is imported"):
                    read()
            await shared.ready()
            assert dict(shared) == {"k": 1}

    run(scene())


def test_it_can_be_written_from_another_loop(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            (one,) = await workers(here, 1)

            def view() -> Any:
                asyncio.run(one.ready())
                return asyncio.run(one.increment("n")), one["n"]

            assert await asyncio.to_thread(view) == (1, 1)

    run(scene())


def test_a_slow_worker_does_not_hold_up_the_others_and_catches_up_with_the_latest(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            slow, fast = await workers(here, 2)
            heard: list[Any] = []
            slow.on_change("a", lambda change: heard.append(change.value[0]))
            connection = here.uplinks[0]._connection
            assert connection is not None
            connection.channel.pause_reading()
            for n in range(500):
                await fast.set("ab"[n % 2], [n, bytes(10_000)])
            (held,) = [each for each in here.hub._connections if each.channel.queued_bytes]
            assert held.channel.queued_bytes < 1_100_000
            connection.channel.resume_reading()
            await until(lambda: [slow.get(key, [0])[0] for key in "ab"] == [498, 499])
            assert heard == sorted(heard)
            assert len(heard) < 250
            assert await slow.increment("n") == 1
            assert slow["n"] == 1

    run(scene())


# -- the agent goes ----------------------------------------------------------------------------------------


def test_a_replaced_agent_takes_over_what_the_workers_remember(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            one, two = await workers(here, 2)
            await one.set("k", "kept")
            await one.set("deleted", 1)
            await one.delete("deleted")
            before = await one.set("short", 1, ttl=0.2)
            here.kill_agent()
            assert two["k"] == "kept", "reading needs no agent"
            hub = await here.agent(share, survivors=[1, 2])
            assert hub.shared["k"] == "kept"
            assert "deleted" not in hub.shared
            assert await two.set("k", "and changed") > before
            await until(lambda: one["k"] == "and changed")
            await until(lambda: "short" not in one)

    run(scene())


def test_a_copy_may_be_larger_than_the_applications_messages(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            here.options = replace(here.options, max_message_bytes=2000)
            await here.agent()
            (one,) = await workers(here, 1)
            for number in range(10):
                await one.set(f"k{number}", "x" * 1000)
            here.kill_agent()
            hub = await here.agent(share, survivors=[1])
            assert len(hub.shared) == 10

    run(scene())


def test_of_the_copies_the_one_that_has_seen_the_most_wins(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            behind, ahead = await workers(here, 2)
            for shared in (behind, ahead):
                shared.on_change(prefix="", listener=lambda change: None)
            await ahead.set("k", "old")
            await ahead.set("deleted", 1)
            await until(lambda: "deleted" in behind)
            connection = here.uplinks[0]._connection
            assert connection is not None
            here.hub._writer._connections.pop(_other_end(here, behind))  # it gets no changes any more
            await ahead.set("k", "new")
            await ahead.delete("deleted")
            here.kill_agent()
            heard: list[Change] = []
            behind.on_change(prefix="", listener=heard.append)
            hub = await here.agent(share, survivors=[1, 2])
            assert dict(hub.shared) == {"k": "new"}
            await until(lambda: dict(behind) == {"k": "new"})
            assert {(change.key, change.value, change.deleted) for change in heard} == {
                ("k", "new", False),
                ("deleted", None, True),
            }

    run(scene())


def _other_end(here: Site, shared: Shared) -> Any:
    """The agent's end of the line of that worker, the only one whose copy is a step behind after a first write."""
    connections = list(here.hub._writer._connections)
    return connections[[uplink.shared for uplink in here.uplinks].index(shared)]


def test_an_acknowledged_write_is_with_the_others_when_it_is_acknowledged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agent and writer die in the moment of the acknowledgement; before the other worker has read anything more."""

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            writer, other = await workers(here, 2)
            await other.set("n", 41)
            connection = here.uplinks[1]._connection
            assert connection is not None
            connection.channel.pause_reading()
            acknowledge = here.hub._acknowledge

            def acknowledge_and_die(connection: DirectConnection, *answer: Any) -> None:
                acknowledge(connection, *answer)
                connection.channel.flush()
                here.kill_agent()

            monkeypatch.setattr(here.hub, "_acknowledge", acknowledge_and_die)
            assert await writer.increment("n") == 42
            await here.kill_worker(1)
            assert other["n"] == 41
            connection.channel.resume_reading()
            hub = await here.agent(share, survivors=[2])
            assert hub.shared["n"] == 42

    run(scene())


def test_a_write_under_way_fails_when_the_agent_goes(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            (one,) = await workers(here, 1)
            writing = asyncio.create_task(one.increment("n"))
            await asyncio.sleep(0)
            here.kill_agent()
            with pytest.raises(LeaderGone):
                await writing
            writing = asyncio.create_task(one.increment("n"))
            await until(lambda: here.uplinks[0]._connection is None)
            await here.agent(survivors=[1])
            assert await writing in (1, 2)

    run(scene())


def test_a_worker_that_connects_too_late_gets_the_restored_copy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eggcluster.model.shared.survivors.OTHER_COPIES_TIMEOUT", 0.05)

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            one, late = await workers(here, 2)
            await one.set("k", 1)
            await until(lambda: "k" in late)
            connecting = here.uplinks[1]._connecting
            assert connecting is not None
            connecting.cancel()  # its loop is blocked
            here.kill_agent()
            hub = await here.agent(share, survivors=[1, 2])
            await one.set("k", 2)
            here.uplinks[1]._connecting = None
            here.uplinks[1]._connect()
            await until(lambda: late["k"] == 2)
            assert hub.shared["k"] == 2

    run(scene())


def test_an_agent_whose_workers_are_dead_begins_with_nothing_and_says_so(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share, survivors=[1, 2, 3])
            assert "every worker with a copy died before it answered (1, 2, 3)" in caplog.text
            assert dict(hub.shared) == {}
            (one,) = await workers(here, 1)
            assert await one.increment("n") == 1

    run(scene())


def test_news_of_workers_do_not_put_off_the_question_which_of_them_live() -> None:
    """In a reload they come and go all the time, and a dead one must not be waited for until the last copy is gone."""

    async def only_another_lives(action: str) -> list[int]:
        return [2]

    async def work() -> None:
        recovery = SharedRecovery(Store(2), [1], False, only_another_lives, lambda: None)
        running, gone = asyncio.ensure_future(recovery.run()), cast("DirectConnection", object())
        async with asyncio.timeout(DEADLINE):
            while not running.done():
                recovery.leave(gone)
                await asyncio.sleep(0.01)

    asyncio.run(work())


def test_a_copy_that_is_none_is_passed_over(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            one, two = await workers(here, 2)
            await one.set("k", 1)
            await until(lambda: "k" in two)
            here.uplinks[0]._copy.entries["k"] = "nonsense"  # type: ignore[assignment]
            here.uplinks[0]._copy.version += 1  # and the best one, as it says
            here.kill_agent()
            hub = await here.agent(share, survivors=[1, 2])
            assert dict(hub.shared) == {"k": 1}
            assert "a worker's copy of the shared dictionary is not used: Expected" in caplog.text

    run(scene())


def test_a_write_of_the_wrong_types_fails_alone_and_its_line_goes_on(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(share)
            (one,) = await workers(here, 1)
            connection = here.uplinks[0]._connection
            assert connection is not None
            for wrong in (["CompareAndSet", "k", None, b"\x01"], ["Explode", "k"], None):
                with pytest.raises(RemoteError, match='TypeError: "write" cannot take this: '):
                    await connection.request("write", wrong, 20)
            assert await one.increment("n") == 1
            assert here.uplinks[0]._connection is connection

    run(scene())


def test_a_worker_that_sends_what_is_no_value_is_cut_off(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (one,) = await workers(here, 1)
            connection = here.uplinks[0]._connection
            assert connection is not None
            with pytest.raises(LeaderGone):
                await connection.request("write", ["Set", "k", b"\xc1"], 20)
            await until(lambda: here.uplinks[0]._connection)
            assert dict(hub.shared) == {}
            assert await one.increment("n") == 1, "it has come back in order"
            raw_follower(here).close()

    logging.getLogger("eggcluster.cluster_client")
    run(scene())


# -- late messages of a former life ------------------------------------------------------------------------


def test_a_late_notice_of_the_former_agents_death_leaves_the_line_to_the_present_one(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(share)
            (one,) = await workers(here, 1)
            await one.set("k", 1)
            here.kill_agent()
            await here.agent(share, survivors=[1])
            assert await one.increment("n") == 1
            (uplink,) = here.uplinks
            connection = uplink._connection
            assert connection is not None
            uplink.agent_gone(1)
            await one.increment("n")
            assert uplink._connection is connection
            uplink.agent_gone(2)
            await until(lambda: uplink._connection is not connection)

    run(scene())


def test_a_worker_leaves_an_agent_that_is_known_dead_as_soon_as_that_speaks(run: Run, tmp_path: Path) -> None:
    """A thread cannot be killed: it may go on after it was abandoned, and accept connections before it ends."""

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.worker(share, wait=False)
            (uplink,) = here.uplinks
            uplink.agent_gone(1)
            hub = await here.agent(share)  # generation 1
            await until(lambda: uplink._latest is not None and uplink._latest.agent == 1)
            await until(lambda: uplink._latest is not None and uplink._latest.channel.closed)
            assert uplink._connection is None
            assert not hub._writer._connections
            here.kill_agent()
            await here.agent(share)
            await uplink.start()

    run(scene())


def test_what_an_agent_says_that_was_left_is_not_heard(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(share)
            (one,) = await workers(here, 1)
            await one.set("k", 1)
            (uplink,) = here.uplinks
            former = uplink._latest
            assert former is not None
            here.kill_agent()
            await here.agent(share, survivors=[1])
            await one.set("k", 2)
            uplink.on_message(former, "copy", Table().copy())
            uplink.on_message(former, "leaders", ["none"])
            assert dict(one) == {"k": 2}
            assert not uplink._leaders

    run(scene())


def test_a_worker_that_closed_while_it_was_taken_is_not_kept(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            raw_follower(here).close()
            await until(lambda: not len(hub._running) and not hub._connections)
            ours, theirs = socket.socketpair()
            ours.close()
            await hub._take(theirs)
            await until(lambda: not hub._connections)

    run(scene())


@pytest.mark.parametrize("agent_shares", [True, False])
def test_an_agent_does_not_open_while_a_worker_with_a_copy_lives(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, agent_shares: bool
) -> None:
    monkeypatch.setattr("eggcluster.worker.sharing.recovery.PATIENCE", 0.0)
    monkeypatch.setattr("eggcluster.worker.sharing.recovery.LOOK_INTERVAL", 0.01)

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            (one,) = await workers(here, 1)
            await one.set("k", 1)
            await block(here)
            here.kill_agent()
            starting = asyncio.create_task(here.agent(*[share] * agent_shares, survivors=[1]))
            await until(lambda: agent_shares or starting.done())
            here.hub.open()
            await until(lambda: "app workers that live and do not answer: 1" in caplog.text)
            assert not here.hub._writer.restored.is_set()
            unblock(here)
            await until(lambda: one.version("k") and here.hub._writer.restored.is_set())
            await starting
            assert dict(here.hub.shared) == {"k": 1}

    run(scene())


async def block(here: Site, slot: int = 1) -> None:
    """The worker's loop stands still: it does not connect, and answers nothing."""
    connecting = here.uplinks[slot - 1]._connecting
    assert connecting is not None
    connecting.cancel()
    await asyncio.wait([connecting])


def unblock(here: Site, slot: int = 1) -> None:
    here.uplinks[slot - 1]._connecting = None
    here.uplinks[slot - 1]._connect()


def test_a_copy_that_comes_after_the_choice_is_merged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy that was restored was behind, and the worker with the better one stood still for too long."""
    monkeypatch.setattr("eggcluster.model.shared.survivors.OTHER_COPIES_TIMEOUT", 0.05)

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            behind, ahead = await workers(here, 2)
            for key in ("kept", "deleted", "both"):
                await ahead.set(key, 1)
            await until(lambda: "both" in behind)
            await block(here, 1)
            await ahead.set("new", 2)
            await ahead.set("both", 2)
            await ahead.delete("deleted")
            await block(here, 2)
            here.kill_agent()
            unblock(here, 1)
            hub = await here.agent(share, survivors=[1, 2])
            assert dict(hub.shared) == {"kept": 1, "deleted": 1, "both": 1}
            await behind.set("both", 3)
            unblock(here, 2)
            await until(lambda: dict(hub.shared) == dict(behind) == dict(ahead) == {"kept": 1, "new": 2, "both": 3})
            assert "1 shared keys have lost acknowledged values, newer ones were written: 'both'" in caplog.text
            assert await ahead.increment("new") == 3
            await until(lambda: behind["new"] == 3)

    run(scene())


@pytest.mark.parametrize("version", [2**64 - 1, 2**63, -1, 2**53 + (2 << 40)])
def test_a_version_that_no_agent_has_given_does_not_break_later_writes(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            liar, honest = await workers(here, 2)
            await honest.set("k", 1)
            await until(lambda: "k" in liar)
            here.uplinks[0]._copy.version = version
            here.kill_agent()
            hub = await here.agent(share, survivors=[1, 2])
            assert dict(hub.shared) == {"k": 1}
            assert f"the copy of app worker 1 is not used: its version, {version}, is none" in caplog.text
            assert await liar.increment("k") == 2
            assert await hub.shared.increment("k") == 3
            await until(lambda: liar["k"] == honest["k"] == 3)

    run(scene())


@pytest.mark.parametrize("mark", [["x", 1], [1.5, 1], [None, 1], [1], "x"])
def test_a_hello_with_something_else_than_a_version_is_refused_alone(run: Run, tmp_path: Path, mark: Any) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (one,) = await workers(here, 1)
            connection = here.uplinks[0]._connection
            assert connection is not None
            with pytest.raises(RemoteError, match='TypeError: "hello" cannot take this'):
                await connection.request("hello", (here.cluster_id, 1, mark), 20)
            assert await one.increment("n") == 1
            assert hub.shared["n"] == 1

    run(scene())


def test_a_refusal_of_an_unknown_kind_says_its_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (one,) = await workers(here, 1)

            def refuse(write: Any) -> None:
                raise NotSerializable("no")

            monkeypatch.setattr(hub._writer, "carry_out", refuse)
            with pytest.raises(RemoteError, match="NotSerializable: no"):
                await one.set("k", 1)

    run(scene())


def test_what_no_worker_has_a_copy_of_is_lost_with_the_agent_and_the_log_says_so(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            await hub.shared.set("k", 1)
            await until(lambda: here.was_shared)
            here.kill_agent()
            assert dict((await here.agent(share)).shared) == {}
            assert "the shared dictionary is lost: no app worker with a copy was left" in caplog.text

    run(scene())


@pytest.mark.parametrize("use", [lambda s: s.set("k", 1), lambda s: s.ready()], ids=["set", "ready"])
def test_the_agents_on_start_may_be_the_first_to_use_it(run: Run, tmp_path: Path, use: Callable[[Shared], Any]) -> None:
    """`on_start` runs before the agent's sharing is started, and no worker has connected."""

    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(wait=False)
            await use(here.hub.shared)
            here.open_port()
            await here.hub.start()

    run(scene())


def test_the_agent_too_may_write_from_another_loop(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            assert await asyncio.to_thread(lambda: asyncio.run(hub.shared.increment("n"))) == 1

    run(scene())


# -- outside of a cluster ----------------------------------------------------------------------------------


def test_alone_it_is_a_dictionary_of_this_process() -> None:
    shared = LocalSharing().shared
    heard: list[Change] = []
    shared.on_change("n", heard.append)

    async def test() -> int:
        await shared.set("short", 1, ttl=1e-9)
        assert await shared.compare_and_set("k", 0, "v") is not None
        return int(await shared.increment("n"))

    assert [asyncio.run(test()), asyncio.run(shared.increment("n"))] == [1, 2]
    assert dict(shared) == {"k": "v", "n": 2}
    assert [change.value for change in heard] == [1, 2]


def test_the_public_methods_call_their_argument_a_listener() -> None:
    """As docs/shared-state.md and docs/shared-clients.md do: callers may pass it by name."""
    for owner in (Shared, Leader, Follower):
        methods = ("on_change", "off_change") if owner is Shared else ("subscribe", "unsubscribe")
        for method in methods:
            assert "listener" in inspect.signature(getattr(owner, method)).parameters, (owner, method)


def test_a_thread_waits_for_a_write_and_the_loop_must_not(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            hub = await here.agent(share)
            (one,) = await workers(here, 1)
            assert await asyncio.to_thread(lambda: one.wait(one.increment("n"), 20)) == 1
            assert await asyncio.to_thread(lambda: hub.shared.wait(hub.shared.increment("n"))) == 2
            await one.set("text", "")
            with pytest.raises(TypeError, match="only a number"):
                await asyncio.to_thread(lambda: one.wait(one.increment("text")))
            for shared in (one, hub.shared):
                with pytest.raises(RuntimeError, match="await here, or use a thread"):
                    shared.wait(shared.increment("n"))

    run(scene())


def test_a_wait_in_a_thread_ends_at_its_timeout(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent()
            (one,) = await workers(here, 1)

            async def endless() -> None:
                await asyncio.Event().wait()

            with pytest.raises(RequestTimeout, match=r"no answer within 0\.01s"):
                await asyncio.to_thread(lambda: one.wait(endless(), 0.01))

    run(scene())


def test_it_is_writable_while_there_is_an_agent(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        async with site(tmp_path) as here:
            await here.agent(share)
            (one,) = await workers(here, 1)
            assert one.writable
            here.kill_agent()
            await until(lambda: not one.writable)
            await here.agent(share)
            await until(lambda: one.writable)

    run(scene())


def test_outside_of_a_cluster_waiting_works_in_a_loop_and_without_one() -> None:
    shared = LocalSharing().shared

    async def work() -> Any:
        return shared.wait(shared.increment("n"))

    assert shared.writable
    assert shared.wait(shared.increment("n")) == 1
    assert asyncio.run(work()) == 2
    assert shared.wait(shared.admit("w", 1, 60)) is True
    assert shared.wait(shared.admit("w", 1, 60)) is False
    assert len(shared.admissions("w", 60)) == 1
    left = shared.seconds_left("w")
    assert left is not None
    assert 50 < left <= 60
    assert shared.seconds_left("n") is None
    with pytest.raises(KeyError):
        shared.seconds_left("nothing")


@pytest.mark.parametrize(("limit", "window", "amount"), [(0, 1, 1), (8001, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_what_cannot_be_a_window_is_refused(limit: int, window: float, amount: int) -> None:
    shared = LocalSharing().shared
    with pytest.raises(ValueError, match=r"admit: the limit|is not a duration"):
        shared.wait(shared.admit("k", limit, window, amount))


def test_threads_that_ask_at_once_get_one_dictionary() -> None:
    """Each would wait for its own copy, and the last one replaced the others."""
    context, barrier = WorkerContext(), threading.Barrier(8)
    make = context._make_sharing

    def slowly() -> Sharing:
        time.sleep(0.01)  # the others look meanwhile
        return make()

    context._make_sharing = slowly  # type: ignore[method-assign]

    def ask(_: int) -> Shared:
        barrier.wait(20)
        return context.sharing.shared

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(ask, range(8))))) == 1
