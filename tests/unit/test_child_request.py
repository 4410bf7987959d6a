"""A request of the master's own to the agent: answered, failed, late, or not possible."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from eggcluster.errors import ControlError
from eggcluster.master.relay import child_request
from eggcluster.master.relay.child_request import ask_child
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT
from tests.unit.conftest import Run
from tests.unit.test_control_server import ask, command, controlled
from tests.unit.wires import Wires, until

ACTION = "egg-schedules"


def test_the_answer_is_given_whatever_its_shape(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent = await wires.agent()
        answers: list[Any] = [None, [{"a": 1}], "text", b"bytes"]
        agent.messenger.internal.on(ACTION, lambda data: answers[0])
        while answers:
            assert await ask_child(wires.switchboard, AGENT, ACTION) == answers[0]
            del answers[0]
        assert len(wires.switchboard._requests) == 0

    run(work())


def test_what_goes_wrong_is_a_control_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        wires = Wires()
        with pytest.raises(ControlError, match="there is no agent at the moment"):
            await ask_child(wires.switchboard, AGENT, ACTION)
        agent = await wires.agent()
        with pytest.raises(ControlError, match="NoHandler"):
            await ask_child(wires.switchboard, AGENT, ACTION)
        asked_it, cancelled = asyncio.Event(), asyncio.Event()

        async def never(data: Any) -> None:
            asked_it.set()
            try:
                await asyncio.sleep(1000)
            finally:
                cancelled.set()

        agent.messenger.internal.on(ACTION, never)
        asked = asyncio.ensure_future(ask_child(wires.switchboard, AGENT, ACTION))
        await until(asked_it.is_set)
        wires.dies(agent)
        with pytest.raises(ControlError, match="died before it answered"):
            await asked
        agent = await wires.agent()
        agent.messenger.internal.on(ACTION, never)
        cancelled.clear()
        monkeypatch.setattr(child_request, "ANSWER_TIMEOUT", 0.01)
        with pytest.raises(ControlError, match="did not answer within"):
            await ask_child(wires.switchboard, AGENT, ACTION)
        await until(cancelled.is_set)
        assert len(wires.switchboard._requests) == 0

    run(work())


def test_no_answer_of_a_child_harms_the_control_socket(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def work() -> None:
        async with controlled(path) as master:
            assert await ask(path, command("schedules")) == [{"error": "there is no agent at the moment"}]
            agent = await master.wires.agent()

            def answers(kind: FrameKind, content: Any) -> None:
                """What the agent answers to the next request."""
                frame = agent.frames.pop()
                agent.write(kind, Target.ADDRESS, content, target_id=frame.source, request_id=frame.request_id)

            for kind, content, said in (
                (FrameKind.REPLY, [{"name": "poll"}], {"done": [{"name": "poll"}]}),
                (FrameKind.REPLY, {1: {2.5: None}}, None),
                (FrameKind.REPLY, float("inf"), None),
                (FrameKind.FAILURE, 5, None),
                (FrameKind.FAILURE, ["KeyError", "1", ""], {"error": "KeyError: 1"}),
            ):
                agent.frames.clear()
                asked = asyncio.ensure_future(ask(path, command("schedules")))
                agent.messenger.receive = lambda frame: None  # type: ignore[method-assign]
                await until(lambda: agent.frames)
                answers(kind, content)
                (answer,) = await asked
                assert answer == said or (said is None and set(answer) <= {"done", "error"})
            assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]

    run(work())


def test_no_short_cut_leads_past_the_master_s_own_questions(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent = await wires.agent()
        agent.messenger.internal.on(ACTION, lambda data: 42)
        assert [await ask_child(wires.switchboard, AGENT, ACTION) for _ in range(5)] == [42] * 5
        assert not wires.broken

    run(work())


def test_a_run_by_hand_waits_as_long_as_its_client(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "control.sock"
        async with controlled(path) as master:
            agent = await master.wires.agent()
            began, cancelled, asked = asyncio.Event(), asyncio.Event(), []

            async def run_now(data: Any) -> Any:
                asked.append(data)
                if data[0] == "quick":
                    return {"outcome": "ok"}
                began.set()
                try:
                    await asyncio.sleep(1000)
                finally:
                    cancelled.set()

            agent.messenger.internal.on("egg-schedule-now", run_now)
            quick = b'{"command": "run-schedule", "schedule": "quick"}\n'
            assert await ask(path, quick) == [{"done": {"outcome": "ok"}}]
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.write(quick.replace(b"quick", b"long"))
            await until(began.is_set)
            writer.close()
            await until(cancelled.is_set)
            assert asked == [["quick", []], ["long", []]]
            assert len(master.switchboard._requests) == 0

    run(work())
