"""The application: what serves HTTP in every app worker. Runs in the app workers."""

from collections.abc import Callable
from typing import Any, TypeVar

from eggcluster.model.role import Role
from eggcluster.worker.hooks import Hooks, call

_F = TypeVar("_F", bound=Callable[[Any], Any])


class Application(Hooks):
    """An ASGI or WSGI callable, and what the application hangs on its worker. A bare callable is wrapped by itself.

    Calling the object calls the callable, so that test clients and other servers take it as the application.
    """

    role = Role.APP

    def __init__(self, app: Callable[..., Any]) -> None:
        if not callable(app):
            raise TypeError(f"an application is an ASGI or WSGI callable, not {app!r}")
        super().__init__()
        self.app = app
        self._server_hooks: list[Callable[[Any], Any]] = []

    def __call__(self, *args: Any) -> Any:
        return self.app(*args)

    def on_server(self, hook: _F) -> _F:
        """Call `hook` with the HTTP engine's server object before the first request is accepted."""
        self._server_hooks.append(hook)
        return hook

    async def run_server_hooks(self, server: Any) -> None:
        """Run them in order; the first exception fails the start."""
        for hook in self._server_hooks:
            await call(hook, server)
