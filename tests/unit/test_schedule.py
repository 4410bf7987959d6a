"""The agent's own schedule: its ticks, their runs, overlap, and what one agent leaves to the next."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from eggcluster import Agent, Application, DeclarationError, RunFailed, ScheduleStrategy
from eggcluster.model.schedule.schedule_terms import check_terms
from eggcluster.worker.schedule.clock import Clock
from eggcluster.worker.schedule.journal import AGENT_ITSELF, Journal
from eggcluster.worker.schedule.scheduled_task import ScheduledTask
from tests.unit.clock import in_no_time, now

EPOCH = 1_800_000_000.0 - 1000.0  # 2027-01-15 08:00:00 UTC when the loop begins


class LoopClock(Clock):
    """The jumping loop's; `wall` can be set."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def monotonic(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:  # where functions are decorated
            return 1000.0

    def wall(self) -> float:
        return EPOCH + self.monotonic() + self.set_by


class Watched:
    """An agent whose functions note when they run, in seconds since the loop began."""

    def __init__(self, journal: dict[str, bytes] | None = None) -> None:
        self.clock = LoopClock()
        self.agent = Agent()
        self.agent.schedule.clock = self.clock
        self.kept: dict[str, bytes] = dict(journal or {})
        self.agent.registrations.journal = dict(self.kept)
        self.agent.registrations.report = self._report
        self.runs: list[float] = []

    def _report(self, action: str, details: dict[str, Any]) -> None:
        if action == "journal":
            self.kept[details["key"]] = details["value"]

    def schedule(self, interval: Any = None, takes: float = 0, **terms: Any) -> Callable[[], Any]:
        """Schedule one called "poll" that takes so many seconds."""
        if "cron" in terms:
            terms["timezone"] = "UTC"

        @self.agent.schedule(interval, **terms)
        async def poll() -> None:
            self.runs.append(now())
            await asyncio.sleep(takes)

        return poll

    async def live(self, seconds: float) -> None:
        await self.agent.run_start()
        await asyncio.sleep(seconds)
        await self.agent.run_close()

    async def die(self, seconds: float) -> None:
        """Live, and be killed."""
        await self.agent.run_start()
        await asyncio.sleep(seconds)
        assert self.agent._scheduler is not None
        for task in self.agent._scheduler._tasks.values():
            await task.close()
        for run in self.agent.registrations.runner._runs.values():
            run.cancel()

    def counts(self) -> dict[str, int]:
        assert self.agent._scheduler is not None
        return dict(self.agent._scheduler._tasks["poll"].history.counts)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"interval": "10s"}, [10, 20, 30]),
        ({"interval": 10, "immediate": True}, [0, 10, 20, 30]),
        ({"cron": "*/10 * * * * *"}, [10, 20, 30]),
        ({"cron": "*/10 * * * * *", "immediate": True}, [0, 10, 20, 30]),
        ({"interval": "10s", "disable": True}, []),
        ({"interval": "10s", "env": ["prod"]}, []),
        ({"interval": "10s", "env": ["prod", "local"]}, [10, 20, 30]),
        ({"interval": "10s", "takes": 15}, [10, 30]),
        ({"interval": "10s", "takes": 15, "overlap": "queue"}, [10, 25]),
        ({"interval": "10s", "takes": 15, "overlap": "allow"}, [10, 20, 30]),
        ({"interval": "10s", "takes": 15, "timeout": "5s"}, [10, 20, 30]),
    ],
    ids=str,
)
def test_when_it_runs_within_35_seconds(terms: dict[str, Any], expected: list[float]) -> None:
    watched = Watched()
    watched.agent.registrations.env = "local"
    watched.schedule(**terms)
    in_no_time(watched.live(35))
    assert watched.runs == expected


def test_nothing_adds_up_to_a_drift() -> None:
    watched = Watched()
    watched.schedule("100ms", takes=0.03)
    in_no_time(watched.live(1000.05))
    assert watched.runs == pytest.approx([tick / 10 for tick in range(1, 10_001)], abs=1e-6)


