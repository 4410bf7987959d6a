"""The messages of one WebSocket that wait for its application, and how it is told of the end. In app workers."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

LIMIT = 64 * 1024  # bytes that wait before the client has to
OVERHEAD = 256  # bytes of the objects around a message: many empty messages must not cost more than a few large ones

Event = dict[str, Any]


class MessageQueue:
    """ASGI events in their order: `websocket.connect`, messages, and `websocket.disconnect` as the last.

    `on_room` is called when the application has taken so many messages that the client may go on after it had to wait.
    """

    __slots__ = ("_end", "_events", "_held_back", "_loop", "_on_room", "_receivers", "_size")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_room: Callable[[], None]) -> None:
        self._loop = loop
        self._on_room = on_room
        self._events: deque[tuple[Event, int]] = deque([({"type": "websocket.connect"}, 0)])
        self._size = 0
        self._held_back = False  # it has been full, and `on_room` has not been called since
        self._end: Event | None = None
        self._receivers: list[asyncio.Future[None]] = []

    @property
    def is_full(self) -> bool:
        """Whether the client has to wait. After the end, messages are dropped, so there is always room."""
        return self._size > LIMIT and self._end is None

    @property
    def is_empty(self) -> bool:
        """Whether the application has taken all messages."""
        return not self._size

    @property
    def has_ended(self) -> bool:
        """Whether the last event is known."""
        return self._end is not None

    def put(self, event: Event, size: int) -> None:
        """Append a message of `size` bytes; drop it if the end is known."""
        if self._end is None:
            size += OVERHEAD
            self._size += size
            self._held_back = self._held_back or self._size > LIMIT
            self._events.append((event, size))
            self._wake()

    def end(self, code: int, reason: str = "") -> None:
        """Set the last event, once: the first end counts. The messages before it can still be received."""
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()

    def _wake(self) -> None:
        for receiver in self._receivers:
            if not receiver.done():
                receiver.set_result(None)
        self._receivers.clear()

    async def receive(self) -> Event:
        """Return the next event; wait for one. After the last event, return that again. ASGI's `receive`."""
        while not self._events:
            if self._end is not None:
                await asyncio.sleep(0)  # a loop that ignores the end must not stop the event loop
                return self._end
            receiver = self._loop.create_future()
            self._receivers.append(receiver)
            await receiver
        event, size = self._events.popleft()
        self._size -= size
        if self._held_back and self._size <= LIMIT // 2:
            self._held_back = False
            self._on_room()
        return event
