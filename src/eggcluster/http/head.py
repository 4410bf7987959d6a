"""A request's head as the rules have accepted it, and the limits that it keeps. Pure; used in the app workers."""

from dataclasses import dataclass
from typing import Literal

Header = tuple[bytes, bytes]

MAX_TARGET_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be, in bytes; 0 switches `max_body_bytes` off."""

    max_header_bytes: int = 64 * 1024  # the target and all field lines together; Node.js: 16 KiB, nginx: 32 KiB
    max_headers: int = 256  # field lines; Apache and gunicorn: 100, Node.js: 2,000
    max_target_bytes: int = MAX_TARGET_BYTES  # RFC 9112, 3 recommends 8,000 at least; nginx: 8 KiB, Apache: 8,190
    max_body_bytes: int = 0


class RequestHead:
    """The head of one accepted request. `check_head` makes it; the attributes after `headers` are what the rules found.

    `headers` are in the order of the wire, with lower-case names. `target` is in origin form, or `*`. `content_length`
    is None where the request has no such field; the body is then empty unless `chunked`. `expects_continue` is true
    only for a request that announces a body.
    """

    __slots__ = (
        "chunked", "content_length", "expects_continue", "headers", "keep_alive",
        "method", "target", "upgrade", "version",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: str,
        headers: list[Header],
        content_length: int | None = None,
        keep_alive: bool = True,
        chunked: bool = False,
        expects_continue: bool = False,
        upgrade: Literal["websocket"] | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version  # "1.0" or "1.1"
        self.headers = headers
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.chunked = chunked
        self.expects_continue = expects_continue
        self.upgrade = upgrade

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode('latin-1')} {self.target.decode('latin-1')} HTTP/{self.version}>"

    @property
    def has_body(self) -> bool:
        """Whether the request announces a body of at least one byte."""
        return self.chunked or bool(self.content_length)

    def body_prelude(self) -> bytes:
        """Return a head that makes a fresh parser frame the bytes after it as this request's body.

        llhttp ends a message at its head when the head asks for an upgrade. A server that ignores the upgrade (RFC
        9110, 7.8) still has to read the body: it feeds these bytes to a new parser, then the bytes after the head.
        """
        if self.chunked:
            return b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (self.content_length or 0)
