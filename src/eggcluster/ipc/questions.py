"""Questions: the requests of this process that wait for their answers. In every child."""

import asyncio
import random
from typing import Any

from eggcluster.errors import FrameError, MessengerClosed, ReceiverDied, RemoteError, RequestTimeout
from eggcluster.ipc.deadlines import Deadlines
from eggcluster.ipc.frame import HEADER_SIZE, Frame, answered_by, decode_body
from eggcluster.model.message import Kind


class Questions:
    """Belongs to the event loop in which it was made. Each question is a future that its answer resolves."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last_id = random.getrandbits(32)  # a successor must not take its predecessor's answers for its own
        self._waiting: dict[int, tuple[asyncio.Future[Any], str]] = {}
        self._deadlines = Deadlines(self._expire)

    def next_id(self) -> int:
        """The number of the next question."""
        self._last_id = (self._last_id + 1) & 0xFFFFFFFF
        return self._last_id

    def begin(self, request_id: int, action: str, timeout: float) -> asyncio.Future[Any]:
        """The answer to be; RequestTimeout after `timeout` seconds. `end` it, however it ends."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[request_id] = (answer, action)
        self._deadlines.begin(request_id, timeout)
        return answer

    def end(self, request_id: int, timeout: float) -> None:
        """Nobody waits for the answer any more."""
        del self._waiting[request_id]
        self._deadlines.end(request_id, timeout)

    def end_all(self) -> None:
        """The channel is gone: nobody will answer."""
        self._deadlines.stop()
        for answer, _ in self._waiting.values():
            if not answer.done():
                answer.set_exception(MessengerClosed("the channel to the master was closed"))

    def resolve(self, frame: Frame) -> None:
        """An answer came; one for which nobody waits any more is dropped. FrameError for what cannot be read."""
        answer = self._open(frame.request_id)
        if answer is None:
            return
        if frame.kind is Kind.REPLY:
            answer.set_result(decode_body(frame.body))
        elif frame.kind is Kind.LOST:
            answer.set_exception(ReceiverDied(decode_body(frame.body, str)))
        else:
            answer.set_exception(RemoteError(*decode_body(frame.body, tuple[str, str, str])))

    def resolve_reply(self, raw: bytes) -> bool:
        """The same for the bytes of a reply; False where it cannot be read."""
        answer = self._open(answered_by(raw)[1])
        if answer is not None:
            try:
                answer.set_result(decode_body(raw[HEADER_SIZE:]))
            except FrameError:
                return False
        return True

    def _open(self, request_id: int) -> asyncio.Future[Any] | None:
        answer, _ = self._waiting.get(request_id, (None, ""))
        return None if answer is None or answer.done() else answer

    def _expire(self, request_id: int, timeout: float) -> None:
        answer, action = self._waiting[request_id]
        if not answer.done():
            answer.set_exception(RequestTimeout(f'no answer to "{action}" within {timeout:g}s'))

    def __len__(self) -> int:
        return len(self._waiting)