def test_a_run_that_takes_longer_than_the_interval_makes_the_next_ones_fall_out() -> None:
    watched = Watched()
    watched.schedule("10s", takes=25)
    in_no_time(watched.live(101))
    assert watched.runs == [10, 40, 70, 100]
    assert watched.counts() == {"ok": 3, "stopped": 1, "skipped": 6}


def test_of_those_that_wait_there_is_one_at_most() -> None:
    watched = Watched()
    watched.schedule("10s", takes=25, overlap="queue")
    in_no_time(watched.live(59))
    assert watched.runs == [10, 35]  # due at 10 and 20; that of 30 came while one waited, that of 40 waits
    assert watched.counts() == {"ok": 2, "skipped": 2, "stopped": 1}  # the close stops the one that waits


def test_jitter_delays_each_start_by_less_than_itself_and_moves_nothing_else() -> None:
    watched = Watched()
    watched.schedule("10s", jitter="5s")
    in_no_time(watched.live(1000))
    late = [run % 10 for run in watched.runs]
    assert len(watched.runs) == 99
    assert all(0 <= seconds <= 5 for seconds in late)
    assert len(set(late)) > 90


def test_what_it_raises_is_logged_with_its_name_and_the_next_run_comes(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()

    @watched.agent.schedule("10s")
    async def poll() -> None:
        watched.runs.append(now())
        raise SystemExit("oh") if len(watched.runs) == 1 else RuntimeError("no")

    in_no_time(watched.live(35))
    assert watched.runs == [10, 20, 30]
    assert caplog.text.count("scheduled function poll raised") == 3
    assert "RuntimeError: no" in caplog.text
    assert watched.counts() == {"failed": 3}


def test_one_that_exceeds_its_timeout_is_cancelled_and_told_from_one_whose_own_timeout_it_was() -> None:
    watched = Watched()

    @watched.agent.schedule("10s", timeout="5s")
    async def poll() -> None:
        watched.runs.append(now())
        if len(watched.runs) == 1:
            raise TimeoutError("the database's")
        if len(watched.runs) == 2:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return  # it took longer all the same
        await asyncio.sleep(100)

    in_no_time(watched.live(37))
    assert watched.runs == [10, 20, 30]
    assert watched.counts() == {"failed": 1, "timeout": 2}


def test_at_close_a_run_has_time_to_finish_and_no_other_begins() -> None:
    watched = Watched()
    ended: list[float] = []

    @watched.agent.schedule("10s", overlap="allow")
    async def poll() -> None:
        watched.runs.append(now())
        await asyncio.sleep(2)
        ended.append(now())

    in_no_time(watched.live(10.5))
    assert (watched.runs, ended) == ([10], [12])


def test_a_run_that_does_not_finish_in_time_is_cancelled_whatever_its_cleanup_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()

    @watched.agent.schedule("10s", immediate=True)
    async def poll() -> None:
        watched.runs.append(now())
        try:
            await asyncio.sleep(1000)
        finally:
            raise RuntimeError("while disconnecting")

    async def work() -> None:
        await watched.live(1)
        assert now() == 3.5  # half of the five seconds are the runs', the rest is the background tasks'

    in_no_time(work())
    assert watched.runs == [0]
    assert "while disconnecting" in caplog.text


# -- by hand -------------------------------------------------------------------------------------------------------


def test_one_run_by_hand_is_a_run_as_any_other_and_moves_no_tick() -> None:
    watched = Watched()
    watched.schedule("10s", takes=3)

    async def work() -> None:
        await watched.agent.run_start()
        await asyncio.sleep(4)
        run = await watched.agent.run_schedule("poll")
        assert (run.outcome, run.trigger, run.where, run.seconds) == ("ok", "hand", "agent", 3)
        await asyncio.sleep(4)
        assert watched.runs == [4, 10]
        with pytest.raises(RunFailed, match='schedule "poll" skipped: a run before it had not ended'):
            await watched.agent.run_schedule("poll")
        with pytest.raises(RunFailed, match='no schedule is called "pool"'):
            await watched.agent.run_schedule("pool")
        await watched.agent.run_close()

    in_no_time(work())


def test_a_disabled_one_runs_by_hand() -> None:
    watched = Watched()
    watched.schedule("10s", disable=True)

    async def work() -> None:
        await watched.agent.run_start()
        await asyncio.sleep(30)
        await watched.agent.run_schedule("poll")
        await watched.agent.run_close()

    in_no_time(work())
    assert watched.runs == [30]


def test_outside_of_a_cluster_the_function_is_called_here() -> None:
    app = Application(print)
    calls: list[Any] = []

    @app.schedule("10s")
    async def good() -> None:
        calls.append(1)

    @app.schedule("10s")
    async def bad() -> None:
        raise ValueError("oh")

    async def work() -> None:
        run = await app.run_schedule("good")
        assert (run.outcome, run.where) == ("ok", "here")
        with pytest.raises(RunFailed, match='schedule "bad" failed: ValueError: oh'):
            await app.run_schedule("bad")
        with pytest.raises(RunFailed, match="no schedule is called"):
            await app.run_schedule("ugly")

    asyncio.run(work())
    assert calls == [1]


# -- one agent after the other ------------------------------------------------------------------------------------


def replaced(first_dies_at: float, away: float, takes: float = 0, second: Any = None, **terms: Any) -> list[float]:
    """When "poll" runs until 59 s, where the agent dies and the next one comes after `away` seconds; `second` are
    the terms of the next one, if they are others."""
    one = Watched()
    one.schedule(takes=takes, **terms)
    runs: list[float] = []

    async def work() -> None:
        await one.die(first_dies_at)
        await asyncio.sleep(away)
        two = Watched(one.kept)
        two.agent.registrations.generation = 2
        two.schedule(takes=takes, **(second or terms))
        await two.live(59 - now())
        runs.extend([*one.runs, *two.runs])

    in_no_time(work())
    return runs


@pytest.mark.parametrize("when", [{"interval": "10s"}, {"cron": "*/10 * * * * *"}], ids=str)
@pytest.mark.parametrize(
    ("dies", "away", "catch_up", "expected"),
    [
        (15, 1, False, [10, 20, 30, 40, 50]),  # between two ticks: it makes no difference
        (10.5, 1, False, [10, 20, 30, 40, 50]),
        (10.5, 1, True, [10, 20, 30, 40, 50]),  # the tick of 10 has been run
        (5, 1, True, [10, 20, 30, 40, 50]),  # no tick yet: the series goes on all the same
        (15, 6, False, [10, 30, 40, 50]),  # one fell into the replacement
        (15, 6, True, [10, 21, 30, 40, 50]),
        (15, 26, True, [10, 41, 50]),  # three did: the last one is made up for
        (15, 8, "2s", [10, 30, 40, 50]),  # too late
        (15, 6, "2s", [10, 21, 30, 40, 50]),
    ],
)
def test_the_next_agent_goes_on_with_the_series_and_makes_up_for_one_at_most(
    when: dict[str, Any], dies: float, away: float, catch_up: Any, expected: list[float]
) -> None:
    assert replaced(dies, away, catch_up=catch_up, **when) == expected


def test_a_tick_that_began_is_not_begun_again_by_the_next_agent() -> None:
    assert replaced(12, 1, takes=5, interval="10s", catch_up=True) == [10, 20, 30, 40, 50]


def test_nothing_begins_before_what_the_next_agent_must_know_has_left_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched()
    watched.schedule("10s")
    seen: list[Any] = []

    async def drain() -> None:
        seen.append(dict(watched.kept))
        await asyncio.sleep(2)

    monkeypatch.setattr(watched.agent, "_drain", drain)
    in_no_time(watched.live(15))
    assert watched.runs == [12]  # the tick of 10
    assert len(seen) == 1
    left = Journal(seen[0], lambda key, value: None, drain).of("poll")
    assert (left.last - 1000, list(left.open.values())) == (10, [[AGENT_ITSELF]])


def test_a_series_with_other_times_begins_anew() -> None:
    changed = {"interval": "20s", "catch_up": True}
    assert replaced(15, 1, interval="10s", second=changed) == [10, 36, 56]


def test_immediate_is_for_each_agent_because_its_memory_is_new() -> None:
    assert replaced(15, 1, interval="10s", immediate=True) == [0, 10, 16, 20, 30, 40, 50]


def test_what_another_version_has_left_is_no_reason_to_fail() -> None:
    watched = Watched({"poll": b"\xc1", "other": b""})
    watched.schedule("10s")
    in_no_time(watched.live(25))
    assert watched.runs == [10, 20]


def test_a_run_that_died_with_the_agent_is_in_the_next_ones_history_and_holds_nothing_up() -> None:
    async def work() -> None:
        one = Watched()
        one.schedule("10s", takes=100)
        await one.agent.run_start()
        await asyncio.sleep(11)
        two = Watched(one.kept)
        two.agent.registrations.generation = 2
        two.schedule("10s")
        await two.agent.run_start()
        await asyncio.sleep(10)
        assert two.runs == [20]
        assert two.counts() == {"lost": 1, "ok": 1}
        await two.agent.run_close()
        await one.agent.run_close()

    in_no_time(work())


# -- the wall's clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("set_by", "expected"),
    [
        (3, [10, 17, 27, 37]),  # forward: a little earlier
        (-3, [10, 23, 33, 43]),  # back: it waits, and repeats nothing
        (-12, [10, 32, 42]),
        (-4 * 3600, [10, 20, 30, 40]),  # far back: the clock was wrong before, a new series
        (86_400, [10, 15, 20, 30, 40]),  # far forward: of what came due the last one, because it is not a minute old
    ],
)
def test_when_the_clock_is_set_after_14_5_seconds(set_by: float, expected: list[float]) -> None:
    watched = Watched()
    watched.schedule(cron="*/10 * * * * *")

    async def work() -> None:
        await watched.agent.run_start()
        await asyncio.sleep(14.5)
        watched.clock.set_by = set_by
        await asyncio.sleep(30)
        await watched.agent.run_close()

    in_no_time(work())
    assert watched.runs == expected


