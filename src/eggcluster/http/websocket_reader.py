"""The receiving half of a WebSocket: bytes become messages for the application. Runs in the app workers."""

from typing import TYPE_CHECKING, Any, Protocol

from eggcluster.http.server import HttpServer
from eggcluster.http.websocket_frames import ABNORMAL, BINARY, CLOSE, INVALID_DATA, PONG, FragmentJoiner
from eggcluster.http.websocket_queue import MessageQueue

if TYPE_CHECKING:
    import asyncio

    from websockets.server import ServerProtocol  # see websocket_handshake.py

AHEAD = 64 * 1024  # bytes that are read and not parsed: the queue is full, or the application has not accepted yet
SLICE = 16 * 1024  # bytes that are parsed at once: a thousand times as much may come out of the decompression
FRAMES = 1000  # that are taken before others have their turn: 7 ms; frames of one byte come by the million


class Events(Protocol):
    """What the reader tells its connection."""

    server: HttpServer
    transport: "asyncio.Transport"

    def reply(self, frames: list[bytes], *, closes: bool) -> None:
        """Send what the protocol answers by itself: pongs, or a close frame if it `closes`."""

    def pong_received(self, payload: bytes) -> None:
        """A pong has come."""

    def close_received(self, code: int, reason: str) -> None:
        """The client's close frame has come. Ours has been sent."""

    def fail(self, code: int, reason: str) -> None:
        """End the connection because of what the client has sent; the close frame with `code` has been sent."""

    def abort(self) -> None:
        """Close at once."""


class WebSocketReader:
    """Parses what comes as long as the application takes it; otherwise lets it wait, at last in the client."""

    __slots__ = (
        "_events", "_fragments", "_has_paused", "_is_due", "_is_paused", "_sees_end", "_unparsed", "protocol", "queue",
    )  # fmt: skip

    def __init__(self, events: Events) -> None:
        self._events = events
        self.queue = MessageQueue(events.server.loop, self.parse_rest)
        self.protocol: ServerProtocol | None = None  # None: nothing is parsed yet
        self._is_paused = False  # nothing is read from the transport
        self._has_paused = False  # since `has_paused` was called
        self._unparsed = bytearray()
        self._is_due = False  # the loop's next turn goes on parsing
        self._fragments = FragmentJoiner()
        self._sees_end = False

    @property
    def has_unparsed(self) -> bool:
        """Whether something has come that is not parsed."""
        return bool(self._unparsed)

    @property
    def is_behind(self) -> bool:
        """Whether something has come that is not parsed, or that the application has not received."""
        return bool(self._unparsed) or not self.queue.is_empty

    def has_paused(self) -> bool:
        """Return whether the client had to wait at any time since the last call, or has to now."""
        has_paused, self._has_paused = self._has_paused, self._is_paused
        return has_paused

    def receive(self, data: bytes) -> None:
        """Take what has come."""
        if self.protocol is None or self._unparsed or len(data) > SLICE or self.queue.is_full:
            self._unparsed += data
            self.parse_rest()
        else:
            self._parse(self.protocol, data)

    def receive_end(self) -> None:
        """Take the end of the stream; the application is told after the messages that have come before."""
        self._sees_end = True
        if self.protocol is None:
            self._unparsed.clear()
        if not self._unparsed:
            self.queue.end(ABNORMAL)

    def drop(self) -> None:
        """Forget what is not parsed, and read on."""
        self._unparsed.clear()
        self._choose_reading()

    def parse_rest(self) -> None:
        """Parse what has come, until the queue is full, or others must have their turn; choose whether to read more."""
        unparsed, frames = self._unparsed, 0
        while unparsed and self.protocol is not None and not self.queue.is_full and frames < FRAMES:
            piece = bytes(unparsed[:SLICE])
            del unparsed[:SLICE]
            frames += self._parse(self.protocol, piece)
        if unparsed and frames >= FRAMES and not self._is_due:
            self._is_due = True
            self._events.server.loop.call_soon(self._go_on)
        if self._sees_end:
            self.receive_end()
        self._choose_reading()

    def _go_on(self) -> None:
        self._is_due = False
        self.parse_rest()

    def _choose_reading(self) -> None:
        paused, transport = len(self._unparsed) > AHEAD, self._events.transport
        if paused is self._is_paused or transport.is_closing():
            return
        self._is_paused = paused
        if paused:
            self._has_paused = True
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _parse(self, protocol: "ServerProtocol", data: bytes) -> int:
        """Take what a piece completes; return the number of frames."""
        frames: list[Any] = []
        events, was_closing = self._events, protocol.close_sent is not None
        try:
            protocol.receive_data(data)
            if replies := protocol.data_to_send():
                events.reply(replies, closes=protocol.close_sent is not None and not was_closing)
            frames = protocol.events_received()
            for frame in frames:
                self._take(protocol, frame)
            if protocol.parser_exc is not None and protocol.close_sent is not None:
                events.fail(protocol.close_sent.code, protocol.close_sent.reason)
        except Exception as error:  # what one connection raises stays with it
            events.server.log_defect("reading from a WebSocket failed", error)
            events.abort()
        return len(frames)

    def _take(self, protocol: "ServerProtocol", frame: Any) -> None:
        opcode = frame.opcode
        if opcode <= BINARY:
            if self._fragments.has_begun or not frame.fin:
                self._fragments.add(opcode, frame.data)
                if frame.fin:
                    self._deliver(protocol, *self._fragments.take())
            else:
                self._deliver(protocol, opcode, frame.data)
        elif opcode == PONG:
            self._events.pong_received(frame.data)
        elif opcode == CLOSE and protocol.close_rcvd is not None:
            self._events.close_received(protocol.close_rcvd.code, protocol.close_rcvd.reason)

    def _deliver(self, protocol: "ServerProtocol", opcode: int, data: bytes) -> None:
        queue = self.queue
        if queue.has_ended:
            return
        if opcode == BINARY:
            queue.put({"type": "websocket.receive", "bytes": bytes(data)}, len(data))
            return
        try:
            queue.put({"type": "websocket.receive", "text": str(data, "utf-8")}, len(data))
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at position {error.start}"
            protocol.fail(INVALID_DATA, reason)
            self._events.reply(protocol.data_to_send(), closes=True)
            self._events.fail(INVALID_DATA, reason)
