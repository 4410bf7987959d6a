"""Writes the access log: one line for each request, by the logger `eggcluster.access`. Runs in the app workers."""

import logging
import os
import time
from collections.abc import Callable

from eggcluster.http.access_log import Record, compile_format
from eggcluster.http.exchange import Exchange

_logger = logging.getLogger("eggcluster.access")


def access_logger(text: str, *, slot: int, worker_id: int) -> Callable[[Exchange], None]:
    """Return the function that logs a request whose response has ended; `text` is as for `compile_format`."""
    line = compile_format(text, process_id=os.getpid(), constants={"slot": slot, "worker_id": worker_id})

    def log(exchange: Exchange) -> None:
        head, headers = exchange.head, exchange.response_headers
        record = Record(
            time=time.time(),
            duration=exchange.connection.server.loop.time() - exchange.began,
            client=exchange.client,
            method=head.method,
            target=head.target,
            version=head.version,
            headers=head.headers,
            status=exchange.status,
            response_headers=headers,
            body_bytes=exchange.bytes_sent,
        )
        _logger.info(line(record))

    return log
