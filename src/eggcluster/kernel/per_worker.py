"""A value for each worker, where several workers share a process. Runs in all processes."""

import threading
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class PerWorker(Generic[T]):
    """A value that running code finds for its own worker.

    It is looked up in the context, which tasks and `asyncio.to_thread` copy; then by thread, because some libraries run
    a callback in an empty context. Else it is `default`, as always where each worker has its own process.
    """

    def __init__(self, name: str, default: T) -> None:
        self.default = default
        self._context: ContextVar[T] = ContextVar(name)
        self._thread = threading.local()
        self._bound = False

    def get(self) -> T:
        """Return the value of the worker that the running code belongs to."""
        if not self._bound:
            return self.default
        try:
            return self._context.get()
        except LookupError:
            return getattr(self._thread, "value", self.default)

    def bind(self, value: T) -> None:
        """Set the value from now on, for this thread and for every context that is copied from its own."""
        self._bound = True
        self._thread.value = value
        self._context.set(value)
