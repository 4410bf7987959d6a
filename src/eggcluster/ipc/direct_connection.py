"""A line: requests, answers and messages between an app worker and the agent, past the master. Runs at both ends."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Hashable
from typing import Any, Protocol

from eggcluster.errors import FrameError, LeaderGone, MessengerClosed, MessengerError, RequestTimeout
from eggcluster.ipc.channel import Channel, Route
from eggcluster.ipc.frame import (
    HEADER_SIZE,
    MAX_MESSAGE_BYTES,
    ROUTE,
    Frame,
    decode_message,
    encode_frame,
    read_limit,
    request_key_of,
)
from eggcluster.ipc.handlers import Handlers
from eggcluster.ipc.incoming_requests import IncomingRequests, RequestKey
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES, Outbox
from eggcluster.ipc.pending_requests import PendingRequests
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.packing import PackingError, ValidationError

SLOW_BYTES = 1024 * 1024  # what may wait for the other side before it counts as slow; as the master's flow control

_logger = logging.getLogger("eggcluster.cluster_client")


class ConnectionHandler(Protocol):
    """Who sits at one end of a line. FrameError and PackingError mean that the other side talks nonsense: the
    line is cut then."""

    def on_message(self, line: "DirectConnection", action: str, data: Any) -> None:
        """A message came."""

    def on_request(self, line: "DirectConnection", question: RequestKey, action: str, data: Any) -> bool:
        """A request came; False where one of the line's handlers is to answer it. ValidationError means that
        this request alone is wrong: it is answered with a failure."""

    def on_closed(self, line: "DirectConnection") -> None:
        """The line is closed; called once."""


class DirectConnection:
    """One connection. It belongs to the event loop in which it was opened; `tell` and `ask` are for that loop."""

    def __init__(self, party: ConnectionHandler, handlers: Handlers, source: int, max_bytes: int) -> None:
        self._party = party
        self._source = source
        self._max_bytes = max_bytes
        self._answers = IncomingRequests(handlers, self.reply)
        self._questions = PendingRequests()
        self._late: dict[Hashable, bytes] = {}  # the latest of each kind that a slow reader was not sent yet
        self._last_words: socket.socket | None = None
        self.gone = asyncio.Event()
        self.channel: Channel
        self._outbox: Outbox

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        party: ConnectionHandler,
        handlers: Handlers,
        source: int = 0,
        max_bytes: int = MAX_MESSAGE_BYTES,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
    ) -> "DirectConnection":
        """A line over a connected stream socket, which it owns from now on. `source` is this side's packed address."""
        line = cls(party, handlers, source, max_bytes)
        line._last_words = sock.dup()
        line._last_words.setblocking(False)
        line.channel = Channel(
            line._on_frames, line._on_closed, read_limit(max_bytes), on_relieved=line._on_relieved, runs=True
        )
        line._outbox = Outbox(line.channel, max_queue_bytes)
        await line.channel.connect(sock)
        return line

    # -- sending ---------------------------------------------------------------------------------------

    def tell(self, action: str, data: Any) -> None:
        """Send a message; errors as of `write`, NotSerializable and MessageTooLarge."""
        self.write(encode_frame(FrameKind.MESSAGE, Target.AGENT, (action, data), 0, self._source, 0, self._max_bytes))

    def write(self, frame: bytes) -> None:
        """Send a frame; MessengerBusy where too much waits, MessengerClosed where the line is closed."""
        self._outbox.write(frame)

    def post(self, kind: Hashable, frame: bytes) -> None:
        """Send a frame that makes all earlier ones of its `kind` obsolete: to a slow reader only the latest goes, once
        it reads again. So nothing that is posted piles up, and the poster never waits."""
        if self._late or self._is_slow():
            self._late.pop(kind, None)  # the order of the latest ones is kept
            self._late[kind] = frame
        elif not self.channel.closed:
            self.channel.write(frame)

    def post_late(self) -> None:
        """Send at once what was held back: what comes next must not overtake it."""
        late, self._late = self._late, {}
        if not self.channel.closed:
            for frame in late.values():
                self.channel.write(frame)

    async def ask(self, action: str, data: Any, timeout: float) -> Any:
        """Ask the other side; gives its answer. Raises RemoteError, RequestTimeout, LeaderGone where the line closes
        before the answer, MessengerClosed where it is closed already. Cancelling it cancels the handler."""
        questions = self._questions
        request_id, content = questions.next_id(), (action, data)
        frame = encode_frame(FrameKind.REQUEST, Target.AGENT, content, 0, self._source, request_id, self._max_bytes)
        answer = questions.begin(request_id, action, timeout)
        try:
            self._outbox.write(frame)
            return await answer
        except MessengerClosed:
            if answer.done():
                raise LeaderGone(f'the agent went away before it answered "{action}"') from None
            raise
        except (RequestTimeout, asyncio.CancelledError):
            self._cancel(request_id)
            raise
        finally:
            questions.end(request_id, timeout)

    def _cancel(self, request_id: int) -> None:
        with contextlib.suppress(MessengerError):
            self.write(encode_frame(FrameKind.CANCEL, Target.AGENT, None, 0, self._source, request_id))

    def reply(self, question: RequestKey, kind: FrameKind, content: Any, *, limited: bool = True) -> None:
        """Answer a request that came over this line; where the answer cannot travel, say so instead. What is not the
        application's own need not be `limited` by `max_message_bytes`."""
        try:
            answer = self._encode_answer(question, kind, content, self._max_bytes if limited else MAX_MESSAGE_BYTES)
        except MessengerError as error:
            failure = [type(error).__name__, str(error), ""]
            answer = self._encode_answer(question, FrameKind.FAILURE, failure, MAX_MESSAGE_BYTES)
        with contextlib.suppress(MessengerClosed):  # then nobody waits for it any more
            self.channel.write(answer)

    def _encode_answer(self, question: RequestKey, kind: FrameKind, content: Any, limit: int) -> bytes:
        return encode_frame(kind, Target.ADDRESS, content, 0, self._source, question[1], limit)

    @property
    def under_way(self) -> "set[asyncio.Task[None]]":
        """The handlers that are answering just now."""
        return self._answers.under_way

    # -- ending ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close after what was written has been sent; may be called again."""
        self._forget_last_words()
        self.channel.close()

    def cut(self, error: Exception) -> None:
        """The other side has sent nonsense: close at once."""
        self.channel.fail(FrameError(str(error)))

    # -- the channel's side ----------------------------------------------------------------------------

    def _on_frames(self, frames: list[Frame]) -> None:
        try:
            for frame in frames:
                self._receive(frame)
        except (FrameError, PackingError) as error:
            self.cut(error)
        if self._is_slow() and any(frame.kind is FrameKind.REQUEST for frame in frames):
            self._take_no_more()

    def _take_no_more(self) -> None:
        """Who does not read answers may ask no more for now. Only who is asked stops reading: if who waits for answers
        did so too, with its requests in the way, nobody would read, for good."""
        if not self._questions:
            self.channel.pause_reading()

    def _is_slow(self) -> bool:
        """Whether much waits, even after all was offered to the kernel; `_on_relieved` will be called then."""
        if not self.channel.exceeds(SLOW_BYTES):
            return False
        self.channel.flush()
        return self.channel.exceeds(SLOW_BYTES)

    def _on_relieved(self) -> None:
        self.channel.resume_reading()
        if self._late:
            self.post_late()

    def _receive(self, frame: Frame) -> None:
        if frame.kind is FrameKind.REQUEST:
            self._receive_request(frame.request_key, frame.body)
            self._learn(frame, self._take_request)
        elif frame.kind is FrameKind.MESSAGE:
            for body in frame.bodies() if frame.count > 1 else (frame.body,):
                self._party.on_message(self, *decode_message(body))
        elif frame.kind is FrameKind.REPLY:
            self._questions.resolve(frame)
            self._learn(frame, self._questions.resolve_reply)
        elif frame.kind is FrameKind.FAILURE:
            self._questions.resolve(frame)
        elif frame.kind is FrameKind.CANCEL:
            self._answers.cancel(frame.request_key)
        else:
            raise FrameError(f"a frame of kind {frame.kind.name} on a line")

    def _receive_request(self, question: RequestKey, body: bytes | memoryview) -> None:
        action, data = decode_message(body)
        try:
            taken = self._party.on_request(self, question, action, data)
        except ValidationError as error:  # it came whole: only this request is wrong, not the line
            self.reply(question, FrameKind.FAILURE, ["TypeError", f'"{action}" cannot take this: {error}', ""])
            return
        if not taken and self._answers.give(question, action, data):
            self.channel.flush_soon()  # behind the handler, which may have its answer at once

    def _learn(self, frame: Frame, way: Route) -> None:
        """The channel's short cut for the next ones like this."""
        self.channel.ways[bytes(frame.raw[ROUTE])] = way

    def _take_request(self, raw: bytes) -> bool:
        try:
            self._receive_request(request_key_of(raw), raw[HEADER_SIZE:])
        except (FrameError, PackingError) as error:
            self.cut(error)
        if self._is_slow():
            self._take_no_more()
        return True

    def _on_closed(self, failure: FrameError | None) -> None:
        if failure is not None:
            _logger.warning("a line was cut: %s", failure)
            self._forget_last_words()
        self._read_last_words()
        self._questions.end_all()
        self._answers.cancel_all()
        self._late.clear()
        self.gone.set()
        self._party.on_closed(self)

    def _read_last_words(self) -> None:
        """What the other side sent before it died. A write that fails closes the channel before all has been read,
        but the kernel still has the rest: an acknowledged write to `shared` may be in it."""
        rest = self._last_words
        if rest is None:
            return
        with contextlib.suppress(OSError, FrameError, PackingError):
            while chunk := rest.recv(64 * 1024):
                for frame in self.channel.reader.feed(chunk):
                    self._receive(frame)
        self._forget_last_words()

    def _forget_last_words(self) -> None:
        if self._last_words is not None:
            self._last_words.close()
            self._last_words = None