def test_an_interval_does_not_mind_the_clock_at_all() -> None:
    watched = Watched()
    watched.schedule("10s")

    async def work() -> None:
        await watched.agent.run_start()
        for set_by in (-1e6, 1e6):
            await asyncio.sleep(15)
            watched.clock.set_by = set_by
        await asyncio.sleep(5)
        await watched.agent.run_close()

    in_no_time(work())
    assert watched.runs == [10, 20, 30]


# -- where it is written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"interval": "often"}, "interval='often' is not an interval"),
        ({}, 'say when: interval="10s", or cron='),
        ({"interval": "1s", "cron": "* * * * *"}, "interval and cron exclude each other"),
        ({"interval": "1s", "timezone": "UTC"}, "timezone belongs to cron"),
        ({"cron": "* * *"}, "cron='\\* \\* \\*' is not a cron expression: Wrong number of fields"),
        ({"cron": "61 * * * *"}, "is not a cron expression: Bad minute"),
        ({"cron": "0 0 30 2 *"}, "is not a cron expression: Bad day-of-month"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Nowhere"}, "timezone='Europe/Nowhere' is not a time zone"),
        ({"cron": "0 0 * * *", "timezone": "../etc"}, "is not a time zone"),
        ({"cron": "0 0 * * *", "timezone": "Europe"}, "is not a time zone"),
        ({"cron": 5}, "cron=5 is not a non-empty string"),
        ({"interval": "1s", "jitter": "1s"}, "jitter must be less than the interval, 1s"),
        ({"interval": "1s", "timeout": 0}, "timeout=0 is not an interval"),
        ({"interval": "1s", "overlap": "often"}, "overlap='often' is not one of skip, queue, allow"),
        ({"interval": "1s", "catch_up": "long"}, "catch_up='long' is not an interval"),
        ({"interval": "1s", "retry": 1}, "retry is for tasks that run in app workers"),
        ({"interval": "1s", "retry": -1}, "retry=-1 is not a number"),
        ({"interval": "1s", "env": "prod"}, "env='prod' is not a list of environments, such as \\[\"prod\"\\]"),
        ({"interval": "1s", "immediate": 1}, "immediate=1 is neither True nor False"),
        ({"interval": "1s", "type": "worker"}, 'type="worker" is not for agent.schedule'),
        ({"interval": "1s", "intervall": 5}, "intervall is not one of its terms: interval, cron"),
        ({"interval": "1s", "name": ""}, "name='' is not a non-empty string"),
    ],
    ids=str,
)
def test_terms_that_make_no_sense_are_one_line_that_names_the_function(terms: dict[str, Any], why: str) -> None:
    async def poll() -> None: ...

    with pytest.raises(DeclarationError, match=why) as refused:
        Agent().schedule(**terms)(poll)
    text = str(refused.value)
    assert text.startswith("schedule tests.unit.test_schedule.test_terms")
    assert ".poll: " in text
    assert len(text.splitlines()) == 1


