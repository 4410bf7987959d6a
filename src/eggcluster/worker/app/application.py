"""`Application`: the object that serves HTTP in every app worker. Runs in the app workers."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from eggcluster.model.messages.role import Role
from eggcluster.model.schedule.schedule_run import ScheduleRun
from eggcluster.packing import convert
from eggcluster.worker.app.interface import detect_interface
from eggcluster.worker.context.current import current_context
from eggcluster.worker.context.hooks import Hooks
from eggcluster.worker.context.registrations import AppRegistrations
from eggcluster.worker.schedule.run_receiver import require_ok, run_locally
from eggcluster.worker.schedule.schedules import Schedules

_F = TypeVar("_F", bound=Callable[[Any], Any])

_preloading = threading.Lock()


class Application(Hooks):
    """An ASGI or WSGI callable, and what the application registers in its worker. A bare callable is wrapped.

    The object is itself an ASGI 3 application, or a WSGI application if `app` is one, for every other server and for
    test clients. Those call `app` and nothing else: hooks, background tasks and the schedule run in a cluster only. (A
    unit test with the fixture `sent_messages` of `eggcluster.testing` runs `on_start` and `on_close`, too.)
    Outside of a cluster, sending raises MessengerClosed; with `standalone=True` it does nothing there. A request raises
    in both cases, because there is no answer. `schedule` decorates functions that run at given times in one app worker,
    or with `type="all"` in each.
    """

    role = Role.APP

    def __init__(self, app: Callable[..., Any], *, standalone: bool = False) -> None:
        if not callable(app):
            raise TypeError(f"an application is an ASGI or WSGI callable, not {app!r}")
        super().__init__(standalone=standalone)
        self.app = app
        if detect_interface(app) == "asgi":
            # Other servers and test clients recognise ASGI 3 by iscoroutinefunction(app.__call__), of this object.
            # The class cannot have an async `__call__`: a WSGI application has to return its body at once.
            self.__dict__["__call__"] = self._call_asgi

    def _declare(self) -> AppRegistrations:
        return AppRegistrations(self.logger, Schedules("worker"))

    @property
    def registrations(self) -> AppRegistrations:
        return cast(AppRegistrations, super().registrations)

    @property
    def schedule(self) -> Schedules:
        """The decorator for scheduled functions, with their tasks by name."""
        return self.registrations.schedule

    def __call__(self, *args: Any) -> Any:
        """Call the application: `(scope, receive, send)` of ASGI 3, or `(environ, start_response)` of WSGI."""
        run_lifespan = current_context().run_lifespan  # set in a unit test
        if run_lifespan is not None and len(args) == 3 and args[0]["type"] == "lifespan":
            return run_lifespan(self, *args)
        return self.app(*args)

    async def _call_asgi(self, scope: Any, receive: Any, send: Any) -> None:
        await self(scope, receive, send)

    def on_preload(self, hook: _F) -> _F:
        """Call `hook` once after the import of the application: with `--preload` in the template, before it forks the
        workers, else in each worker process. So what it loads is shared by all workers. No event loop runs; an async
        hook gets one for its own time. An exception fails the start."""
        self.registrations.preload_hooks.append(hook)
        return hook

    def on_server(self, hook: _F) -> _F:
        """Call `hook`, in the event loop, with the HTTP engine's server object before the first request is accepted."""
        self.registrations.server_hooks.append(hook)
        return hook

    async def run_server_hooks(self, server: Any) -> None:
        """Run the server hooks in order; the first exception fails the start."""
        for hook in self.registrations.server_hooks:
            result = hook(server)  # in the event loop, plain ones, too: that is where the server belongs to
            if isinstance(result, Awaitable):
                await result

    async def run_schedule(self, name: str, *args: Any) -> ScheduleRun:
        """Run a task of this cluster now, as a tick would: where its type says, if its `overlap` allows it. `args` go
        to its function; MessagePack has to carry them. Outside of a cluster, run it in this process.

        Return the run when it has ended. Raise RunFailed if it did not succeed or there is no such task, ReceiverDied
        if the agent died after it had begun with the request (else its successor does it). In a cluster, cancelling
        ends only the wait.
        """
        if not self.worker_id:
            return require_ok(name, await run_locally(name, args, self.schedule, self.registrations.runner))
        answer = await self.messenger.internal.request("egg-schedule-now", [name, args], "agent")
        return require_ok(name, None if answer is None else convert(answer, ScheduleRun))

    def claim(self, key: str | bytes) -> None:
        """Say that requests with this key belong to this worker from now on, whoever had it before: for keys that stand
        in a response's body, where no `--sticky-by` finds them. The next request finds it, at whichever worker.

        Text stands for its UTF-8 bytes. Returns at once; may be called from any thread. Outside of a cluster, and
        without `--sticky-by` a key, it does nothing: nothing there asks where a key belongs.
        """
        if (keys := self.registrations.own_keys) is not None:
            keys.learn(key.encode() if isinstance(key, str) else key)

    def release(self, key: str | bytes) -> None:
        """Take back what `claim` has said, or what was learned from a response. As `claim`; a key that belongs to
        another worker stays there."""
        if (keys := self.registrations.own_keys) is not None:
            keys.forget(key.encode() if isinstance(key, str) else key)

    # -- called by the worker --------------------------------------------------------------------------

    def run_preload(self) -> None:
        """Run the preload hooks that have not run yet: workers that are threads share the import."""
        hooks = cast(AppRegistrations, self._declared).preload_hooks
        with _preloading:
            while hooks:
                result = hooks[0]()
                if isinstance(result, Awaitable):
                    asyncio.run(_result_of(result))
                hooks.pop(0)

    def open_schedule(self, loaded_at: float) -> None:
        """Answer the agent from now on. `loaded_at` is when the code was loaded, by the monotonic clock."""
        self.registrations.open_schedule(self.messenger.internal, loaded_at)

    async def report_tasks(self) -> None:
        """Tell the agent which tasks this worker has; raise BootError if the agent objects."""
        assert self.registrations.run_receiver is not None
        await self.registrations.run_receiver.report()

    async def end_runs(self, grace: float) -> None:
        await self.registrations.runner.close(grace)


async def _result_of(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
