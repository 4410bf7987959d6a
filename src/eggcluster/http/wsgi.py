"""A request for a WSGI application (PEP 3333), served by one of the worker's threads. Runs in the app workers.

The event loop reads requests and writes responses; a thread calls the application. What a thread has to say to the loop
goes through the pool's queue, in order.
"""

import contextvars
import io
import threading
from collections.abc import Callable, Iterable
from typing import Any

from eggcluster.http.exchange import DONE, Exchange
from eggcluster.http.framing import BadResponse
from eggcluster.http.request_timeout import GRACE, UNSEEN
from eggcluster.http.rules import SERVER_ERROR
from eggcluster.http.sendfile import FilePart, send_by_kernel
from eggcluster.http.wsgi_environ import make_environ
from eggcluster.http.wsgi_files import PIECE, FileWrapper, WsgiInput
from eggcluster.kernel.stacks import stack_of, thread_frames

UNSENT = 256 * 1024  # bytes that a thread may be ahead of the loop

Head = tuple[int, list[tuple[bytes, bytes]]]


class WsgiExchange(Exchange):
    """Waits for a thread, which calls the application and hands its response to the loop."""

    _context: contextvars.Context
    _changed: threading.Condition  # guards what both sides change; only there if one may have to wait for the other
    _unsent = 0  # bytes handed to the loop, and not yet written by it
    _response: Head | None = None  # given to start_response, not yet handed over
    _has_begun = False  # the head has been handed over
    _file_sent: bool | None = None  # by the kernel; None: not yet, False: it cannot
    is_limited = True  # to the end of the call: it holds a thread

    # -- in the event loop -----------------------------------------------------------------------------------

    def begin(self, context: contextvars.Context) -> None:
        server = self.connection.server
        self._context = context
        if not self.body_is_complete:
            self._prepare_to_wait()
        server.running.add(self)
        server.pool.submit(self)

    def _prepare_to_wait(self) -> None:
        if not self.is_waiting:
            self._changed = threading.Condition()
            self.is_waiting = True  # for `wake`, as long as the request lasts

    def body_received(self, data: bytes) -> None:
        self._prepare_to_wait()
        with self._changed:
            super().body_received(data)

    def cancel(self) -> None:
        """A thread cannot be cancelled: it ends with its next write, or when the application returns."""

    def time_out(self) -> None:
        server = self.connection.server
        stack = self._stack()
        text = "waited for a thread" if server.pool.thread_of(self) is None else "took"
        self.answer_timeout()
        server.log_overrun(self, f"{text} longer than its --request-timeout", stack)

    def outlast(self) -> None:
        """Have a new thread in the place of this one, if it has not come back."""
        server, stack = self.connection.server, self._stack()
        if server.pool.give_up(self):
            server.running.discard(self)
            text = f"holds its thread {GRACE:g}s after its --request-timeout: a new thread takes its place"
            server.log_overrun(self, f"{text} ({server.pool.lost} of {server.settings.threads} lost)", stack)

    def _stack(self) -> str:
        """Return where the thread is that serves the request; "" while none does."""
        thread = self.connection.server.pool.thread_of(self)
        return stack_of(thread_frames(thread.ident)) if thread is not None and thread.ident is not None else ""

    def wake(self) -> None:
        if self.is_waiting:
            with self._changed:
                self._changed.notify_all()

    def writable(self) -> None:
        super().writable()
        self.wake()

    def deliver(self, response: Head | None, body: bytes, more: bool) -> None:
        """Write what a thread has handed over."""
        if self.stage == DONE:
            return
        if response is not None:
            self.start(*response)
        try:
            self.write(body, more=more)
        except Exception as error:  # whatever it is, the client must not wait
            self.connection.server.log_failure(self, error)
            self.break_off()
        if more and self.is_waiting:
            with self._changed:
                self._unsent -= len(body)
                self._changed.notify_all()

    def deliver_file(self, response: Head, part: FilePart) -> None:
        """Send what a thread has handed over: the part of a file. The thread waits for the end of that."""
        self._sending = self.connection.server.loop.create_task(self._deliver_file(response, part))

    async def _deliver_file(self, response: Head, part: FilePart) -> None:
        sent = True
        try:
            if self.stage != DONE:
                self.start(*response)
                sent = await send_by_kernel(self, part)
        except (BadResponse, OSError) as error:
            self.connection.server.log_failure(self, error)
            self.break_off()
        finally:
            with self._changed:
                self._file_sent = sent
                self._changed.notify_all()

    def break_off(self) -> None:
        """Answer instead of the application, or let the client see that its response is not complete."""
        if self.stage != DONE:
            self.fail(SERVER_ERROR)

    def forget(self) -> None:
        """The thread has done all that it had to do for this request."""
        self.connection.server.running.discard(self)

    # -- in a thread of the pool -----------------------------------------------------------------------------

    def serve(self) -> None:
        """Call the application, in the context of the request. Never raises."""
        if self.is_timed_out:  # while it waited
            self.connection.server.pool.hand_over(self.forget)
            return
        if self.deadline != UNSEEN:
            self.deadline = UNSEEN  # the application has its full time, too
        self._context.run(self._serve)

    def _serve(self) -> None:
        server = self.connection.server
        hand_over = server.pool.hand_over
        try:
            result = server.app(make_environ(self, self._input()), self._start_response)
            try:
                self._send(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except _ClientLeft:
            pass
        except BaseException as error:  # a request's error stays with it
            if not (self.stage == DONE and isinstance(error, ConnectionResetError)):
                server.log_failure(self, error)
            hand_over(self.break_off)
        hand_over(self.forget)

    def _input(self) -> Any:
        if self.body_is_complete and not self.is_waiting:
            return io.BytesIO(self.take_body() if self.body else b"")
        return WsgiInput(self._read_piece)

    def _read_piece(self) -> bytes:
        """Return the next piece of the body; wait for it. Nothing at its end, ConnectionResetError if there is none."""
        if self.head.expects_continue:
            self.connection.server.pool.hand_over(self.invite_body)
        with self._changed:
            while not self.body and not self.body_is_complete:
                if self.client_is_gone or self.stage == DONE:
                    raise ConnectionResetError("the client left before its request was complete")
                self._changed.wait()
            body, self.body, self.body_bytes = self.body, None, 0
        if not self.body_is_complete:
            self.connection.server.pool.hand_over(self.connection.choose_reading)
        return b"".join(body or ())

    def _send(self, result: Iterable[bytes]) -> None:
        if isinstance(result, (list, tuple)) and len(result) == 1:
            self._hand_over(result[0], more=False)
        elif type(result) is FileWrapper:
            self._send_file(result)
        else:
            self._send_pieces(result)

    def _send_pieces(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if piece:
                self._write(piece)
        self._hand_over(b"", more=False)

    def _send_file(self, file: FileWrapper) -> None:
        """Send a file up to its end, or to the Content-Length. Only a long one is worth the kernel's help."""
        length, part = self._content_length(), file.part()
        if part is not None and 0 < part.size <= PIECE:
            self._hand_over(b"".join(file.pieces(length)), more=False)
        elif part is None or part.size <= 0 or not self._send_by_kernel(part):
            self._send_pieces(file.pieces(length))

    def _content_length(self) -> int | None:
        """Return the Content-Length of a response that is not handed over yet; None for one that is not a number."""
        headers = self._response[1] if self._response is not None else []
        values = [value for name, value in headers if name.lower() == b"content-length" and value.isdigit()]
        return int(values[0]) if values else None

    def _send_by_kernel(self, part: FilePart) -> bool:
        """Have the loop send the part as the whole body, and wait; False if that cannot be."""
        if self._has_begun or self._response is None or self.connection.is_tls:
            return False
        if self.stage == DONE:
            raise _ClientLeft
        self._prepare_to_wait()
        response, self._response, self._has_begun = self._response, None, True
        self.connection.server.pool.hand_over(self.deliver_file, response, part)
        with self._changed:
            while self._file_sent is None:
                self._changed.wait()
        return self._file_sent

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info:
            try:
                if self._has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: it refers to this frame
        elif self._response is not None or self._has_begun:
            raise AssertionError("start_response was called twice, the second time without exc_info")
        self._response = _status(status), [(_name(name), value.encode("latin-1")) for name, value in headers]
        return self._write

    def _write(self, piece: bytes) -> None:
        """Hand a piece of the body to the loop; wait while the client is slow."""
        self._prepare_to_wait()
        with self._changed:
            self._unsent += len(piece)
        self._hand_over(piece, more=True)
        with self._changed:
            while (self._unsent > UNSENT or self.connection.is_write_paused) and self.stage != DONE:
                self._changed.wait()

    def _hand_over(self, piece: bytes, *, more: bool) -> None:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"each piece of a WSGI response has to be bytes, not {type(piece).__name__}")
        response, self._response = self._response, None
        if response is None and not self._has_begun:
            raise AssertionError("the application returned, or wrote, before it called start_response")
        if self.stage == DONE:
            raise _ClientLeft
        self._has_begun = True
        self.connection.server.pool.hand_over(self.deliver, response, piece, more)


class _ClientLeft(Exception):
    """Ends the iteration over a response that cannot be sent any more."""


_KNOWN = 1024  # names and statuses that are remembered
_NAMES: dict[str, bytes] = {}
_STATUSES: dict[str, int] = {}


def _name(name: str) -> bytes:
    encoded = _NAMES.get(name)
    if encoded is None:
        encoded = name.encode("latin-1")
        if len(_NAMES) < _KNOWN:
            _NAMES[name] = encoded
    return encoded


def _status(status: str) -> int:
    code = _STATUSES.get(status)
    if code is None:
        code = int(status[:3])
        if len(_STATUSES) < _KNOWN:
            _STATUSES[status] = code
    return code
