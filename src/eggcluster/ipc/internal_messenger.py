"""The line between our own code in agent and app workers, beside the application's messages. Runs in each of them.

It goes over the same channel in the same order, with names that the application can neither send nor listen to
(`INTERNAL_ACTIONS`).
"""

from collections.abc import Coroutine
from typing import Any, Protocol

from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.model.messages.message import INTERNAL_ACTIONS, FrameKind, Receiver, Target, parse_receiver

FOR_EVER = 1e8  # seconds, three years: what is asked here ends with the answer or the receiver


class _Write(Protocol):
    def __call__(self, kind: FrameKind, target: Target, content: Any, target_id: int) -> None: ...


class _Ask(Protocol):
    def __call__(
        self, action: str, data: Any, target: Target, target_id: int, timeout: float
    ) -> Coroutine[Any, Any, Any]: ...


class InternalMessenger:
    """A messenger's; `write` and `ask` are its ways out without the check of the name."""

    def __init__(self, handlers: Handlers, write: _Write, ask: _Ask) -> None:
        self._handlers = handlers
        self._write = write
        self._ask = ask

    def on(self, action: str, handler: Handler) -> None:
        """As the messenger's `on`."""
        assert action in INTERNAL_ACTIONS, action
        self._handlers.add(action, handler)

    def send(self, action: str, data: Any, to: Receiver) -> None:
        """As the messenger's `send`."""
        assert action in INTERNAL_ACTIONS, action
        target, target_id = parse_receiver(to)
        self._write(FrameKind.MESSAGE, target, [action, data], target_id)

    async def request(self, action: str, data: Any, to: Receiver, timeout: float = FOR_EVER) -> Any:
        """As the messenger's `request`, to one receiver; by default without a timeout. From any event loop."""
        assert action in INTERNAL_ACTIONS, action
        return await self._ask(action, data, *parse_receiver(to), timeout)
