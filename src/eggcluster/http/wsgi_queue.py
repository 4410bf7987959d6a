"""The requests that wait for a thread, and the threads that wait for a request. Runs in the app workers."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkQueue(Generic[T]):
    """Items in order, and threads that take them. Putting an item in wakes no thread: `wake` wakes one.

    `queue.SimpleQueue` wakes a thread for each item. Where Python code does what an item asks for, the first thread
    does all of them while the others wait for the interpreter's lock, and their waking was in vain.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._idle: list[threading.Lock] = []  # one for each thread that waits, held until it is woken

    def __len__(self) -> int:
        return len(self._items)

    @property
    def idle(self) -> int:
        """How many threads wait."""
        return len(self._idle)

    def put(self, item: T) -> None:
        """Add an item at the end."""
        self._items.append(item)

    def wake(self) -> None:
        """Wake one thread if one waits and an item does, too."""
        if self._items and self._idle:
            self._idle.pop().release()  # the latest: it is the one most likely to be in the processor's caches

    def wake_all(self) -> None:
        """Wake all threads that wait."""
        while self._idle:
            self._idle.pop().release()

    def take(self, wake: threading.Lock) -> T:
        """Return the first item; wait for one. `wake` is a lock of the thread's own, which it holds."""
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                self._wait(wake)

    def _wait(self, wake: threading.Lock) -> None:
        self._idle.append(wake)
        if self._items:  # put in meanwhile: perhaps before this thread could be seen to wait
            try:
                self._idle.remove(wake)
            except ValueError:  # it was seen, and is woken
                wake.acquire()
        else:
            wake.acquire()
