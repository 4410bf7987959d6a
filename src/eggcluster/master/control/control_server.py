"""The control socket, where `eggcluster status`, `stop`, `reload` and others reach the master. Runs in the master.

The protocol is one JSON object per line: a client sends `{"command": "status"}`; the master sends any number of
`{"progress": "..."}`, then `{"done": ...}` or `{"error": "..."}`. The client is `cli/control_client.py`. Only the
cluster's owner can open the socket: the directory around it is private.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from eggcluster.errors import ControlError
from eggcluster.kernel.unix_socket import bind_unix
from eggcluster.master.control.event_feed import EventFeed
from eggcluster.master.events import CloseRequested, Inbox, Progress, ReloadRequested
from eggcluster.master.relay.child_request import ask_child
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.relay.watchers import MessageWatcher, Watcher
from eggcluster.model.lives.phase import Phase
from eggcluster.model.messages.role import AGENT, Address
from eggcluster.runtime.runtime_dir import unusable
from eggcluster.wording import printable

MAX_LINE = 64 * 1024  # bytes; a command takes some dozens
MAX_CLIENTS = 64  # at a time; clients must not use up the master's file descriptors
COMMAND_TIMEOUT = 10.0  # seconds in which a client must send its command
BOOT_PHASES = {Phase.AGENT_BOOT.word, Phase.APPS_BOOT.word}


class ControlledMaster(Protocol):
    """The part of the master that the control socket uses."""

    inbox: Inbox
    switchboard: Switchboard
    feed: EventFeed

    def status(self) -> dict[str, Any]: ...


class ControlCommand(msgspec.Struct):
    """A client's command. `payload` is for `messages`, `agent` for `reload`."""

    command: str
    payload: bool = False
    agent: bool | None = None


class ControlServer:
    """Listens from `open` to `close`. Invalid input from a client ends that client's connection alone."""

    def __init__(self, path: str, master: ControlledMaster) -> None:
        self._path = path
        self._master = master
        self._inode = 0
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()
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
            client.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MAX_CLIENTS:
            writer.write(
                msgspec.json.encode({"error": f"the master has {MAX_CLIENTS} clients already; try again later"}) + b"\n"
            )
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, ValueError, TimeoutError, RuntimeError, msgspec.MsgspecError):
            pass  # the client went away (uvloop: RuntimeError), sent no command in time, or sent something else
        except asyncio.CancelledError:
            pass  # by close(); on Python 3.11 asyncio's streams would log a task that ends as cancelled
        finally:
            self._clients.discard(task)
            self._waiting.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            line = await reader.readline()
        command = msgspec.json.decode(line, type=ControlCommand)
        match command.command:
            case "status":
                await _send(writer, {"done": self._master.status()})
            case "stop":
                await self._request(CloseRequested("stop requested", Progress()), writer)
            case "reload":
                await self._request(ReloadRequested(command.agent, Progress()), writer)
            case "schedules":
                await self._send_schedules(writer)
            case "messages":
                messages = MessageWatcher(command.payload)
                self._master.switchboard.observe(messages.see)
                await _stream(messages, reader, writer, lambda: self._master.switchboard.ignore(messages.see))
            case "events":
                events = Watcher()
                self._master.feed.observe(events)
                await _stream(events, reader, writer, lambda: self._master.feed.ignore(events))
            case other:
                await _send(writer, {"error": f'unknown command "{other}"'})

    async def _request(self, event: CloseRequested | ReloadRequested, writer: asyncio.StreamWriter) -> None:
        """Put the event into the inbox; send the client its progress until it is done."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        progress = event.progress
        assert progress is not None
        self._master.inbox.put(event)
        async for line in progress.lines():
            await _send(writer, {"progress": line})
        await _send(writer, {"error": progress.failure} if progress.failure is not None else {"done": True})

    async def _send_schedules(self, writer: asyncio.StreamWriter) -> None:
        phase = self._master.status()["phase"]
        if phase in BOOT_PHASES:
            await _send(writer, {"error": f"the cluster is {phase}; its schedules are known when it serves"})
        else:
            await self._relay(AGENT, "egg-schedules", writer)

    async def _relay(self, address: Address, action: str, writer: asyncio.StreamWriter) -> None:
        """Ask a child and send its answer, which may have any shape."""
        try:
            answer = {"done": await ask_child(self._master.switchboard, address, action)}
            line = msgspec.json.encode(answer)
        except (ControlError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            line = msgspec.json.encode({"error": printable(str(error))})
        writer.write(line + b"\n")
        await writer.drain()


async def _stream(
    watcher: Watcher, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: Callable[[], None]
) -> None:
    """Send the watcher's descriptions as they come, until the client goes away; then call `end`."""
    gone = asyncio.ensure_future(reader.read())  # a watching client sends nothing more, so this returns at its end
    try:
        while not gone.done():
            next_one = asyncio.ensure_future(watcher.next())
            await asyncio.wait({next_one, gone}, return_when=asyncio.FIRST_COMPLETED)
            if next_one.done():
                await _send(writer, {"progress": next_one.result()})
            next_one.cancel()
    finally:
        end()
        gone.cancel()


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    await writer.drain()
