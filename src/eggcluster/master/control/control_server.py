"""The control socket, where `eggcluster status`, `stop`, `reload` and others reach the master. Runs in the master.

The protocol is one JSON object per line: a client sends `{"command": "status"}`; the master sends any number of
`{"progress": "..."}`, then `{"done": ...}` or `{"error": "..."}`. The client is `cli/control_client.py`. Only the
cluster's owner can open the socket: the directory around it is private.

A client may be slow, stopped or forgotten. What waits for it is bounded, and so is how long an answer waits.
`run-schedule` alone waits for its answer without a limit.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from eggcluster.errors import ControlError
from eggcluster.kernel.unix_socket import bind_unix
from eggcluster.master.control.clients import Client, Clients
from eggcluster.master.control.event_feed import EventFeed
from eggcluster.master.events import CloseRequested, Inbox, Progress, ReloadRequested
from eggcluster.master.relay.child_request import ANSWER_TIMEOUT, ask_child
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.relay.watchers import MessageWatcher, Watcher, Watchers
from eggcluster.model.lives.phase import Phase
from eggcluster.model.messages.role import AGENT
from eggcluster.runtime.runtime_dir import unusable
from eggcluster.wording import printable

MAX_LINE = 64 * 1024  # bytes; a command takes some dozens
COMMAND_TIMEOUT = 10.0  # seconds in which a client must send its command
SEND_TIMEOUT = 10.0  # seconds in which a client must have taken a line of an answer
READ_BYTES = 4096  # read at once from a client that has nothing more to say
WATCHING = {"messages", "events"}
BOOT_PHASES = {Phase.AGENT_BOOT.word, Phase.APPS_BOOT.word}


class ControlledMaster(Protocol):
    """The part of the master that the control socket uses."""

    inbox: Inbox
    switchboard: Switchboard
    feed: EventFeed

    def status(self) -> dict[str, Any]: ...


class ControlCommand(msgspec.Struct):
    """A client's command. `payload` is for `messages`, `agent` for `reload`, `schedule` for `run-schedule`."""

    command: str
    payload: bool = False
    agent: bool | None = None
    schedule: str = ""


