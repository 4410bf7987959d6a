"""What uvicorn says of requests that are cancelled because their worker ends. Runs in the app workers."""

import asyncio
import logging
import threading


def log_no_cancellations() -> None:
    """From now on the requests of this thread's worker end by being cancelled: that is no news."""
    logging.getLogger("uvicorn.error").addFilter(_NoCancellation(threading.get_ident()))


class _NoCancellation(logging.Filter):
    """uvicorn logs the end of each request that is cancelled, with its traceback."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread  # others may go on, in the same process

    def filter(self, record: logging.LogRecord) -> bool:
        cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
        return not (cancelled and record.thread == self._thread)
