"""The admin port as an ASGI application: its paths, its token. Runs in the master."""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

TEXT = "text/plain; charset=utf-8"
OPEN_PATHS = ("/live", "/ready")  # they need no token: a prober has none, and they reveal little

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer(NamedTuple):
    """A response: its status, its body, the type of that, and further headers."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[bytes, bytes], ...] = ()


Page = Callable[[], Answer]


def text(status: int, line: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an answer of one line."""
    return Answer(status, f"{line}\n".encode(), TEXT, headers)


def as_json(value: object) -> Answer:
    """Return `value` as JSON."""
    return Answer(200, json.dumps(value, indent=2).encode() + b"\n", "application/json")


class AdminApp:
    """Answers GET and HEAD with the page of the path. With a `token`, all but OPEN_PATHS need it (RFC 6750, 2.1)."""

    def __init__(self, pages: Mapping[str, Page], token: str | None) -> None:
        self._pages = pages
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        answer = self.answer(scope["method"], scope["path"], scope["headers"])
        fields = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    def answer(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Answer:
        """Return the answer to a request."""
        page = self._pages.get(path)
        if path not in OPEN_PATHS and not self._is_allowed(dict(headers).get(b"authorization", b"")):
            return text(401, "a bearer token is needed: see --admin-token-file", (b"www-authenticate", b"Bearer"))
        if page is None:
            return text(404, f"there is no such page; there are {', '.join(sorted(self._pages))}")
        if method not in ("GET", "HEAD"):
            return text(405, "this page takes GET", (b"allow", b"GET, HEAD"))
        return page()

    def _is_allowed(self, authorization: bytes) -> bool:
        if self._token is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)
