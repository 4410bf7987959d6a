"""A direct connection between an app worker and the agent, past the master. Runs in both, each in its event loop.

It carries requests, answers and messages.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Hashable
from typing import Any, Protocol

from eggcluster.errors import FrameError, LeaderGone, MessengerClosed, MessengerError, RequestTimeout
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import (
    HEADER_SIZE,
    MAX_MESSAGE_BYTES,
    Frame,
    RequestKey,
    decode_message,
    encode_frame,
    read_limit,
    request_key_of,
)
from eggcluster.ipc.handlers import Handlers
from eggcluster.ipc.incoming_requests import IncomingRequests
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES, Outbox
from eggcluster.ipc.pending_requests import PendingRequests
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.packing import PackingError, ValidationError

SLOW_BYTES = 1024 * 1024  # waiting bytes that make the other side a slow reader; as in the master's flow control
_READ_BYTES = 64 * 1024  # read at once from a closed connection

_logger = logging.getLogger("eggcluster.cluster_client")


class ConnectionOwner(Protocol):
    """The owner of one end. A FrameError or PackingError from its methods means that the other side has broken the
    protocol: the connection is closed."""

    def on_message(self, connection: "DirectConnection", action: str, data: Any) -> None:
        """Act on a message."""

    def on_request(self, connection: "DirectConnection", key: RequestKey, action: str, data: Any) -> bool:
        """Act on a request; return False if one of the connection's handlers is to answer it.

        ValidationError means that only this request is wrong: it is answered with a failure.
        """

    def on_closed(self, connection: "DirectConnection") -> None:
        """Act on the end of the connection. Called once."""


class DirectConnection:
    """One end of a connection. Its methods may only be called in the event loop in which it was opened."""

    def __init__(self, owner: ConnectionOwner, handlers: Handlers, source: int, max_bytes: int) -> None:
        self._owner = owner
        self._source = source
        self._max_bytes = max_bytes
        self._incoming = IncomingRequests(handlers.take, self.reply)
        self._pending = PendingRequests()
        self._latest: dict[Hashable, bytes] = {}  # by key: frames that wait until a slow reader reads again
        self._spare_socket: socket.socket | None = None  # a duplicate, to read what is left when the channel has ended
        self.gone = asyncio.Event()
        self.agent = 0  # the generation of the agent at the other end, once it has said so
        self.channel: Channel
        self._outbox: Outbox

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        owner: ConnectionOwner,
        handlers: Handlers,
        source: int = 0,
        max_bytes: int = MAX_MESSAGE_BYTES,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
    ) -> "DirectConnection":
        """Return a connection over a connected stream socket, which it owns from now on.

        `source` is this side's packed address.
        """
        connection = cls(owner, handlers, source, max_bytes)
        await connection._connect(sock, max_queue_bytes)
        return connection

    async def _connect(self, sock: socket.socket, max_queue_bytes: int) -> None:
        self._spare_socket = sock.dup()
        self._spare_socket.setblocking(False)
        self.channel = Channel(
            self._on_frames, self._on_closed, read_limit(self._max_bytes), on_relieved=self._on_relieved, runs=True
        )
        self._outbox = Outbox(self.channel, max_queue_bytes)
        await self.channel.connect(sock)

    # -- sending ---------------------------------------------------------------------------------------

    def send(self, action: str, data: Any) -> None:
        """Send a message. Raises NotSerializable, MessageTooLarge, and what `write` raises."""
        self.write(encode_frame(FrameKind.MESSAGE, Target.AGENT, (action, data), 0, self._source, 0, self._max_bytes))

    def write(self, frame: bytes) -> None:
        """Send a frame. Raises MessengerBusy if too much waits, MessengerClosed if the connection is closed."""
        self._outbox.write(frame)

    def send_latest(self, key: Hashable, frame: bytes) -> None:
        """Send a frame that makes all earlier ones of its `key` obsolete.

        A slow reader gets only the latest frame of each key, once it reads again. So these frames do not pile up, and
        the sender never waits.
        """
        if self._latest or self._is_slow():
            self._latest.pop(key, None)  # so that the latest frames leave in the order in which they came
            self._latest[key] = frame
        elif not self.channel.closed:
            self.channel.write(frame)

    def flush_latest(self) -> None:
        """Send at once the frames that `send_latest` holds back: the next frame must not overtake them."""
        latest, self._latest = self._latest, {}
        if not self.channel.closed:
            for frame in latest.values():
                self.channel.write(frame)

    async def request(self, action: str, data: Any, timeout: float) -> Any:
        """Send a request, and return its answer. `timeout` is in seconds. Cancelling it cancels the handler.

        Raises RemoteError, RequestTimeout, LeaderGone if the connection closes before the answer, MessengerClosed if it
        is closed already, and what `send` raises.
        """
        pending = self._pending
        request_id, content = pending.next_id(), (action, data)
        frame = encode_frame(FrameKind.REQUEST, Target.AGENT, content, 0, self._source, request_id, self._max_bytes)
        future = pending.begin(request_id, action, timeout)
        try:
            self._outbox.write(frame)
            return await future
        except MessengerClosed:
            if future.done():
                raise LeaderGone(f'the agent went away before it answered "{action}"') from None
            raise
        except (RequestTimeout, asyncio.CancelledError):
            self._cancel_remote(request_id)
            raise
        finally:
            pending.end(request_id, timeout)

    def _cancel_remote(self, request_id: int) -> None:
        with contextlib.suppress(MessengerError):
            self.write(encode_frame(FrameKind.CANCEL, Target.AGENT, None, 0, self._source, request_id))

    def reply(self, key: RequestKey, kind: FrameKind, content: Any, *, limited: bool = True) -> None:
        """Answer a request that came over this connection. An answer that cannot be sent becomes a failure.

        An answer that is not the application's may exceed `max_message_bytes`: `limited` is False.
        """
        try:
            frame = self._encode_reply(key, kind, content, self._max_bytes if limited else MAX_MESSAGE_BYTES)
        except MessengerError as error:
            failure = [type(error).__name__, str(error), ""]
            frame = self._encode_reply(key, FrameKind.FAILURE, failure, MAX_MESSAGE_BYTES)
        with contextlib.suppress(MessengerClosed):  # the other side has gone, and waits no more
            self.channel.write(frame)

    def _encode_reply(self, key: RequestKey, kind: FrameKind, content: Any, limit: int) -> bytes:
        return encode_frame(kind, Target.ADDRESS, content, 0, self._source, key[1], limit)

    @property
    def running(self) -> "set[asyncio.Task[None]]":
        """The async handlers that have not answered yet."""
        return self._incoming.running

    # -- ending ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Return at once; close after all written frames have been sent. May be called again."""
        self._close_spare_socket()
        self.channel.close()

    def fail(self, error: Exception) -> None:
        """Close at once: the other side has broken the protocol."""
        self.channel.fail(FrameError(str(error)))

    # -- receiving: called by the channel --------------------------------------------------------------

    def _on_frames(self, frames: list[Frame]) -> None:
        try:
            for frame in frames:
                self._receive(frame)
        except (FrameError, PackingError) as error:
            self.fail(error)
        if self._is_slow() and any(frame.kind is FrameKind.REQUEST for frame in frames):
            self._pause_requests()

    def _pause_requests(self) -> None:
        """Take no more requests from a side that does not read its answers.

        Only a side without pending requests stops reading. If both sides waited for answers and stopped reading, with
        requests queued in front of the answers, neither would ever read again.
        """
        if not self._pending:
            self.channel.pause_reading()

    def _is_slow(self) -> bool:
        """Return whether more than SLOW_BYTES wait after a flush; if so, `_on_relieved` will be called."""
        if not self.channel.exceeds(SLOW_BYTES):
            return False
        self.channel.flush()
        return self.channel.exceeds(SLOW_BYTES)

    def _on_relieved(self) -> None:
        self.channel.resume_reading()
        if self._latest:
            self.flush_latest()

    def _receive(self, frame: Frame) -> None:
        if frame.kind is FrameKind.REQUEST:
            self._receive_request(frame.request_key, frame.body)
            self.channel.learn(frame, self._take_request)
        elif frame.kind is FrameKind.MESSAGE:
            for body in frame.bodies() if frame.count > 1 else (frame.body,):
                self._owner.on_message(self, *decode_message(body))
        elif frame.kind is FrameKind.REPLY:
            self._pending.resolve(frame)
            self.channel.learn(frame, self._pending.resolve_raw)
        elif frame.kind is FrameKind.FAILURE:
            self._pending.resolve(frame)
        elif frame.kind is FrameKind.CANCEL:
            self._incoming.cancel(frame.request_key)
        else:
            raise FrameError(f"frames of kind {frame.kind.name} do not travel on a direct connection")

    def _receive_request(self, key: RequestKey, body: bytes | memoryview) -> None:
        action, data = decode_message(body)
        try:
            handled = self._owner.on_request(self, key, action, data)
        except ValidationError as error:  # the frame is whole: only this request is wrong, not the connection
            self.reply(key, FrameKind.FAILURE, ["TypeError", f'"{action}" cannot take this: {error}', ""])
            return
        if not handled and self._incoming.handle(key, action, data):
            self.channel.flush_soon()  # after the handler's first step, which may have its answer at once

    def _take_request(self, raw: bytes) -> bool:
        """Take a request's bytes: the short cut of requests. No request needs the long way, so return True."""
        try:
            self._receive_request(request_key_of(raw), raw[HEADER_SIZE:])
        except (FrameError, PackingError) as error:
            self.fail(error)
        if self._is_slow():
            self._pause_requests()
        return True

    def _on_closed(self, failure: FrameError | None) -> None:
        if failure is not None:
            _logger.warning("closed a direct connection: %s", failure)
            self._close_spare_socket()
        self._read_rest()
        self._pending.end_all()
        self._incoming.cancel_all()
        self._latest.clear()
        self.gone.set()
        self._owner.on_closed(self)

    def _read_rest(self) -> None:
        """Read what the other side sent before it died.

        A write that fails closes the channel before all has been read. The kernel still has the rest, which may hold an
        acknowledged write to `shared`.
        """
        rest = self._spare_socket
        if rest is None:
            return
        with contextlib.suppress(OSError, FrameError, PackingError):
            while chunk := rest.recv(_READ_BYTES):
                for frame in self.channel.reader.feed(chunk):
                    self._receive(frame)
        self._close_spare_socket()

    def _close_spare_socket(self) -> None:
        if self._spare_socket is not None:
            self._spare_socket.close()
            self._spare_socket = None
