"""The life of a worker: boot, report, serve, close. Runs in the agent and in the app workers."""

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
from abc import ABC, abstractmethod
from typing import Any

from eggcluster.errors import FrameError, MessengerClosed, OptionsError
from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, encode_frame
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.message import Kind, Target
from eggcluster.model.phase import ExitCode
from eggcluster.model.role import Address, Role
from eggcluster.worker.boot_failure import describe_failure
from eggcluster.worker.hooks import Hooks

_logger = logging.getLogger("eggcluster.worker")
_CLOSE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
CLOSE_RESERVE = 1.0  # seconds of the close timeout that are kept for lifespan shutdown and on_close


class Life(ABC):
    """One incarnation, seen from inside. A subclass says what there is to boot and to close."""

    start_report: str  # the lifecycle message that says "started"

    def __init__(self, order: BootOrder, sock: socket.socket, messenger: Messenger) -> None:
        self.order = order
        self.options = order.options
        self.messenger = messenger
        self._sock = sock
        self._channel: Channel | None = None
        self._closing = asyncio.Event()
        self._hooks: Hooks | None = None

    @abstractmethod
    def load(self) -> Hooks:
        """Import the application; gives its object. Whatever it raises is the boot's failure."""

    @abstractmethod
    async def boot(self) -> None:
        """Start what was loaded. Whatever it raises is the boot's failure."""

    @abstractmethod
    async def close(self) -> None:
        """Close what was booted, in order. Called only after a boot that succeeded."""

    async def run(self) -> int:
        """Live until the master says so; gives the exit code."""
        await self._attach()
        try:
            self._hooks = self._load()
            booted = await self._boot_or_close()
        except Exception as error:
            return await self._report_failure(error)
        if booted:
            self._report(self.start_report, {"address": self.order.listening_at})
            await self._closing.wait()
            await self._close()
        await self._leave()
        _logger.info("exit with code:0")
        return ExitCode.CLOSED

    # -- boot ------------------------------------------------------------------------------------------

    async def _attach(self) -> None:
        role = Role(self.order.role)
        limit = self.options.max_message_bytes
        self._channel = await Channel.open(self._sock, self._on_frames, self._on_channel_closed, limit)
        self.messenger.attach(self._channel, Address(role, self.order.slot), limit)
        self.messenger.on("egg-ready", self._on_ready)

    def _load(self) -> Hooks:
        """Import what the options name. A signal still ends the process here: an import cannot be awaited."""
        for module in self.options.require:
            importlib.import_module(module)
        hooks = self.load()
        hooks.slot, hooks.generation, hooks.worker_id = self.order.slot, self.order.generation, os.getpid()
        hooks.cluster_port = self.order.cluster_port
        loop = asyncio.get_running_loop()
        for number in _CLOSE_SIGNALS:
            loop.add_signal_handler(number, self._closing.set)
        return hooks

    async def _boot_or_close(self) -> bool:
        """Boot, but not longer than until a signal says close; False then."""
        booting = asyncio.ensure_future(self.boot())
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait({booting, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if booting.done():
            booting.result()
            return True
        booting.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await booting
        return False

    async def _report_failure(self, error: Exception) -> int:
        """The master prints the report: one for the whole cluster, not one for each worker."""
        details = {"report": describe_failure(error), "bad_option": isinstance(error, OptionsError)}
        self._report("boot-failed", details)
        await self._leave()
        return ExitCode.FAILED

    # -- close -----------------------------------------------------------------------------------------

    async def _close(self) -> None:
        try:
            await self.close()
        except Exception:
            _logger.exception("closing failed")

    async def _leave(self) -> None:
        """Let what was sent reach the master before the process ends."""
        with contextlib.suppress(MessengerClosed):
            await self.messenger.drain()

    # -- the channel -----------------------------------------------------------------------------------

    def _report(self, action: str, details: dict[str, Any]) -> None:
        assert self._channel is not None
        source = Address(Role(self.order.role), self.order.slot).pack()
        with contextlib.suppress(MessengerClosed):
            self._channel.write(encode_frame(Kind.REPORT, Target.MASTER, [action, details], source=source))

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.messenger.receive(frame)

    def _on_channel_closed(self, failure: FrameError | None) -> None:
        """The master has vanished, or has cut us off: the lifeline or its SIGKILL ends this process, not we."""
        if failure is not None:
            _logger.error("the master's channel broke: %s", failure)
        self.messenger.detach()

    async def _on_ready(self, _: Any) -> None:
        if self._hooks is not None:
            await self._hooks.run_ready()
