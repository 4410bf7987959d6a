"""What an application hangs on a worker's life: start, ready, close, background tasks. Runs in the worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from eggcluster.ipc.cancellation import is_cancellation
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.role import Role
from eggcluster.worker.background import keep_running
from eggcluster.worker.current import messenger_for, sharing

if TYPE_CHECKING:
    from eggcluster.worker.sharing.blueprint import ClusterClient
    from eggcluster.worker.sharing.shared import Shared

_T = TypeVar("_T")
Hook = Callable[[], Any]
_F = TypeVar("_F", bound=Callable[..., Any])


class Hooks:
    """The part that `Agent` and `Application` have in common. Hooks are plain or async functions without arguments.

    `slot`, `worker_id` and `generation` say which incarnation this is; they are 0 outside of a cluster.
    """

    role: Role

    def __init__(self) -> None:
        self.messenger: Messenger = messenger_for(self.role)
        self.logger = logging.getLogger(f"eggcluster.{self.role.value}")
        self.slot = 0
        self.worker_id = 0
        self.generation = 0
        self._start_hooks: list[Hook] = []
        self._ready_hooks: list[Hook] = []
        self._close_hooks: list[Hook] = []
        self._background: list[Callable[[], Awaitable[Any]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def shared(self) -> "Shared":
        """A small dictionary that every worker reads from its own memory, and writes through the agent. Name it where
        the module is imported: the worker then starts with a copy. See docs/shared-state.md."""
        return sharing().shared

    def cluster(self, cls: type[_T], *, name: str | None = None, timeout: float = 5.0) -> "ClusterClient[_T]":
        """A client that all workers share, by its class: `agent.cluster(RegistryClient).create(url=...)` makes the one
        that has the connection, the same line with `app` its followers. `name` tells two of a class apart, `timeout`
        is a follower's for a call, in seconds. See docs/shared-clients.md."""
        return sharing().cluster(cls, name, timeout)

    def on_start(self, hook: _F) -> _F:
        """Await `hook` before the worker reports itself started; what it raises fails the start."""
        self._start_hooks.append(hook)
        return hook

    def on_ready(self, hook: _F) -> _F:
        """Call `hook` once the whole cluster is ready (`egg-ready`); a worker that comes later gets it too."""
        self._ready_hooks.append(hook)
        return hook

    def on_close(self, hook: _F) -> _F:
        """Await `hook` while closing, within the close timeout; the last registered first."""
        self._close_hooks.append(hook)
        return hook

    def background(self, task: _F) -> _F:
        """Run `task`, an async function, from the start on; when it raises it is restarted with growing delays.

        It is cancelled at close. One that returns is done.
        """
        self._background.append(task)
        return task

    # -- called by the worker --------------------------------------------------------------------------

    async def run_start(self) -> None:
        """Run the start hooks in order, then start the background tasks. The first exception ends it."""
        for hook in self._start_hooks:
            await call(hook)
        self._start_background()

    def _start_background(self) -> None:
        for task in self._background:
            self._tasks.append(asyncio.get_running_loop().create_task(keep_running(task, self.logger)))

    async def run_ready(self) -> None:
        """Run the ready hooks; what one raises is logged and stops no other."""
        for hook in self._ready_hooks:
            await self._call_logged(hook, "on_ready")

    async def run_close(self) -> bool:
        """Cancel the background tasks, then run the close hooks, the last registered first; False if one raised."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return all([await self._call_logged(hook, "on_close") for hook in reversed(self._close_hooks)])

    async def _call_logged(self, hook: Hook, kind: str) -> bool:
        try:
            await call(hook)
        except BaseException as error:
            if is_cancellation(error):
                raise
            self.logger.exception("%s: %s raised", kind, getattr(hook, "__qualname__", hook))
            return False
        return True


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a plain or an async function and give what it returns."""
    result = function(*args)
    return await result if isinstance(result, Awaitable) else result
