"""What every start mode promises of a worker, shown with real workers of each mode."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, decode_body, encode_frame
from eggcluster.ipc.worker_spec import ListenerSpec, WorkerSpec
from eggcluster.kernel.process_adoption import PR_SET_CHILD_SUBREAPER
from eggcluster.kernel.process_tree import is_running
from eggcluster.model.lives.health import BEAT_INTERVAL
from eggcluster.model.lives.worker import ExitReport
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT
from eggcluster.modes.starters import starter_of
from eggcluster.modes.worker_handle import StopOutcome, WorkerHandle
from eggcluster.options import ResolvedOptions, parse_options
from tests.modes.conftest import MODES
from tests.waiting import DEADLINE, wait_until

FORKED = "process, forked"  # from a template; the same mode otherwise
WAYS = (*MODES, *((FORKED,) if sys.platform == "linux" else ()))
FORCED = {
    "process": (StopOutcome.KILLED, ExitReport(signal="SIGKILL")),
    FORKED: (StopOutcome.KILLED, ExitReport(signal="SIGKILL")),
    "thread": (StopOutcome.ABANDONED, ExitReport(abandoned=True)),
    "interpreter": (StopOutcome.ABANDONED, ExitReport(abandoned=True)),
}

PLAIN = """
import asyncio, pathlib, sys, time
from eggcluster import Agent
agent = Agent()
here = pathlib.Path(__file__).parent
"""
# Until the test is over: a thread that is abandoned must not live on in the tests' process.
UNTIL_RELEASED = "while not (here / 'release').exists(): "
STUBBORN = PLAIN + f"@agent.on_close\nasync def never():\n    {UNTIL_RELEASED}await asyncio.sleep(0.01)\n"
MORTAL = PLAIN + "agent.messenger.on('die', lambda code: asyncio.get_running_loop().call_soon(sys.exit, code))\n"
PARENT = (
    MORTAL
    + """
import subprocess

@agent.on_start
def spawn():
    code = "import pathlib, signal, time\\n" + HANDLER + "print('up', flush=True)\\ntime.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=here, stdout=subprocess.PIPE, start_new_session=True)
    with child.stdout:
        child.stdout.readline()
    (here / "child").write_text(str(child.pid))
