"""What a master holds for its whole life: signals, name, pid file, sockets, control socket. Runs in the master."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from eggcluster.errors import FrameError, MessengerClosed
from eggcluster.kernel.process_adoption import become_subreaper
from eggcluster.kernel.process_tree import identified_children, reserve_kept
from eggcluster.master.control.control_server import Controlled, ControlServer
from eggcluster.master.events import ChannelBroke, CloseRequested, Inbox, ReloadRequested, SignalReceived
from eggcluster.master.listening.binding import detect_ports
from eggcluster.master.listening.listener_guard import ListenerGuard
from eggcluster.master.listening.listeners import Listeners
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.signals import MasterSignals
from eggcluster.model.lives.phase import Phase
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import Worker
from eggcluster.options import ResolvedOptions
from eggcluster.runtime.pid_file import PidFile
from eggcluster.runtime.runtime_dir import RuntimeDir

LAST_WORDS = 1.0  # seconds in which parent and command line may hear how it ended


class ResourceOwner(Controlled, Protocol):
    """What the house needs of the master that lives in it."""

    supervisor: Supervisor


class MasterResources:
    """Taken by `acquire`, in its order, and given back in reverse at the end of the `with` block, whatever happens.

    `owns_process`: this process is nothing but the master, so its title, its orphans and its exit are ours.
    """

    def __init__(self, options: ResolvedOptions, *, owns_process: bool, parent: socket.socket | None) -> None:
        self.listeners = Listeners()
        self._options = options
        self.owns_process = owns_process
        self._parent = parent
        self._control: ControlServer | None = None
        self._parent_watch: asyncio.Task[None] | None = None
        self._guard: ListenerGuard | None = None
        self.preexisting_children: frozenset[tuple[int, bytes]] = (
            frozenset()
        )  # children of this process before it was a master
        self._keys = contextlib.ExitStack()

    async def acquire(self, master: ResourceOwner, switchboard: Switchboard, reap: Callable[[], None]) -> None:
        """Take everything."""
        options = self._options
        # Signals first: none must end the process while it holds anything else.
        self._keys.enter_context(self._signals(master.inbox, reap))
        self._keys.enter_context(reserve_kept())
        runtime_dir = RuntimeDir(options.name)
        self._keys.callback(runtime_dir.release)
        runtime_dir.claim(options.base_dir)
        if options.pid_file is not None:
            pid_file = PidFile(options.pid_file)
            self._keys.callback(pid_file.release)
            pid_file.claim()
        self.listeners = detect_ports(options, runtime_dir.cluster_port)
        self._keys.callback(self.close_listeners)
        self._guard = self._guard_listeners(master)
        if self._parent is not None:
            await self._welcome(self._parent, master, switchboard)
        if self.owns_process:
            self._take_process()
        self._control = await ControlServer.open(runtime_dir.control_socket, master)
        self._keys.callback(self._control.close)

    def close_listeners(self) -> None:
        """From now on nobody is connected; may be called again."""
        if self._guard is not None:
            self._guard.close()  # first: what workers still hold would stay in its watch
        self.listeners.close()

    async def flush_last_messages(self, switchboard: Switchboard) -> None:
        """Let the last words reach the command line and the parent."""
        if self._control is not None:
            await self._control.finish(LAST_WORDS)
        if self._parent_watch is not None:
            self._parent_watch.cancel()
        link = switchboard.parent
        if link is not None and link.channel is not None:
            with contextlib.suppress(MessengerClosed, TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await link.channel.drain()
            link.channel.close()

    def _signals(self, inbox: Inbox, reap: Callable[[], None]) -> MasterSignals:
        def on_signal(number: int) -> None:
            inbox.put(SignalReceived(number))

        if not self.owns_process:
            return MasterSignals(on_signal, on_child=lambda: None)
        return MasterSignals(on_signal, reap, lambda: inbox.put(CloseRequested("the terminal has gone")))

    def _guard_listeners(self, master: ResourceOwner) -> ListenerGuard:
        def on_broken(worker: Worker, error: OSError) -> None:
            why = FrameError(f"it can be handed no connection ({error.strerror or error})")
            master.inbox.put(ChannelBroke(worker, why))

        def renew(since: float) -> bool:
            if master.supervisor.phase is not Phase.SERVING:
                return False
            slots = master.supervisor.slots
            if all(slot.current is None or slot.current.born >= since for slot in slots):
                return True
            if not any(slot.successor or slot.retiring for slot in slots):  # else one is under way
                master.inbox.put(ReloadRequested(agent=False))
            return False

        self.listeners.acceptor.on_broken = on_broken
        guard = ListenerGuard(self.listeners, self._options.backlog, renew)
        guard.start()
        return guard

    async def _welcome(self, sock: socket.socket, master: Controlled, switchboard: Switchboard) -> None:
        link = await switchboard.connect(sock, max_bytes=self._options.max_message_bytes)
        if not self._options.daemon:
            self._parent_watch = asyncio.get_running_loop().create_task(_follow_parent(link, master))

    def _take_process(self) -> None:
        import setproctitle

        self.preexisting_children = identified_children(os.getpid())
        setproctitle.setproctitle(f"egg-master: {self._options.name}")
        if self._options.start_mode == "process":  # else the children of this process are the application's own
            become_subreaper()

    def __enter__(self) -> "MasterResources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keys.close()


async def _follow_parent(link: Link, master: Controlled) -> None:
    """A cluster that a program started ends with that program; a daemon stays."""
    await link.gone.wait()
    master.inbox.put(CloseRequested("the parent has gone"))
