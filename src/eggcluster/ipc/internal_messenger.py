"""The messenger of the package's own code, beside the application's. Runs in agent and app workers.

It uses the same channel in the same order, with actions that the application can neither send nor handle
(`INTERNAL_ACTIONS`).
"""

from collections.abc import Coroutine
from typing import Any, Protocol

from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.model.messages.message import INTERNAL_ACTIONS, FrameKind, Receiver, Target, parse_receiver

NO_TIMEOUT = 1e8  # seconds, three years: an internal request ends with its answer or its receiver


class _Write(Protocol):
    def __call__(self, kind: FrameKind, target: Target, content: Any, target_id: int) -> None: ...


class _Request(Protocol):
    def __call__(
        self, action: str, data: Any, target: Target, target_id: int, timeout: float
    ) -> Coroutine[Any, Any, Any]: ...


class InternalMessenger:
    """Part of a messenger. `write` and `request` are the messenger's methods that do not check the action."""

    def __init__(self, handlers: Handlers, write: _Write, request: _Request) -> None:
        self._handlers = handlers
        self._write = write
        self._request = request

    def on(self, action: str, handler: Handler) -> None:
        """Call `handler`, like `Messenger.on`."""
        assert action in INTERNAL_ACTIONS, action
        self._handlers.add(action, handler)

    def send(self, action: str, data: Any, to: Receiver) -> None:
        """Send, like `Messenger.send`."""
        assert action in INTERNAL_ACTIONS, action
        target, target_id = parse_receiver(to)
        self._write(FrameKind.MESSAGE, target, [action, data], target_id)

    async def request(self, action: str, data: Any, to: Receiver, timeout: float = NO_TIMEOUT) -> Any:
        """Send a request to one receiver, like `Messenger.request`; by default without a timeout. `timeout` is in
        seconds."""
        assert action in INTERNAL_ACTIONS, action
        return await self._request(action, data, *parse_receiver(to), timeout)
