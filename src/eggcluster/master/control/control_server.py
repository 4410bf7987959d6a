"""The control socket: `eggcluster status`, `stop`, `reload` and others talk to the master here. Runs in the master.

One JSON object a line: `{"command": "status"}` in; `{"progress": "..."}` lines out, then `{"done": ...}` or
`{"error": "..."}`. Only the owner can open it: the directory around it is private.
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

MAX_LINE = 64 * 1024  # bytes; a command has some dozen
MAX_CLIENTS = 64  # at a time: they must not take the master's last file descriptors
PATIENCE = 10.0  # seconds for a client to say what it wants
BOOTING = {Phase.AGENT_BOOT.word, Phase.APPS_BOOT.word}


class Controlled(Protocol):
    """What the control socket needs of the master."""

    inbox: Inbox
    switchboard: Switchboard
    feed: EventFeed

    def status(self) -> dict[str, Any]: ...


class Command(msgspec.Struct):
    """What a client asks for."""

    command: str
    payload: bool = False
    agent: bool | None = None


class ControlServer:
    """Listens from `open` to `close`. Nothing that a client sends reaches further than its own connection."""

    def __init__(self, path: str, master: Controlled) -> None:
        self._path = path
        self._master = master
        self._inode = 0
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, path: str, master: Controlled) -> "ControlServer":
        """Listen; OptionsError where the runtime directory does not take the socket."""
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

    async def finish(self, limit: float) -> None:
        """Let those who follow an order hear its end, for `limit` seconds at most."""
        if self._followers:
            await asyncio.wait(self._followers, timeout=limit)

    def close(self) -> None:
        """Stop listening and drop the clients."""
        # While it listens its inode is in use: another cluster's socket at this path cannot have the same.
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
            writer.write(msgspec.json.encode({"error": f"{MAX_CLIENTS} others talk with the master already"}) + b"\n")
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, ValueError, TimeoutError, RuntimeError, msgspec.MsgspecError):
            pass  # a client that goes away (uvloop: RuntimeError), is silent, or speaks something else
        except asyncio.CancelledError:
            pass  # by close(); asyncio's streams of Python 3.11 would log a task that ends as cancelled
        finally:
            self._clients.discard(task)
            self._followers.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
        order = msgspec.json.decode(line, type=Command)
        match order.command:
            case "status":
                await _say(writer, {"done": self._master.status()})
            case "stop":
                await self._follow(CloseRequested("stop requested", Progress()), writer)
            case "reload":
                await self._follow(ReloadRequested(order.agent, Progress()), writer)
            case "schedules":
                await self._tell_schedules(writer)
            case "messages":
                watch = MessageWatcher(order.payload)
                self._master.switchboard.observe(watch.see)
                await _show(watch, reader, writer, lambda: self._master.switchboard.ignore(watch.see))
            case "events":
                onlooker = Watcher()
                self._master.feed.observe(onlooker)
                await _show(onlooker, reader, writer, lambda: self._master.feed.ignore(onlooker))
            case other:
                await _say(writer, {"error": f'no command is called "{other}"'})

    async def _follow(self, order: CloseRequested | ReloadRequested, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._followers.add(task)
        progress = order.progress
        assert progress is not None
        self._master.inbox.put(order)
        async for line in progress.lines():
            await _say(writer, {"progress": line})
        await _say(writer, {"error": progress.failure} if progress.failure is not None else {"done": True})

    async def _tell_schedules(self, writer: asyncio.StreamWriter) -> None:
        phase = self._master.status()["phase"]
        if phase in BOOTING:
            await _say(writer, {"error": f"the cluster is {phase}; what is scheduled is known when it serves"})
        else:
            await self._relay(AGENT, "egg-schedules", writer)

    async def _relay(self, address: Address, action: str, writer: asyncio.StreamWriter) -> None:
        """Show what a child answers; it may be anything, or nothing."""
        try:
            answer = {"done": await ask_child(self._master.switchboard, address, action)}
            line = msgspec.json.encode(answer)
        except (ControlError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            line = msgspec.json.encode({"error": printable(str(error))})
        writer.write(line + b"\n")
        await writer.drain()


async def _show(
    watch: MessageWatcher | Watcher, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: Callable[[], None]
) -> None:
    """Tell what is to be seen as it comes, until the client goes away."""
    gone = asyncio.ensure_future(reader.read())  # a client that looks on says nothing more: this is its end
    try:
        while not gone.done():
            coming = asyncio.ensure_future(watch.next())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                await _say(writer, {"progress": coming.result()})
            coming.cancel()
    finally:
        end()
        gone.cancel()


async def _say(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    await writer.drain()
