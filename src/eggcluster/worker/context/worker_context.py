"""A worker as its own code finds it: its messenger, what it shares, its registrations. Runs in all workers.

Outside of a cluster there is one context for the whole process.
"""

import asyncio
import importlib
import os
import threading
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from eggcluster.ipc.messenger import Messenger
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.logs import configure_logs
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.declarations import Declaration, DeclaringHandlers, Repeat, SharingUse, calling_module
from eggcluster.worker.context.preloaded import Preloaded

if TYPE_CHECKING:
    from eggcluster.options import ResolvedOptions
    from eggcluster.worker.context.registrations import Registrations
    from eggcluster.worker.sharing.sharing import Sharing


MASTER_TIMEOUT = 5.0  # seconds for an answer of the master's to the package's own code
Own = TypeVar("Own", bound="Registrations")
declared_outside: dict[tuple[str, Repeat], Declaration] = {}
"""What modules have declared that were imported before this process had a worker: once for each module."""


class WorkerContext:
    """What belongs to one worker. `role` is None outside of a cluster; `worker_id` is the
    pid, or in thread and interpreter mode the native id of the thread."""

    def __init__(self, role: Role | None = None) -> None:
        self.role = role
        self.worker_id = os.getpid()
        self._handlers = DeclaringHandlers(self)
        self.messenger = Messenger(role or Role.APP, self._handlers)
        self.run_lifespan: Callable[..., Awaitable[None]] | None = None  # else the application itself runs it
        self.secret = b""  # the cluster's; empty outside of a cluster
        self._spec_and_loop: tuple[WorkerSpec, asyncio.AbstractEventLoop] | None = None
        self._sharing: Sharing | None = None
        self._making = threading.Lock()
        self._dead_agent = 0
        self.is_template = False  # the process imports the application for workers that are forked from it
        self.preloaded: Preloaded | None = None
        self._shared_in_template: list[SharingUse] = []

    def take_role(self, role: Role) -> None:
        """Set the role of this worker."""
        self.role = role
        self.messenger.set_role(role)

    def start_as(self, spec: WorkerSpec, loop: asyncio.AbstractEventLoop) -> None:
        """Set what this worker is to be, and its event loop. Share what the template of this worker has declared."""
        self._spec_and_loop = spec, loop
        self.secret = spec.secret
        self._dead_agent = spec.dead_agent
        if self._shared_in_template:
            self._sharing = None  # the template's leads nowhere
            for repeat in self._shared_in_template:
                repeat(self)

    def messenger_for_role(self, role: Role) -> Messenger:
        """Return this worker's messenger, or one that is never attached if the worker has another role."""
        if self.role is None:
            return self.messenger.with_handlers(DeclaringHandlers(self, role, self._handlers))
        return self.messenger if self.role is role else Messenger(role)

    def import_module(self, name: str) -> ModuleType:
        """Import a module of the application."""
        return importlib.import_module(name)

    def configure_logs(
        self, options: "ResolvedOptions", speaker: str, level: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Send this worker's log lines where the options say; raise OptionsError if that is impossible."""
        configure_logs(options, speaker, level).run_in(loop)

    def declare(self, repeat: Repeat) -> None:
        """Record what a module does while it is imported: `repeat` does the same for every other worker that imports
        it."""
        if self.role is None:
            module = calling_module()
            declared_outside.setdefault((module, repeat), Declaration(None, module, repeat))

    def declare_sharing(self, repeat: SharingUse) -> None:
        """Record what a module shares. A template only declares it, and each worker that is forked from it repeats
        that."""
        if self.is_template:
            self._shared_in_template.append(repeat)
        else:
            self.declare(repeat)

    def own(self, owner: object, declared: Own) -> Own:
        """Return the registrations that `owner`, an object that several workers may share, has in this worker."""
        return declared

    # -- sharing -----------------------------------------------------------------------------------------

    @property
    def sharing_in_use(self) -> "Sharing | None":
        """The shared clients and the shared state; None while the application has not asked for any."""
        return self._sharing

    @property
    def sharing(self) -> "Sharing":
        """The same, imported and made at the first use, so that a worker that shares nothing does not pay for it."""
        if self._sharing is None:
            with self._making:  # WSGI threads may be the first to ask, several at once
                self._sharing = self._sharing or self._begin_sharing()
        return self._sharing

    def _begin_sharing(self) -> "Sharing":
        sharing = self._make_sharing()
        sharing.agent_gone(self._dead_agent)
        sharing.on_declare = lambda repeat: self.declare_sharing(SharingUse(repeat))
        return sharing

    def _make_sharing(self) -> "Sharing":
        if self._spec_and_loop is None:
            from eggcluster.worker.sharing.sharing import LocalSharing

            return LocalSharing()
        spec, loop = self._spec_and_loop
        if spec.cluster_fd is not None:
            from eggcluster.worker.sharing.hub import SharingHub

            return SharingHub(spec, loop, self._ask_master)
        from eggcluster.worker.sharing.uplink import Uplink

        return Uplink(spec, loop, self.worker_id, self._ask_master)

    def agent_gone(self, generation: int) -> None:
        """Note that the agent of this generation is dead, as the master reports."""
        self._dead_agent = max(self._dead_agent, generation)
        if self._sharing is not None:
            self._sharing.agent_gone(generation)

    async def _ask_master(self, action: str) -> Any:
        return await self.messenger.internal.request(action, None, "master", MASTER_TIMEOUT)
