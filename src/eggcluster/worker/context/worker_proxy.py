"""A module-level name that means another object in each worker, if workers share the module. Runs in all workers."""

from collections.abc import Callable, Iterator
from typing import Any


class WorkerProxy:
    """Passes every access on to the object that `find` returns for the running worker."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def __getattribute__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_find")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_find")(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "_find")(), name)

    # Special methods: Python looks these up in the class, not in the object.

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_find")())

    def __dir__(self) -> list[str]:
        return dir(object.__getattribute__(self, "_find")())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_find")()(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return object.__getattribute__(self, "_find")()[key]

    def __contains__(self, key: Any) -> bool:
        return key in object.__getattribute__(self, "_find")()

    def __iter__(self) -> Iterator[Any]:
        return iter(object.__getattribute__(self, "_find")())

    def __len__(self) -> int:
        return len(object.__getattribute__(self, "_find")())
