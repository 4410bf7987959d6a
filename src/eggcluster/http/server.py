"""All HTTP connections of one worker: their clock, their counters, what they share. Runs in the app workers."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any, Protocol, TypeVar

from eggcluster.http.forwarded import TrustedProxies
from eggcluster.http.framing import DATE, SERVER, status_line
from eggcluster.http.head import RequestHead
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.relief import Waiting
from eggcluster.http.request_timeout import LimitedRequest, TimeLimit
from eggcluster.http.rules import Rejection
from eggcluster.http.wsgi_pool import WsgiPool
from eggcluster.kernel.forks import has_forked, shut_down
from eggcluster.wording import shown

TICK = 0.5  # seconds between two looks at the deadlines: a timer for each request would cost a tenth of it

_logger = logging.getLogger("eggcluster.http")

NEVER = float("inf")
T = TypeVar("T")


def _no() -> bool:
    return False


class Connection(Protocol):
    """An open connection, whatever protocol it speaks, as its server sees it."""

    deadline: float

    def overdue(self) -> None:
        """Tell the connection that its deadline is over; it sets another one, or ends."""

    @property
    def activity(self) -> str | None:
        """What would be lost if it were closed now: `request`, `stream` or `WebSocket`; None if that is nothing."""

    @property
    def path(self) -> str:
        """The path of its latest request."""

    def end_when_quiet(self, quiet: float) -> None:
        """Close it if it does nothing, and nothing has passed over it for `quiet` seconds."""

    @property
    def waiting(self) -> Waiting | None:
        """What it waits for, if it waits for its client and others can do without it."""

    def cut(self) -> None:
        """End it in the middle, in the way that its protocol has for that."""

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""


class Running(LimitedRequest, Protocol):
    """A request that the application serves."""

    head: RequestHead

    def cancel(self) -> None:
        """Have the application stop, if it can be stopped."""

    def flush_head(self) -> None:
        """Send the response's head now."""


NewExchange = Callable[[Any, RequestHead], Any]


class HttpServer:
    """Serves `app` on the connections that it is given. `state` is what each request finds in its scope or
    environ."""

    def __init__(
        self,
        app: Callable[..., Any],
        new_exchange: NewExchange,
        settings: HttpSettings,
        state: dict[str, Any],
    ) -> None:
        self.app = app
        self.new_exchange = new_exchange
        self.settings = settings
        self.state = state
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.running: set[Running] = set()
        self.trusted = TrustedProxies.parse(settings.trusted_proxies)
        self.requests = 0
        self.pool = WsgiPool(settings.threads, self.loop)
        self.started = False  # it accepts connections
        self.should_exit = False  # it is being closed: some libraries look at it to end their streams
        self.is_draining = False  # each response says that its connection closes
        self.is_final: Callable[[], bool] = _no  # no server follows this one: what a drain tells WebSockets
        self.on_response: Callable[[Any], None] | None = None  # called with each request whose response has ended
        self._unflushed: list[Running] = []
        self.now = 0.0  # as of the latest tick, as the ends
        self.header_end = self.keep_alive_end = NEVER  # of a time that begins now
        self._lines: dict[int, bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        limit = settings.request_timeout
        self._time_limit = TimeLimit(limit, self.running) if limit else None
        self._tick()

    def after(self, seconds: float) -> float:
        """Return the instant `seconds` from now, give or take a tick; never for 0."""
        return self.now + seconds if seconds else NEVER

    def _tick(self) -> None:
        self._timer = self.loop.call_later(TICK, self._tick)  # first: no error below stops the clock
        self.now = now = self.loop.time()
        self.header_end = self.after(self.settings.header_timeout)
        self.keep_alive_end = self.after(self.settings.keep_alive_timeout)
        self._lines.clear()
        due = [each for each in self.connections if each.deadline <= now]
        self.for_each(due, self._end_overdue, "ending an overdue connection failed")
        if self._time_limit is not None:
            self._time_limit.check(now)

    def _end_overdue(self, connection: Connection) -> None:
        connection.deadline = NEVER  # one that raises is not asked again and again
        connection.overdue()

    def for_each(self, members: Iterable[T], act: Callable[[T], None], failure: str) -> list[T]:
        """Call `act` with each member: what one raises is logged as `failure`, and ends no other's turn. Return those
        that raised."""
        failed = []
        for member in members:
            try:
                act(member)
            except Exception as error:
                self.log_defect(failure, error)
                failed.append(member)
        return failed

    @property
    def is_busy(self) -> bool:
        """Whether a connection is open, or a request is being served."""
        return bool(self.connections or self.running)

    @property
    def is_at_limit(self) -> bool:
        """Whether there are as many connections, or running requests, as `limit_concurrency` allows."""
        limit = self.settings.limit_concurrency
        return 0 < limit <= max(len(self.connections), len(self.running))

    def close(self) -> None:
        """Stop the clock and the threads."""
        self.pool.close()
        if self._timer is not None:
            self._timer.cancel()

    # -- what responses have in common ---------------------------------------------------------------------

    def default_lines(self, own: int) -> bytes:
        """Return the last lines of each response's head, but for those that the application has set itself."""
        lines = self._lines.get(own)
        if lines is None:
            lines = self._lines[own] = self._default_lines(own)
        return lines

    def _default_lines(self, own: int) -> bytes:
        lines = b"" if own & DATE else b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
        if self.settings.server_header and not own & SERVER:
            lines += b"server: eggcluster\r\n"
        return lines + b"".join(b"%b: %b\r\n" % header for header in self.settings.headers) + b"\r\n"

    def plain_response(self, rejection: Rejection, *, with_body: bool = True) -> bytes:
        """Return a whole response that ends its connection; without a body for HEAD (RFC 9110, 9.3.2)."""
        body = rejection.reason.encode()
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        return status_line(rejection.status) + head + self.default_lines(0) + (body if with_body else b"")

    def flush_soon(self, exchange: Running) -> None:
        """Send the exchange's head in the next turn of the loop, unless its body has taken it along by then."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(exchange)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        self.for_each(unflushed, lambda exchange: exchange.flush_head(), "sending a response's head failed")

    def before_close(self, transport: asyncio.Transport) -> None:
        """Tell the client that its connection ends, also if a process that the application forked holds it open."""
        if has_forked():
            shut_down(transport.get_extra_info("socket"))

    # -- the log -------------------------------------------------------------------------------------------

    def log_failure(self, exchange: Running, error: BaseException) -> None:
        """Report what the application raised."""
        _logger.error("%s failed", _request_line(exchange.head), exc_info=error)

    def log_overrun(self, exchange: Running, text: str, stack: str = "") -> None:
        """Report that a request has exceeded its time limit, and where the application is."""
        where = f"; it is at\n{stack.rstrip()}" if stack else ""
        _logger.error("%s %s%s", _request_line(exchange.head), text, where)

    def log_defect(self, text: str, error: BaseException) -> None:
        """Report an error of our own, which ends one connection."""
        _logger.error(text, exc_info=error)


def _request_line(head: RequestHead) -> str:
    """Return the method and the target of a request, for the log."""
    return f"{head.method.decode()} {shown(head.target.decode('latin-1'))}"
