"""A transport without a socket: its client takes what is written at any pace, and all of it in the end."""

import asyncio
import random
from typing import Any

HIGH_WATER = 200  # bytes; low, so that writing is paused often
PACE = 0.3  # seconds, at most, until a slow client takes what waits


class _Socket:
    """What a connection asks of its socket before it resets it. It has no number, like a closed one."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *args: Any) -> None: ...


class MemoryTransport(asyncio.Transport):
    """Behaves as the event loop's own; what it is used for against their rules is in `misuse`."""

    def __init__(self, protocol: asyncio.Protocol, rolls: random.Random | None) -> None:
        """With `rolls`, the client is slow now and then."""
        super().__init__({"peername": ("192.0.2.1", 1000), "sockname": ("192.0.2.2", 80), "socket": _Socket()})
        self.protocol = protocol
        self.written = b""
        self.is_reading_paused = False
        self.is_lost = False
        self.misuse: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._rolls = rolls
        self._unsent = 0
        self._is_writing_paused = self._is_closing = self._has_eof = False
        protocol.connection_made(self)

    # -- the protocol's calls ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._has_eof:
            self.misuse.append(f"written after write_eof: {bytes(data[:80])!r}")
        elif self._is_closing and not self._unsent:
            self.misuse.append(f"written after close: {bytes(data[:80])!r}")
        else:
            self.written += data
            self._hold_back(len(data))

    def _hold_back(self, size: int) -> None:
        if self._rolls is None or not (self._unsent or self._rolls.random() < 0.3):
            return
        if not self._unsent:
            self._loop.call_later(self._rolls.random() * PACE, self._take)
        self._unsent += size
        if self._unsent > HIGH_WATER and not self._is_writing_paused:
            self._is_writing_paused = True
            self.protocol.pause_writing()

    def _take(self) -> None:
        if self.is_lost:
            return
        self._unsent = 0
        if self._is_writing_paused:
            self._is_writing_paused = False
            self.protocol.resume_writing()
        if self._is_closing and not self._unsent:
            self.lose(None)

    def pause_reading(self) -> None:
        if self.is_reading_paused:
            self.misuse.append("reading was paused already")
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        if not self.is_reading_paused:
            self.misuse.append("reading was not paused")
        self.is_reading_paused = False

    def write_eof(self) -> None:
        self._has_eof = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._unsent:
                self._loop.call_soon(self.lose, None)

    def abort(self) -> None:
        self._is_closing = True
        self._loop.call_soon(self.lose, None)

    # -- the client's side -----------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """The client has shut its sending half."""
        if not self._is_closing and not self.protocol.eof_received():
            self.close()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self.is_lost:
            self.is_lost = self._is_closing = True
            self.protocol.connection_lost(error)
