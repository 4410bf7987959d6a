"""Closing a connection so that the client gets what was sent last. Runs in the app workers that drain.

A socket that is closed while data comes in answers with a reset, and a reset can take away from the client what it
has not read yet: the response, the close frame (RFC 9112, 9.6). So a closing side says that it is done, reads on until
the other one is done too, and closes then.
"""

import asyncio
from typing import Any, cast

LINGER = 0.5  # seconds for the client to see the end and to close; a round trip and some


class LingeringTransport:
    """A protocol's transport, but `close` waits for the client's end, for LINGER seconds after the last byte. What is
    written meanwhile goes nowhere, as on any transport that is closing."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if not self._is_closing:
            self._transport.write(data)  # after its `write_eof` it would raise

    def close(self) -> None:
        if self.is_closing():
            return
        self._is_closing = True
        transport = self._transport
        if not transport.can_write_eof():  # TLS has its own way to close, which does the same
            transport.close()
            return
        transport.set_protocol(_Rest(transport.get_protocol()))
        transport.resume_reading()
        transport.write_eof()
        self._wait()

    def _wait(self) -> None:
        asyncio.get_running_loop().call_later(LINGER, self._finish)

    def _finish(self) -> None:
        if self._transport.get_write_buffer_size():  # the client is still reading the response
            self._wait()
        else:
            self._transport.close()


class _Rest(asyncio.Protocol):
    """What still comes in is read, and concerns nobody any more."""

    def __init__(self, before: asyncio.BaseProtocol) -> None:
        self._before = cast(asyncio.Protocol, before)

    def data_received(self, data: bytes) -> None: ...

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._before.connection_lost(error)
