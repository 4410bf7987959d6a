"""The context of a unit test: a messenger that records, and hooks around the lifespan. Runs in the user's tests."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from eggcluster.ipc.messenger import Messenger
from eggcluster.model.messages.role import Role
from eggcluster.testing.recording_messenger import RecordingMessenger, SentMessages
from eggcluster.wording import described
from eggcluster.worker.app.app_lifecycle import CLOSING_STATE
from eggcluster.worker.app.application import Application
from eggcluster.worker.app.lifespan import Lifespan
from eggcluster.worker.context.registrations import Registrations
from eggcluster.worker.context.worker_context import Own, WorkerContext

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
FAILED_CLOSE = "on_close or the lifespan's shutdown failed: the log says why"


class UnitTestContext(WorkerContext):
    """The context of one unit test. `sent` is what its code has sent.

    Each lifespan of an `Application` begins with what its module registered: `local`, `closing`, and what the hooks of
    an earlier lifespan registered are not carried over. They can be read until the next lifespan begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = SentMessages()
        self.messenger = RecordingMessenger(self._handlers, self.sent)
        self.run_lifespan = self._run_lifespan
        self._begun: dict[object, Registrations] = {}

    def messenger_for_role(self, role: Role) -> Messenger:
        messenger = super().messenger_for_role(role)
        messenger.set_role(role)  # it is a copy: `agent.messenger.send` goes to the app workers
        return messenger

    def own(self, owner: object, declared: Own) -> Own:
        return cast(Own, self._begun.get(owner, declared))

    async def _run_lifespan(self, app: Application, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Take the place of the application in the lifespan protocol: run the hooks around its own lifespan, in a
        worker's order. Background tasks are not started."""
        self._begin(app)
        state = scope.setdefault("state", {})
        state[CLOSING_STATE] = app.closing
        lifespan = Lifespan(app.app, state)
        await receive()
        await _start(app, lifespan, send)
        await receive()
        await _close(app, lifespan, send)

    def _begin(self, app: Application) -> None:
        self._begun.pop(app, None)
        self._begun[app] = app.registrations.copy()


async def _start(app: Application, lifespan: Lifespan, send: Send) -> None:
    try:
        await app.run_start_hooks()
        await lifespan.startup()
    except BaseException as error:
        await send({"type": "lifespan.startup.failed", "message": described(error)})
        raise
    await send({"type": "lifespan.startup.complete"})


async def _close(app: Application, lifespan: Lifespan, send: Send) -> None:
    is_shut_down = await lifespan.shutdown()
    if await app.run_close() and is_shut_down:
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "lifespan.shutdown.failed", "message": FAILED_CLOSE})


@contextlib.asynccontextmanager
async def run_lifespan(app: Callable[..., Any]) -> AsyncIterator[dict[str, Any]]:
    """Run the lifespan of an ASGI application around an `async with` block, as a server does; yield its state.

    For clients that run no lifespan, such as httpx's `ASGITransport`. Raise what the startup raises; a shutdown that
    fails is a RuntimeError, and the log says why.
    """
    lifespan = Lifespan(app)
    await lifespan.startup()
    try:
        yield lifespan.state
    finally:
        is_shut_down = await lifespan.shutdown()
    if not is_shut_down:
        raise RuntimeError(FAILED_CLOSE)
