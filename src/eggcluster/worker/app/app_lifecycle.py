"""The lifecycle of an app worker. Runs in the app workers."""

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.inherited_sockets import InheritedFiles
from eggcluster.kernel.tasks import take_turns
from eggcluster.model.steering.key_home import Part
from eggcluster.model.steering.key_source import key_sources
from eggcluster.worker.app.application import Application
from eggcluster.worker.app.handover_reader import HandoverReader
from eggcluster.worker.app.interface import Interface, detect_interface
from eggcluster.worker.app.lifespan import Lifespan
from eggcluster.worker.app.loading import load_application
from eggcluster.worker.context.current import shared_dictionary
from eggcluster.worker.context.hooks import Hooks
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.engines.engine import Engine, Load
from eggcluster.worker.lifecycle.close_request import CloseRequest
from eggcluster.worker.lifecycle.lifecycle import CLOSE_RESERVE, Lifecycle

if TYPE_CHECKING:
    from eggcluster.ipc.key_table import OwnKeys
    from eggcluster.worker.app.key_router import TableRouter

SOCKET_CHECK_INTERVAL = 1.0  # seconds between two checks that the sockets are still open

CLOSING_STATE = "eggcluster_closing"  # the key of `app.closing` in scope["state"]: also an attribute of request.state
CLOSING_VARIABLE = "eggcluster.closing"  # the same in the WSGI environ, where names without a dot are those of text

CLOSED = "the application has closed file descriptor %d, on which its connections come in"

_logger = logging.getLogger("eggcluster.worker")


