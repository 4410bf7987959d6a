"""Frames, codes and pings of a WebSocket (RFC 6455, 5 and 7), without importing websockets. Pure; in app workers."""

import struct
from collections.abc import Callable

# Opcodes, 5.2. Those up to BINARY are of frames with data.
CONTINUATION, TEXT, BINARY, CLOSE, PONG = 0, 1, 2, 8, 10

# Close codes, 7.4.1. ABNORMAL is never sent: the application is told it if the client is gone without a close frame.
# SERVICE_RESTART, of the registry that 11.7 founds: the client may come back at once.
NORMAL, GOING_AWAY, ABNORMAL, INVALID_DATA, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1001, 1006, 1007, 1011, 1012

_LONGEST_REASON = 123  # bytes, 5.5: a control frame has 125, of which the code takes two
_FINAL = 0x80
_MIDDLE = struct.Struct("!BBH").pack
_LARGE = struct.Struct("!BBQ").pack


def message_frame(opcode: int, data: bytes) -> bytes:
    """Return a message as one frame of a server, not compressed.

    It takes 0.5 us; ServerProtocol, which can do more, takes 3 of the 9 us that the echo of a short message costs.
    """
    size = len(data)
    if size < 126:
        return bytes((_FINAL | opcode, size)) + data
    if size < 0x10000:
        return _MIDDLE(_FINAL | opcode, 126, size) + data
    return _LARGE(_FINAL | opcode, 127, size) + data


def short_reason(reason: str) -> str:
    """Return as much of the reason as a close frame can hold."""
    return reason.encode()[:_LONGEST_REASON].decode(errors="ignore")


class FragmentJoiner:
    """Makes one message of several frames. The protocol has checked their order, and bounds their size."""

    __slots__ = ("_data", "_opcode")

    def __init__(self) -> None:
        self._data: bytearray | None = None  # one piece: a list of tiny fragments would be many times their size
        self._opcode = TEXT

    @property
    def has_begun(self) -> bool:
        """Whether the end of a message is still to come."""
        return self._data is not None

    def add(self, opcode: int, data: bytes) -> None:
        """Append the data of a frame."""
        if self._data is None:
            self._data, self._opcode = bytearray(), opcode
        self._data += data

    def take(self) -> tuple[int, bytes]:
        """Return the message's opcode and data, of which the last frame has been appended."""
        assert self._data is not None
        data, self._data = bytes(self._data), None
        return self._opcode, data


class Keepalive:
    """Pings at an interval; each is to have its pong before `due`, an instant. All times are seconds; 0 switches off.

    `after` returns the instant some seconds from now, and never for 0.
    """

    __slots__ = ("_after", "_count", "_interval", "_payload", "_timeout", "due")

    def __init__(self, after: Callable[[float], float], interval: float, timeout: float) -> None:
        self._after = after
        self._interval = interval
        self._timeout = timeout
        self._count = 0
        self._payload: bytes | None = None  # of the ping that has no pong yet
        self.due = after(0)

    def start(self) -> None:
        """Wait for the next ping's time."""
        self._payload = None
        self.due = self._after(self._interval)

    @property
    def awaits_pong(self) -> bool:
        """Whether a pong was to come before `due`."""
        return self._payload is not None

    def next_ping(self) -> bytes:
        """Return the payload of a ping, which is to be sent now."""
        self._count += 1
        payload = b"%d" % self._count
        if self._timeout:
            self._payload = payload
        self.wait_again()
        return payload

    def wait_again(self) -> None:
        """Wait once more: for the pong, or for the next ping's time."""
        self.due = self._after(self._timeout or self._interval)

    def take_pong(self, payload: bytes) -> bool:
        """Return whether this is the pong that was to come. One with another payload says nothing (RFC 6455, 5.5.3)."""
        if payload != self._payload:
            return False
        self.start()
        return True