"""
)
TELLS = "def tell(*_):\n    pathlib.Path('terminated').touch()\n    raise SystemExit\nsignal.signal(15, tell)\n"
DEAF = "signal.signal(15, signal.SIG_IGN)\n"


class Worker:
    """A started worker: its handle, and what came over its channel."""

    def __init__(self, handle: WorkerHandle) -> None:
        self.handle = handle
        self.exit: asyncio.Future[ExitReport]
        self.frames: list[Frame] = []
        self.came = asyncio.Event()
        self.channel: Channel

    def _on_frames(self, frames: list[Frame]) -> None:
        self.frames += frames
        self.came.set()

    async def connect(self) -> "Worker":
        await self.handle.wait_start()
        self.exit = asyncio.ensure_future(self.handle.wait_exit())
        self.channel = await Channel.open(self.handle.channel, self._on_frames, lambda _: self.came.set())
        return self

    def die(self, code: int) -> None:
        """Let it end its event loop."""
        self.channel.write(encode_frame(FrameKind.MESSAGE, Target.AGENT, ["die", code]))

    async def report(self) -> tuple[str, dict[str, Any]]:
        """The first report that it sends."""
        await self.came.wait()
        frame = next(frame for frame in self.frames if frame.kind is FrameKind.REPORT)
        action, details = decode_body(frame.body, tuple[str, dict[str, Any]])
        return action, details


class Workshop:
    """Starts workers of one mode in a directory of their own."""

    def __init__(self, mode: str, folder: Path) -> None:
        self.folder = folder
        self.mode = mode
        self.kills = mode in ("process", FORKED)
        self.outcome, self.forced_exit = FORCED[mode]
        self.starter = starter_of("process" if mode == FORKED else mode, (lambda: None) if mode == FORKED else None)
        self._workers: list[Worker] = []

    async def agent(self, code: str, **details: Any) -> Worker:
        (self.folder / "agent.py").write_text(code)
        return await self._open(WorkerSpec("agent", 0, 1, self._cluster(), self._options(), **details))

    async def app(self, code: str, listener: socket.socket) -> Worker:
        (self.folder / "app.py").write_text(code)
        listeners = [ListenerSpec(listener.fileno(), False)]
        spec = WorkerSpec("app", 1, 1, self._cluster(), self._options(), listeners, "http://here")
        return await self._open(spec, [listener.fileno()])

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def limited() -> None:
            try:
                async with asyncio.timeout(DEADLINE):
                    await work
            finally:
                (self.folder / "release").touch()
                for worker in self._workers[:]:
                    await self._end(worker)
                await self.starter.end(DEADLINE)

        asyncio.run(limited())

    async def forget(self, worker: Worker) -> None:
        """It has ended, and the test goes on."""
        await self._end(worker)
        self._workers.remove(worker)

    async def _end(self, worker: Worker) -> None:
        worker.channel.close()
        if not worker.exit.done():
            worker.handle.kill()
            await worker.exit
        while worker.handle.lives_on:
            await asyncio.sleep(0.01)
        worker.handle.heartbeat_page.close()

    async def _open(self, spec: WorkerSpec, fds: Sequence[int] = ()) -> Worker:
        worker = Worker(self.starter.start(spec, fds))
        self._workers.append(worker)
        return await worker.connect()

    def _options(self) -> ResolvedOptions:
        for name in ("app", "agent"):
            if not (self.folder / f"{name}.py").exists():
                (self.folder / f"{name}.py").write_text(PLAIN if name == "agent" else "def app(e, s): ...\n")
        return parse_options(base_dir=str(self.folder), workers=1, port=0, env="prod")

    def _cluster(self) -> str:
        return f"{os.getpid()}-{self.folder.name}"


@pytest.fixture(params=WAYS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workshop]:
    uvloop.new_event_loop().close()  # the first one of a process opens what all share
    held, threads, path = fds(), threading.active_count(), sys.path[:]
    with adopting() if request.param == FORKED else contextlib.nullcontext():
        yield Workshop(request.param, tmp_path)
    wait_until(lambda: threading.active_count() <= threads, "no thread is left")
    assert fds().items() <= held.items(), "a file descriptor is left"
    assert sys.path == path


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Let this process adopt orphans, as a master does."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def end(child: int) -> None:
    """A child of a worker that is a thread is the tests' own."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def child_of(shop: Workshop) -> int:
    return int((shop.folder / "child").read_text())


def end_of_child(shop: Workshop) -> None:
    """A process takes its child along; a thread's child belongs to the whole process, and stays."""
    if shop.kills:
        wait_until(lambda: not is_running(child_of(shop)), "the child is gone", 1)
    else:
        assert is_running(child_of(shop))
        end(child_of(shop))


