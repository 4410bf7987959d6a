"""Hooks of an application into a worker's life: start, ready, close, background tasks. Runs in all workers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from eggcluster.ipc.messenger import Messenger
from eggcluster.kernel.awaitable_event import AwaitableEvent
from eggcluster.kernel.tasks import is_cancellation, take_turns
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.current import current_context, messenger_for, shared_dictionary, sharing_for_module
from eggcluster.worker.context.registrations import Hook, Registrations
from eggcluster.worker.function_calls import call_off_loop

if TYPE_CHECKING:
    from eggcluster.worker.sharing.client_spec import ClientSpec, ClusterClient
    from eggcluster.worker.sharing.shared import Shared


READY_LIMIT = 10.0  # seconds that the hooks for `egg-ready` may hold one another up
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


class Hooks:
    """What `Agent` and `Application` have in common. Hooks are functions without arguments: async ones run in the event
    loop, plain ones in a thread of their own, as scheduled and background functions do.

    `slot`, `worker_id` and `generation` say which worker this is; they are 0 outside of a cluster. `env` is the
    cluster's, "" outside. `closing` is set when the worker begins to close: endless streams end then. `drained` is set
    when no request is left, before the background tasks are cancelled. Both are `threading.Event`s that can be awaited,
    too.
    """

    role: Role

    def __init__(self, *, standalone: bool = False) -> None:
        self.messenger: Messenger = messenger_for(self.role)
        current_context().messenger.standalone |= standalone
        self.logger = logging.getLogger(f"eggcluster.{self.role.value}")
        self._declared = self._declare()

    def _declare(self) -> Registrations:
        """Return the registrations that hold before a worker has copied them."""
        raise NotImplementedError

    @property
    def registrations(self) -> Registrations:
        """The registrations of this object in the worker that the running code belongs to."""
        return current_context().own(self, self._declared)

    @property
    def slot(self) -> int:
        return self.registrations.slot

    @property
    def worker_id(self) -> int:
        return self.registrations.worker_id

    @property
    def generation(self) -> int:
        return self.registrations.generation

    @property
    def env(self) -> str:
        return self.registrations.env

    @property
    def closing(self) -> AwaitableEvent:
        return self.registrations.closing

    @property
    def drained(self) -> AwaitableEvent:
        return self.registrations.drained

    @property
    def local(self) -> SimpleNamespace:
        """A namespace of this worker's own. In process mode a module's globals are that, too. Workers that are threads
        share their modules, so what one of them keeps for itself, such as its WebSockets, belongs here."""
        return self.registrations.local

    @property
    def shared(self) -> "Shared":
        """A small dictionary that every worker reads from its own memory, and writes through the agent. Use it at the
        module's top level, so that the worker starts with a copy. See docs/shared-state.md."""
        return shared_dictionary()

    def cluster(self, cls: type[_T], *, name: str | None = None, timeout: float = 5.0) -> "ClusterClient[_T]":
        """Begin a client of class `cls` that all workers share: `agent.cluster(RegistryClient).create(url=...)` makes
        the leader, which has the connection; the same line with `app` makes its followers. `name` tells two clients of
        one class apart; `timeout` is a follower's limit for one call, in seconds. Raise TypeError if `cls` is not a
        class, ValueError for an invalid `timeout`. See docs/shared-clients.md."""
        from eggcluster.worker.sharing.client_spec import ClusterClient

        def create(spec: "ClientSpec") -> Any:
            return sharing_for_module(lambda sharing: sharing.create(spec))

        return ClusterClient(cls, create, name, timeout)

    def on_fork(self, hook: _F) -> _F:
        """Call `hook` in each worker before its `on_start`, in the thread of the event loop: the place for what a fork
        must not share, such as connection pools. It is called whether or not the worker was forked. An exception fails
        the start."""
        self.registrations.fork_hooks.append(hook)
        return hook

    def on_start(self, hook: _F) -> _F:
        """Call `hook` before the worker reports itself started, and wait for it. An exception fails the start."""
        self.registrations.start_hooks.append(hook)
        return hook

    def on_ready(self, hook: _F) -> _F:
        """Call `hook` when the whole cluster is ready (`egg-ready`), also in a worker that starts later."""
        self.registrations.ready_hooks.append(hook)
        return hook

    def on_close(self, hook: _F) -> _F:
        """Call `hook` while the worker closes, within the close timeout. The hook registered last runs first."""
        self.registrations.close_hooks.append(hook)
        return hook

    @overload
    def background(self, function: _F) -> _F: ...
    @overload
    def background(self, *, restart: str = "on-error", name: str | None = None) -> Callable[[_F], _F]: ...
    def background(self, function: Any = None, *, restart: str = "on-error", name: str | None = None) -> Any:
        """Run `function`, async or plain (in a thread of its own), from the start on. Brackets are optional.

        It is restarted when it raises (`restart="on-error"`), also when it returns ("always"), or not at all ("never"),
        after 0.5 s at first and up to 30 s later on. At close it is cancelled and has time to finish, the function
        registered last first, before `on_close`. A plain function has to look at `closing`. Raise DeclarationError for
        another `restart`, for a name that does not fit in a line, for a generator, and after `on_start` is done.
        """
        if function is None:
            return lambda function: self._add_background(function, restart, name)
        return self._add_background(function, restart, name)

    def _add_background(self, function: _F, restart: str, name: str | None) -> _F:
        self.registrations.background.add(function, restart, name)
        return function

    # -- called by the worker --------------------------------------------------------------------------

    async def run_fork(self) -> None:
        """Run the fork hooks in order. The first exception ends it."""
        for hook in self.registrations.fork_hooks:
            result = hook()
            if isinstance(result, Awaitable):
                await result

    async def run_start(self) -> None:
        """Run the start hooks in order, then start the background tasks. The first exception ends it."""
        await self.run_start_hooks()
        self.registrations.background.start()

    async def run_start_hooks(self) -> None:
        """Run the start hooks in order. The first exception ends it."""
        for hook in self.registrations.start_hooks:
            await call_off_loop(hook, waits=False)

    async def run_ready(self) -> None:
        """Run the ready hooks in order. Log what one raises, or that it is slow; the others still run."""
        await self._run_hooks(self.registrations.ready_hooks, "on_ready", READY_LIMIT)

    async def run_close(self, grace: float = 5.0, limit: float = 5.5) -> bool:
        """Stop what runs in the background within `grace` seconds; then run the close hooks, the last registered
        first. Return False if one raised. One that is slow does not end the others' turn: of the `limit` seconds from
        now on, a part is kept for them."""
        now = asyncio.get_running_loop().time
        deadline, end = now() + grace, now() + limit
        self.closing.set()
        self.drained.set()
        await self.end_runs(grace / 2)
        await self.registrations.background.stop(max(0.0, deadline - now()))
        return await self._run_hooks(self.registrations.close_hooks[::-1], "on_close", end - now())

    async def end_runs(self, grace: float) -> None:
        """Begin no more scheduled runs; give those under way `grace` seconds to finish, then cancel them."""

    async def _run_hooks(self, hooks: list[Hook], kind: str, limit: float) -> bool:
        def on_slow(index: int, seconds: float) -> None:
            text = "%s: %s is not done after %.1fs, the next one begins beside it"
            self.logger.warning(text, kind, _name_of(hooks[index]), seconds)

        turns = [partial(self._call_logged, hook, kind) for hook in hooks]
        return all(await take_turns(turns, limit, on_slow))

    async def _call_logged(self, hook: Hook, kind: str) -> bool:
        try:
            await call_off_loop(hook, waits=False)
        except BaseException as error:
            if is_cancellation(error):
                raise
            self.logger.exception("%s: %s raised", kind, _name_of(hook))
            return False
        return True


def _name_of(hook: Hook) -> object:
    return getattr(hook, "__qualname__", hook)