class ControlServer:
    """Listens from `open` to `close`. Invalid input from a client ends that client's connection alone."""

    def __init__(self, path: str, master: ControlledMaster) -> None:
        self._path = path
        self._master = master
        self._inode = 0
        self._server: asyncio.AbstractServer | None = None
        self._clients = Clients()
        self._watchers = Watchers()
        self._waiting: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, path: str, master: ControlledMaster) -> "ControlServer":
        """Start to listen; OptionsError if the socket cannot be made in the runtime directory."""
        control = cls(path, master)
        try:
            sock = bind_unix(path)
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(sock.close)
                os.chmod(path, 0o600)
                control._inode = os.stat(path).st_ino
                control._server = await asyncio.start_unix_server(control._serve, sock=sock, limit=MAX_LINE)
                on_failure.pop_all()
        except OSError as error:
            raise unusable(os.path.dirname(path), error) from None
        return control

    async def wait_answered(self, limit: float) -> None:
        """Wait until the clients that requested a stop or a reload have their answer, for `limit` seconds at most."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=limit)

    def close(self) -> None:
        """Stop listening and disconnect the clients."""
        # While the socket listens, its inode is in use, so another cluster's socket at this path has another one.
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        client = Client(task, writer)
        # High water 0 makes drain() wait until the kernel has everything, so that nothing is cut off by the end.
        writer.transport.set_write_buffer_limits(high=0)
        self._clients.arrive(client)
        try:
            await self._answer(reader, client)
        except (OSError, ValueError, TimeoutError, RuntimeError, msgspec.MsgspecError) as error:
            # The client went away (uvloop: RuntimeError), sent no command in time or another text, or does not read.
            # The reader keeps the error. Its traceback leads back here, and would keep all of this alive.
            error.__traceback__ = None
        except asyncio.CancelledError:
            # By close() or a newer client; on Python 3.11 asyncio's streams would log a task that ends as cancelled.
            if client.outdone:
                writer.write(_line({"error": "too many clients wait for the master; this one is not told the end"}))
        finally:
            self._clients.leave(client)
            self._waiting.discard(task)
            _close(writer)

    async def _answer(self, reader: asyncio.StreamReader, client: Client) -> None:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            line = await reader.readline()
        command = msgspec.json.decode(line, type=ControlCommand)
        if command.command in WATCHING:
            await self._watch(command, reader, client)
        elif command.command == "run-schedule":
            await self._run_schedule(command.schedule, reader, client)
        else:
            await self._obey(command, client)

    async def _obey(self, command: ControlCommand, client: Client) -> None:
        self._clients.wait_for_answer(client)
        writer = client.writer
        match command.command:
            case "status":
                await _send(writer, {"done": self._master.status()})
            case "stop":
                await self._request(CloseRequested("stop requested", Progress()), writer)
            case "reload":
                await self._request(ReloadRequested(command.agent, Progress()), writer)
            case "schedules":
                await self._ask_agent("egg-schedules", None, ANSWER_TIMEOUT, writer)
            case other:
                await _send(writer, {"error": f'unknown command "{other}"'})

    async def _run_schedule(self, name: str, reader: asyncio.StreamReader, client: Client) -> None:
        """Run a schedule and send how it ended, however long that takes, unless the client goes away first."""
        try:
            self._clients.wait_for_run(client)
        except ControlError as error:
            await _send(client.writer, {"error": str(error)})
            return
        await _until_gone(self._ask_agent("egg-schedule-now", [name, []], None, client.writer), reader)

    async def _watch(self, command: ControlCommand, reader: asyncio.StreamReader, client: Client) -> None:
        """Show the client messages or events until it goes away."""
        try:
            self._clients.watch(client)
        except ControlError as error:
            await _send(client.writer, {"error": str(error)})
            return
        if command.command == "messages":
            messages = MessageWatcher(command.payload)
            observers = self._master.switchboard.observers
            observers.add(messages.see)
            await self._stream(messages, reader, client, lambda: observers.remove(messages.see))
        else:
            events = Watcher()
            self._master.feed.observe(events)
            await self._stream(events, reader, client, lambda: self._master.feed.ignore(events))

    async def _stream(
        self, watcher: Watcher, reader: asyncio.StreamReader, client: Client, end: Callable[[], None]
    ) -> None:
        """Send the watcher's lines as they come, until the client goes away; then call `end`."""
        self._watchers.add(watcher)
        gone = asyncio.ensure_future(_read_to_end(reader))
        gone.add_done_callback(lambda _: watcher.close())
        try:
            while lines := await watcher.next():
                client.writer.write(lines)
                await client.writer.drain()  # it may take hours: a pager
        finally:
            end()
            self._watchers.remove(watcher)
            gone.cancel()

    async def _request(self, event: CloseRequested | ReloadRequested, writer: asyncio.StreamWriter) -> None:
        """Put the event into the inbox; send the client its progress until it is done."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        progress = event.progress
        assert progress is not None
        self._master.inbox.put(event)
        try:
            async for line in progress.lines():
                await _send(writer, {"progress": line})
        finally:
            progress.abandon()
        await _send(writer, {"error": progress.failure} if progress.failure is not None else {"done": True})

    async def _ask_agent(self, action: str, data: Any, timeout: float | None, writer: asyncio.StreamWriter) -> None:
        """Ask the agent about the schedules, and send its answer, which may have any shape."""
        phase = self._master.status()["phase"]
        if phase in BOOT_PHASES:
            await _send(writer, {"error": f"the cluster is {phase}; its schedules are known when it serves"})
            return
        try:
            line = _line({"done": await ask_child(self._master.switchboard, AGENT, action, data, timeout)})
        except (ControlError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            line = _line({"error": printable(str(error))})
        await _send_line(writer, line)


async def _until_gone(work: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
    """Do the work, but no longer than its client waits for it."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_read_to_end(reader))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        working.cancel()  # does nothing once it is done
    if working.done():
        await working


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    """Read what a client sends that has nothing more to say, until it goes away. Nothing is kept."""
    try:
        while await reader.read(READ_BYTES):
            pass
    except OSError as error:
        error.__traceback__ = None  # the reader keeps the error


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    await _send_line(writer, _line(answer))


async def _send_line(writer: asyncio.StreamWriter, line: bytes) -> None:
    """Send a line, and wait until the client has taken it; TimeoutError after SEND_TIMEOUT seconds."""
    writer.write(line)
    async with asyncio.timeout(SEND_TIMEOUT):
        await writer.drain()


def _line(answer: dict[str, Any]) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _close(writer: asyncio.StreamWriter) -> None:
    """Close the connection, and wait for no client that does not read: the kernel has all that an orderly end left."""
    if writer.transport.get_write_buffer_size():
        writer.transport.abort()
    else:
        writer.close()