class AppLifecycle(Lifecycle):
    """Boot: import the application, `on_start`, lifespan startup, accept. Close: the same in reverse."""

    start_report = "app-start"
    app: Application
    engine: Engine
    lifespan: Lifespan | None
    handed: HandoverReader | None = None
    router: "TableRouter | None" = None
    _cut_off = False  # the application has closed a socket on which connections come in
    _next_check: asyncio.TimerHandle | None = None

    def __init__(
        self, spec: WorkerSpec, sock: socket.socket, context: WorkerContext, close_request: CloseRequest
    ) -> None:
        super().__init__(spec, sock, context, close_request)
        self._keys = _own_keys(spec)
        fds = [spec.handover_fd, *(listener.fd for listener in spec.listeners)]
        self._sockets = InheritedFiles(fd for fd in fds if fd is not None)

    def run(self, runner: asyncio.Runner, began: float) -> int:
        try:
            return super().run(runner, began)
        finally:
            self._sockets.close()
            if self.router is not None:
                self.router.close()
            if self._keys is not None:
                self._keys.table.close()

    def load(self) -> Hooks:
        if (preloaded := self.context.preloaded) is not None:
            self._loaded_at, self.app = preloaded.loaded_at, preloaded.take()
            return self.app
        self._loaded_at = time.monotonic()
        self.app = load_application(self.options)
        self.app.run_preload()
        return self.app

    async def boot(self) -> None:
        self.app.registrations.own_keys = self._keys
        self.app.open_schedule(self._loaded_at)
        if self.spec.shares:
            shared_dictionary()  # asks for a copy, which `start_sharing` waits for
        await self.start_sharing()
        await self.app.run_start()
        await self.start_sharing()
        self.times.done("on_start")
        await self.app.report_tasks()
        interface = self._interface()
        self.lifespan = Lifespan(self.app.app, {CLOSING_STATE: self.app.closing}) if interface == "asgi" else None
        if self.lifespan is not None:
            await self.lifespan.startup()
            self.times.done("lifespan startup")
        if lost := self._lost_sockets():
            raise RuntimeError(CLOSED % lost[0])
        self.engine = self._engine(interface)
        await self.engine.start()
        if self.spec.handover_fd is not None:
            add_direct = self.router.add_direct if self.router is not None else None
            self.handed = HandoverReader(self.spec.handover_fd, self.engine, add_direct)
            self.handed.start()
            if self.router is not None:
                self.router.exit = self.handed.exit
        self.times.done("HTTP engine")
        self._check_sockets()

    def _check_sockets(self) -> None:
        """Close the worker if no connection can reach it any more: a new one takes its place."""
        for fd in self._lost_sockets():
            self._cut_off = True
            _logger.error(f"{CLOSED}: closing", fd)
            self.close_by_itself()
        if not self._cut_off:
            self._next_check = asyncio.get_running_loop().call_later(SOCKET_CHECK_INTERVAL, self._check_sockets)

    def _lost_sockets(self) -> list[int]:
        """Put back the sockets that the application has closed; return those that cannot be put back."""
        back, lost = self._sockets.put_back()
        for fd in back:
            _logger.error(f"{CLOSED}: put back", fd)
        handover = self.spec.handover_fd
        if self.handed is not None and self.handed.is_shut and self.has_master and handover is not None:
            lost.append(handover)
        return lost

    def current_load(self) -> Load:
        load = self.engine.load
        return load._replace(accepting=False) if self._cut_off else load

    async def close(self) -> bool:
        timeout = self.options.app_close_timeout / 1000
        with self.contained("taking in the last connections"):
            self._leave_sockets()
        with self.contained("the drain"):
            await self.engine.drain(drain_limit(timeout, self.options.drain_timeout))
        with self.contained("leaving the key table"):
            self._leave_keys()
        turns = (self._shut_lifespan_down, self._run_close)
        closed = await take_turns(turns, self.grace_left(self.options.app_close_timeout), _log_slow)
        with self.contained("sharing"):
            return await self.close_sharing() and all(closed) and not self._cut_off
        return False

    def _leave_sockets(self) -> None:
        if self._next_check is not None:
            self._next_check.cancel()
        self._sockets.close()  # otherwise their copies would go on listening
        if self.router is not None:
            self.router.close_to_new()
        elif self.handed is not None:
            self.handed.finish()

    def _leave_keys(self) -> None:
        """Take in no more requests with keys of this worker. Until now, their clients came here."""
        if self.router is not None and self.handed is not None:
            self.router.leave()
            self.handed.finish()

    async def _shut_lifespan_down(self) -> bool:
        with self.contained("lifespan shutdown"):
            return self.lifespan is None or await self.lifespan.shutdown()
        return False

    async def _run_close(self) -> bool:
        with self.contained("on_close"):
            return await self.run_hooks_to_close(self.options.app_close_timeout)
        return False

    def _on_event(self, action: str, data: Any) -> None:
        if action == "egg-agent-gone":
            self.context.agent_gone(data)
        super()._on_event(action, data)

    def _interface(self) -> Interface:
        if self.options.interface == "auto":
            return detect_interface(self.app.app) or "asgi"
        return self.options.interface

    def _engine(self, interface: Interface) -> Engine:
        from eggcluster.worker.engines.http_engine import HttpEngine
        from eggcluster.worker.engines.response_observers import response_observer

        self.router = self._router()
        page, slot, worker_id = self.heartbeat_page, self.spec.slot, self.context.worker_id
        return HttpEngine(
            self.app.app,
            interface,
            self.options,
            self.spec.listeners,
            self.lifespan.state if self.lifespan is not None else {CLOSING_VARIABLE: self.app.closing},
            self.app.run_server_hooks,
            page.cluster_closes,
            response_observer(self.options, page.http, slot=slot, worker_id=worker_id),
            self.router,
        )

    def _router(self) -> "TableRouter | None":
        """Return what finds the workers that requests belong to; None if requests have no keys."""
        if self._keys is None:
            return None
        from eggcluster.worker.app.key_router import TableRouter

        return TableRouter(self._keys, key_sources(self.options.sticky_by))


def _own_keys(spec: WorkerSpec) -> "OwnKeys | None":
    """Return the worker's part of the key table; None if requests have no keys."""
    if spec.keys_fd is None:
        return None
    from eggcluster.ipc.key_table import KeyTable, OwnKeys

    return OwnKeys(KeyTable(os.dup(spec.keys_fd), spec.options.workers), Part(*spec.key_part))


def drain_limit(timeout: float, drain_timeout: int | None) -> float:
    """Return how long connections may take to finish, in seconds, if the worker closes within `timeout` seconds:
    lifespan shutdown and `on_close` keep their part of it. `drain_timeout` (ms) makes it shorter."""
    longest = max(timeout - CLOSE_RESERVE, timeout / 2)
    return longest if drain_timeout is None else min(longest, drain_timeout / 1000)


def _log_slow(_: int, seconds: float) -> None:
    _logger.warning("lifespan shutdown is not done after %.1fs, on_close begins beside it", seconds)
