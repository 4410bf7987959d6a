"""A value for each worker where several share a process. Runs anywhere."""

import threading
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class PerWorker(Generic[T]):
    """Found by the running code: by its context, which tasks and `asyncio.to_thread` carry along; else by its thread,
    since some libraries run a callback in an empty context; else `default`, which is all there is where each worker has
    a process of its own."""

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
        """From now on, for this thread and for every context that is copied from its own."""
        self._bound = True
        self._thread.value = value
        self._context.set(value)
