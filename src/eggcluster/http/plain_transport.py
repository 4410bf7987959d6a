"""A transport of a plain connected socket that costs little to make and to leave. Runs in the app workers.

A connection that travels from worker to worker gets a transport in each. That of the event loop costs more than many a
request: a task, a handle, callbacks in later turns of the loop. This one is ready at once, and `abort` stops the
reading at once. It reads and writes as asyncio's own does, so that all protocols work with it.
"""

import asyncio
import socket
from typing import Any, cast

READ_BYTES = 64 * 1024  # at once; a slice of the parser
HIGH_WATER = 64 * 1024  # bytes that wait before the protocol is told to pause; asyncio's


class PlainTransport(asyncio.Transport):
    """Reads from a non-blocking socket, writes to it, and closes it. The protocol has been told of its connection when
    the constructor returns."""

    # Class attributes: most connections leave most of them as they are, and each assignment costs.
    _high, _low = HIGH_WATER, HIGH_WATER // 4
    _is_paused = False  # the protocol does not write
    _is_closing = False
    _is_ending = False  # the protocol is being told of the end
    _is_reading = True
    _has_ended = False  # the peer has shut its sending half
    _is_shut = False  # we have shut ours, or will when all is sent

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._queue = bytearray()  # what the kernel has not taken yet
        protocol.connection_made(self)
        if self._is_reading:
            loop.add_reader(self._fd, self._read)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the `socket`, or an address: its `peername` or `sockname`."""
        if self._sock is None:
            return default
        if name == "socket":
            return self._sock
        try:
            return {"peername": self._sock.getpeername, "sockname": self._sock.getsockname}[name]()
        except (KeyError, OSError):
            return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # -- reading -------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if not (self._is_reading or self._is_closing or self._has_ended):
            self._is_reading = True
            self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        try:
            self._received(data)
        except Exception as error:
            self._loop.call_exception_handler({"message": "a protocol failed", "exception": error, "transport": self})
            self._end(error)

    def _received(self, data: bytes) -> None:
        if data:
            self._protocol.data_received(data)
        else:
            self.pause_reading()
            self._has_ended = True
            if not self._protocol.eof_received():
                self.close()

    # -- writing -------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_shut:
            raise RuntimeError("write() after write_eof()")
        if self._is_closing or not data:
            return
        sent = 0 if self._queue else self._send(data)
        if sent is not None and sent < len(data):
            if not self._queue:
                self._loop.add_writer(self._fd, self._write_more)
            self._queue += memoryview(data)[sent:]
            self._check_high()

    def _send(self, data: bytes | bytearray | memoryview) -> int | None:
        """Return how many bytes the kernel has taken; None if the connection is over."""
        assert self._sock is not None
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._end(error)
            return None

    def _write_more(self) -> None:
        sent = self._send(self._queue)
        if sent is None:
            return
        del self._queue[:sent]
        if not self._queue:
            self._loop.remove_writer(self._fd)
            self._all_is_sent()
        self._check_low()

    def _all_is_sent(self) -> None:
        if self._is_closing:
            self._end(None)
        elif self._is_shut:
            self._shut_down()

    def _check_high(self) -> None:
        if len(self._queue) > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def _check_low(self) -> None:
        if self._is_paused and len(self._queue) <= self._low and not self._is_ending:
            self._is_paused = False
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._queue)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low
        self._check_high()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._is_shut or self._is_closing):
            self._is_shut = True
            if not self._queue:
                self._shut_down()

    def _shut_down(self) -> None:
        assert self._sock is not None
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:  # the client has gone
            self._end(error)

    # -- the end -------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Close once everything is sent."""
        if not self._is_closing:
            self._is_closing = True
            self.pause_reading()
            if not self._queue:
                self._end(None)

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""
        self._end(None)

    def leave(self) -> None:
        """Close this process's copy of the socket now: another process has the connection. Nothing may wait to be sent.
        The protocol is not told."""
        self._is_ending = self._is_closing = True
        self.pause_reading()
        self._close()

    def _end(self, error: Exception | None) -> None:
        if self._is_ending:
            return
        self._is_ending = self._is_closing = True
        self.pause_reading()
        if self._queue:
            self._loop.remove_writer(self._fd)
            self._queue.clear()
        self._loop.call_soon(self._tell_end, error)

    def _tell_end(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._close()

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        self._protocol = cast(Any, None)
        if sock is not None:
            sock.close()
