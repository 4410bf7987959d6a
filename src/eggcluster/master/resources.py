"""What a master holds for its whole life: signals, name, pid file, sockets, control socket. Runs in the master."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol

from eggcluster.errors import FrameError, MessengerClosed
from eggcluster.kernel.process_adoption import become_subreaper
from eggcluster.kernel.process_tree import identified_children, reserve_kept
from eggcluster.master.admin.administered_master import AdministeredMaster
from eggcluster.master.control.control_server import ControlledMaster, ControlServer
from eggcluster.master.control.requests import MasterRequests
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
from eggcluster.options.admin_address import AdminAddress
from eggcluster.runtime.pid_file import PidFile
from eggcluster.runtime.runtime_dir import RuntimeDir

FINAL_MESSAGES_TIMEOUT = 1.0  # seconds in which the parent and the command line are told how the cluster ended


class HeldMaster(ControlledMaster, AdministeredMaster, Protocol):
    """The master, as its resources see it."""

    requests: MasterRequests


class MasterResources:
    """Acquires everything in `acquire`, and releases it in reverse order at the end of the `with` block.

    `owns_process`: this process is nothing but the master, so its title, its orphans and its exit belong to it.
    `preexisting_children` are the children that the process had before it became a master.
    """

    def __init__(self, options: ResolvedOptions, *, owns_process: bool, parent: socket.socket | None) -> None:
        self._listeners: Listeners | None = None
        self._options = options
        self.owns_process = owns_process
        self._parent = parent
        self._control: ControlServer | None = None
        self.admin_address: AdminAddress | None = None  # once the admin port is open
        self._parent_watch: asyncio.Task[None] | None = None
        self._guard: ListenerGuard | None = None
        self.preexisting_children: frozenset[tuple[int, bytes]] = frozenset()
        self._exit_stack = contextlib.ExitStack()

    async def acquire(self, master: HeldMaster, supervisor: Supervisor, reap: Callable[[], None]) -> None:
        """Acquire everything; `reap` is called at SIGCHLD. OptionsError if a port or the name is taken."""
        options = self._options
        # Signals first: none of them may end the process while it holds anything else.
        self._exit_stack.enter_context(self._signals(master.inbox, reap))
        self._exit_stack.enter_context(reserve_kept())
        runtime_dir = RuntimeDir(options.name)
        self._exit_stack.callback(runtime_dir.release)
        runtime_dir.claim(options.base_dir)
        if options.pid_file is not None:
            pid_file = PidFile(options.pid_file)
            self._exit_stack.callback(pid_file.release)
            pid_file.claim()
        self._listeners = detect_ports(options, runtime_dir.cluster_port)
        self._exit_stack.callback(self._listeners.release_keys)
        self._exit_stack.callback(self.close_listeners)
        self._guard = self._guard_listeners(master.inbox, supervisor)
        if self._parent is not None:
            await self._connect_parent(self._parent, master)
        if self.owns_process:
            self._set_up_process()
        self._control = await ControlServer.open(runtime_dir.control_socket, master)
        self._exit_stack.callback(self._control.close)
        if options.admin is not None:
            from eggcluster.master.admin.pages import open_admin_server  # loads the HTTP engine

            admin = await open_admin_server(master)
            self._exit_stack.callback(admin.close)
            self.admin_address = admin.address
        if options.reload:
            self._watch_files(master)

    @property
    def listeners(self) -> Listeners:
        """The listening sockets, once they are acquired, and even after they are closed."""
        if self._listeners is None:
            raise AssertionError("BUG: the listening sockets were used before they were bound")
        return self._listeners

    def close_listeners(self) -> None:
        """Let the kernel refuse new connections from now on; may be called again."""
        if self._guard is not None:
            self._guard.close()  # first: a listener that a worker still holds would stay in its epoll set
        self.listeners.close()

    async def flush_last_messages(self, switchboard: Switchboard) -> None:
        """Wait until the final messages have reached the command line and the parent, for a limited time."""
        if self._control is not None:
            await self._control.wait_answered(FINAL_MESSAGES_TIMEOUT)
        if self._parent_watch is not None:
            self._parent_watch.cancel()
        link = switchboard.parent
        if link is not None and link.channel is not None:
            with contextlib.suppress(MessengerClosed, TimeoutError):
                async with asyncio.timeout(FINAL_MESSAGES_TIMEOUT):
                    await link.channel.drain()
            link.channel.close()

    def _signals(self, inbox: Inbox, reap: Callable[[], None]) -> MasterSignals:
        def on_signal(number: int) -> None:
            inbox.put(SignalReceived(number))

        for_threads = self._options.start_mode == "thread"
        if not self.owns_process:
            return MasterSignals(on_signal, on_child=lambda: None, for_threads=for_threads)
        on_hang_up = partial(inbox.put, CloseRequested("the terminal has gone"))
        return MasterSignals(on_signal, reap, on_hang_up, for_threads=for_threads)

    def _guard_listeners(self, inbox: Inbox, supervisor: Supervisor) -> ListenerGuard:
        def on_broken(worker: Worker, error: OSError) -> None:
            why = FrameError(f"it takes no connections from the master ({error.strerror or error})")
            inbox.put(ChannelBroke(worker, why))

        def renew(since: float) -> bool:
            """Return whether every worker was born after `since`; reload the app workers if not."""
            slots = supervisor.slots
            if supervisor.phase is not Phase.SERVING:
                return False
            if all(slot.current is None or slot.current.born >= since for slot in slots):
                return True
            if not any(slot.successor or slot.retiring for slot in slots):  # else a reload is under way
                inbox.put(ReloadRequested(agent=False))
            return False

        self.listeners.acceptor.on_broken = on_broken
        guard = ListenerGuard(self.listeners, self._options.backlog, renew)
        guard.start()
        return guard

    async def _connect_parent(self, sock: socket.socket, master: ControlledMaster) -> None:
        link = await master.switchboard.connect(sock, max_bytes=self._options.max_message_bytes)
        if not self._options.daemon:
            self._parent_watch = asyncio.get_running_loop().create_task(_close_with_parent(link, master.inbox))

    def _watch_files(self, master: HeldMaster) -> None:
        from eggcluster.master.file_watching import FileWatching  # nothing of it is needed in production

        watching = FileWatching(self._options, master.worker_manager.cluster_id, master.inbox)
        master.requests.source_takers.append(watching.found)
        master.feed.observe(watching)
        watching.open()
        self._exit_stack.callback(watching.close)

    def _set_up_process(self) -> None:
        import setproctitle

        self.preexisting_children = identified_children(os.getpid())
        setproctitle.setproctitle(f"egg-master: {self._options.name}")
        if self._options.start_mode == "process":  # else its children are the application's
            become_subreaper()

    def __enter__(self) -> "MasterResources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit_stack.close()


async def _close_with_parent(link: Link, inbox: Inbox) -> None:
    """Close the cluster when the program that started it has ended. (A daemon goes on.)"""
    await link.gone.wait()
    inbox.put(CloseRequested("the parent has gone"))