def test_an_app_has_no_tasks_of_the_agents_type() -> None:
    with pytest.raises(DeclarationError, match='type="agent" is not for app'):
        Application(print).schedule("1s", type="agent")(print)


def test_two_of_one_name_in_one_worker_are_told_apart_by_name() -> None:
    agent = Agent()

    def one() -> None: ...

    agent.schedule("1s", name="poll")(one)
    agent.schedule("1s")(one)
    with pytest.raises(DeclarationError, match=r'"poll" is also the name of \S+\.one: give one of them another name='):
        agent.schedule("2s", name="poll")(print)


def test_the_decorated_function_stays_what_it_was() -> None:
    def poll() -> None: ...

    assert Agent().schedule("1s")(poll) is poll


def test_what_comes_after_the_start_comes_too_late() -> None:
    watched = Watched()

    async def work() -> None:
        await watched.agent.run_start()
        with pytest.raises(DeclarationError, match="too late"):
            watched.schedule("10s")
        await watched.agent.run_close()

    in_no_time(work())


def test_types_are_made_known_once_by_a_class_of_strategies() -> None:
    agent = Agent()

    @agent.schedule.use("mine")
    class Mine(ScheduleStrategy): ...

    agent.schedule.use("yours", Mine)
    assert agent.schedule.strategies == {"mine": Mine, "yours": Mine}
    for taken in ("mine", "worker", "all", "agent"):
        with pytest.raises(DeclarationError, match=f"schedule type '{taken}': this name is taken"):
            agent.schedule.use(taken, Mine)
    for wrong in (print, int, Mine.__new__(Mine)):
        with pytest.raises(DeclarationError, match="is not a subclass of ScheduleStrategy"):
            agent.schedule.use("other", wrong)  # type: ignore[arg-type]


def test_a_strategy_that_ignores_its_cancellation_delays_no_other_task(caplog: pytest.LogCaptureFixture) -> None:
    class Clinging(ScheduleStrategy):
        async def start(self) -> None:
            for _ in range(2):  # the end of the test cancels it again
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)

        async def close(self) -> None:
            await asyncio.sleep(1000)

    async def work() -> None:
        journal = Journal({}, lambda key, value: None, lambda: asyncio.sleep(0))
        task = ScheduledTask("poll", journal, LoopClock(), logging.getLogger("test"))
        terms = check_terms("poll", "app.poll", "mine", None, {})
        await task.arm(terms, Clinging(terms, Agent(), sender=cast(Any, None)), "prod")
        await asyncio.sleep(1)
        began = now()
        await task.disarm()
        assert now() - began < 5
        assert task.strategy is None

    in_no_time(work())
    assert "the strategy of schedule poll goes on although it was cancelled" in caplog.text
    assert "the strategy of schedule poll raised in close" in caplog.text