def test_a_worker_reports_over_its_channel_that_it_has_started(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(PLAIN)
        assert (await worker.report())[0] == "agent-start"
        assert worker.handle.worker_id > 0

    shop.run(work())


def test_a_worker_that_cannot_boot_reports_why_and_exits(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(PLAIN + "import nothing_of_that_name\n")
        action, details = await worker.report()
        assert action == "boot-failed"
        assert details["report"].startswith("ModuleNotFoundError")
        assert await worker.exit == ExitReport(code=1)

    shop.run(work())


def test_an_app_worker_serves_on_the_listener_that_it_was_given(shop: Workshop) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            code = "def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n"
            worker = await shop.app(code, listener)
            assert await worker.report() == ("app-start", {"address": "http://here"})
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"hello" in await reader.read()
            writer.close()
            assert await worker.handle.stop(grace=5) is StopOutcome.GRACEFUL

    shop.run(work())


def test_a_worker_that_closes_within_its_grace_was_graceful(shop: Workshop) -> None:
    async def work() -> None:
        code = PLAIN + "import pathlib\nagent.on_close(lambda: pathlib.Path(__file__).with_name('closed').touch())\n"
        worker = await shop.agent(code)
        await worker.report()
        assert await worker.handle.stop(grace=10) is StopOutcome.GRACEFUL
        assert await worker.exit == ExitReport(code=0)
        assert (shop.folder / "closed").exists()

    shop.run(work())


def test_a_worker_that_needs_longer_is_ended_by_force(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(STUBBORN)
        await worker.report()
        assert await worker.handle.stop(grace=0.2) is shop.outcome
        assert await worker.exit == shop.forced_exit
        assert worker.handle.lives_on is not shop.kills
        if not shop.kills:  # it ends when it comes to
            (shop.folder / "release").touch()
            while worker.handle.lives_on:
                await asyncio.sleep(0.01)

    shop.run(work())


def test_a_second_stop_only_waits_whatever_its_grace(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(STUBBORN)
        await worker.report()
        first = asyncio.ensure_future(worker.handle.stop(grace=0.3))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(worker.handle.stop(grace=1000))
        assert {await first, await second} == {shop.outcome}

    shop.run(work())


def test_a_stop_after_the_end_returns_at_once(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(MORTAL)
        await worker.report()
        worker.die(3)
        assert await worker.exit == ExitReport(code=3)
        assert await worker.handle.stop(grace=1000) is StopOutcome.GRACEFUL

    shop.run(work())


def test_a_process_that_gets_the_pid_of_an_ended_worker_is_left_alone(shop: Workshop) -> None:
    async def work(stranger: int) -> None:
        worker = await shop.agent(MORTAL)
        await worker.report()
        worker.die(3)
        await worker.exit
        worker.handle.worker_id = stranger
        await worker.handle.stop(grace=0)
        worker.handle.kill()
        await worker.handle.abort()

    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            shop.run(work(stranger.pid))
            with pytest.raises(subprocess.TimeoutExpired):
                stranger.wait(0.2)
        finally:
            stranger.kill()


@pytest.mark.parametrize(
    "code", [PLAIN + UNTIL_RELEASED + "time.sleep(0.01)\n", PLAIN + UNTIL_RELEASED + "pass\n", STUBBORN]
)
def test_a_kill_ends_a_worker_whatever_it_is_doing_or_abandons_it(shop: Workshop, code: str) -> None:
    async def work() -> None:
        worker = await shop.agent(code)
        worker.handle.kill()
        worker.handle.kill()
        assert await worker.exit == shop.forced_exit

    shop.run(work())


@pytest.mark.parametrize("how", ["stop", "kill", "crash"])
def test_the_end_of_a_process_is_the_end_of_all_that_it_started_a_thread_s_is_not(shop: Workshop, how: str) -> None:
    async def work() -> None:
        worker = await shop.agent(f"HANDLER = {DEAF!r}\n" + PARENT)
        assert (await worker.report())[0] == "agent-start"
        assert is_running(child_of(shop))
        if how == "stop":
            await worker.handle.stop(grace=0.5)
        elif how == "kill":
            worker.handle.kill()
        else:
            worker.die(1)
        await worker.exit
        end_of_child(shop)

    shop.run(work())


def test_what_a_stopped_process_started_is_asked_before_it_is_killed(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(f"HANDLER = {TELLS!r}\n" + PARENT)
        await worker.report()
        assert await worker.handle.stop(grace=5) is StopOutcome.GRACEFUL
        assert (shop.folder / "terminated").exists() is shop.kills
        end_of_child(shop)

    shop.run(work())


def is_thread_here(worker_id: int) -> bool:
    """Asked by its id: a listing may leave one out while another thread ends."""
    return os.path.exists(f"/proc/self/task/{worker_id}")


def test_a_worker_id_is_a_pid_or_a_thread_id(shop: Workshop) -> None:
    async def work() -> None:
        first, second = await shop.agent(PLAIN), await shop.agent(PLAIN)
        ids = {first.handle.worker_id, second.handle.worker_id}
        await first.report()
        await second.report()
        assert len({*ids, os.getpid()}) == 3
        assert {is_thread_here(each) for each in ids} == {not shop.kills}

    shop.run(work())


def test_nothing_of_the_order_is_on_a_command_line(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(PLAIN)
        await worker.report()
        process = psutil.Process(worker.handle.worker_id if shop.kills else os.getpid())
        assert str(shop.folder) not in " ".join(process.cmdline())

    shop.run(work())


def test_a_worker_hears_what_is_sent_to_it(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(PLAIN + "agent.messenger.on('double', lambda n: n * 2)\n")
        await worker.report()
        worker.came.clear()
        worker.channel.write(encode_frame(FrameKind.REQUEST, Target.AGENT, ["double", 21], request_id=7))
        await worker.came.wait()
        reply = worker.frames[-1]
        assert (reply.kind, reply.request_id, reply.source) == (FrameKind.REPLY, 7, AGENT.pack())
        assert decode_body(reply.body) == 42

    shop.run(work())


def test_an_aborted_worker_says_where_it_was_and_is_gone_or_abandoned(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(PLAIN + "open(__file__ + '.imported', 'w').close()\n" + UNTIL_RELEASED + "pass\n")
        while not (shop.folder / "agent.py.imported").exists():
            await asyncio.sleep(0.01)
        await worker.handle.abort()
        assert await worker.exit == (ExitReport(signal="SIGABRT") if shop.kills else shop.forced_exit)
        assert 'agent.py", line' in worker.handle.heartbeat_page.final_message()

    shop.run(work())


def test_a_workers_pulse_beats_while_its_loop_moves_and_no_longer(shop: Workshop) -> None:
    async def work() -> None:
        block = f"@agent.messenger.on('block')\ndef block(data):\n    {UNTIL_RELEASED}time.sleep(0.01)\n"
        worker = await shop.agent(PLAIN + block)
        assert (await worker.report())[0] == "agent-start"
        record, first = worker.handle.heartbeat_page, worker.handle.heartbeat_page.read().beat
        assert first > 0
        while record.read().beat == first:
            await asyncio.sleep(0.01)
        worker.channel.write(encode_frame(FrameKind.MESSAGE, Target.AGENT, ["block", None]))
        await asyncio.sleep(2 * BEAT_INTERVAL)
        last = record.read().beat
        await asyncio.sleep(4 * BEAT_INTERVAL)  # nothing is to happen in it
        assert record.read().beat == last

    shop.run(work())


def test_memory_is_known_of_processes(shop: Workshop) -> None:
    async def work() -> None:
        worker = await shop.agent(PLAIN)
        await worker.report()
        assert (worker.handle.resident_bytes() > 0) is shop.kills

    shop.run(work())


def test_a_start_without_file_descriptors_fails_and_leaves_nothing_behind(shop: Workshop) -> None:
    async def work() -> None:
        before = fds()
        for spare in range(5):  # with a few more, all is there that the master's side needs, and the worker's end tells
            with room_for(spare), pytest.raises(OSError, match="Too many open files"):
                await shop.agent(PLAIN)
            await shop.starter.end(DEADLINE)
            assert fds() == before

    shop.run(work())


def fds() -> dict[int, str]:
    """Those that this process has, and what they are; not the one with which they are looked up."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """No more than so many file descriptors can be had."""
    before, held = resource.getrlimit(resource.RLIMIT_NOFILE), fds()
    free = (number for number in range(len(held) + count + 1) if number not in held)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, count, None)), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def fewer(held: int, threads: int) -> None:
    """No more file descriptors and threads than these; a thread that is just ending may be waited for."""
    async with asyncio.timeout(DEADLINE):
        while len(fds()) > held or threading.active_count() > threads:
            await asyncio.sleep(0.01)


def test_twenty_lives_and_deaths_leave_nothing_behind(shop: Workshop) -> None:
    """No file descriptor and no thread: the fixture looks."""

    async def work() -> None:
        lives = 3 if shop.kills else 20
        for number in range(lives):
            worker = await shop.agent(MORTAL)
            await worker.report()
            if number == 0:
                held, threads = len(fds()), threading.active_count()
            await fewer(held, threads)
            worker.die(number)
            assert await worker.exit == ExitReport(code=number)
            await shop.forget(worker)

    shop.run(work())


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "process"])
def test_a_thread_that_cannot_be_started_leaves_nothing_behind(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def work() -> None:
        with pytest.raises(OSError, match="can't start new thread"):
            await Workshop(mode, tmp_path).agent(PLAIN)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = os.listdir("/dev/fd")
    Workshop(mode, tmp_path).run(work())
    assert os.listdir("/dev/fd") == before
