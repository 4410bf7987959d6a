"""What hears of each response: the access log, and the counters of the admin port. Runs in the app workers."""

from collections.abc import Callable

from eggcluster.http.exchange import Exchange
from eggcluster.model.http_counters import HttpMeter
from eggcluster.options import ResolvedOptions
from eggcluster.worker.engines.access_logger import access_logger


def response_observer(
    options: ResolvedOptions, numbers: memoryview, *, slot: int, worker_id: int
) -> Callable[[Exchange], None] | None:
    """Return the function to be called with each request whose response has ended; None if nothing wants to hear of
    them. `numbers` are the worker's, for `HttpMeter`."""
    log = access_logger(options.access_log_format, slot=slot, worker_id=worker_id) if options.access_log else None
    if options.admin is None:
        return log
    count = _counter(numbers)
    if log is None:
        return count

    def count_and_log(exchange: Exchange) -> None:
        count(exchange)
        log(exchange)

    return count_and_log


def _counter(numbers: memoryview) -> Callable[[Exchange], None]:
    meter = HttpMeter(numbers)

    def count(exchange: Exchange) -> None:
        seconds = exchange.connection.server.loop.time() - exchange.began
        meter.count(exchange.status, seconds, exchange.body_size, exchange.bytes_sent)

    return count
