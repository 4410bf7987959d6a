"""Whether a worker's WSGI threads are full, with hysteresis. Pure; used in the app workers."""

WAITED = 0.2  # seconds in a queue behind busy threads; a heartbeat's interval: the master hears of no shorter time
FREE_SHARE = 0.75  # of the threads; fewer busy ones than that, and the worker is free again


class Saturation:
    """Says that a pool of `threads` is full once all of them are busy and a request has waited for WAITED seconds.

    It is free again when nothing waits and fewer than FREE_SHARE of the threads are busy. Threads turn busy and free a
    thousand times a second. The master steers five times a second, so it has to hear of what lasts.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._is_full = False
        self._mark: tuple[int, float] | None = None  # the latest request at an instant at which it had to wait

    def update(self, busy: int, submitted: int, waiting: int, now: float) -> bool:
        """Return whether the pool is full at the instant `now`.

        `submitted` counts the requests since the start, the `waiting` ones at the end of them included.
        """
        if self._is_full:
            self._is_full = bool(waiting) or busy >= FREE_SHARE * self._threads
        elif busy < self._threads or not waiting:
            self._mark = None
        elif self._mark is None or submitted - waiting >= self._mark[0]:  # that request has been taken
            self._mark = submitted, now
        elif now - self._mark[1] >= WAITED:
            self._is_full, self._mark = True, None
        return self._is_full
