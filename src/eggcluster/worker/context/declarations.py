"""Records what a module declares during its import, and repeats it for workers that share it. Runs in all workers.

If each worker has its own modules, an import runs the module's code, which registers handlers and creates shared
clients in that worker. If workers share modules, the code runs once, and its declarations are repeated for the others.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.messages.role import Role

_OURS = __name__.partition(".")[0]


Repeat = Callable[[Any], object]  # does for the worker of a context what a module has done during its import


class Declaring(Protocol):
    """The part of a worker's context that is needed to declare, and to repeat."""

    messenger: Messenger

    def messenger_for_role(self, role: Role) -> Messenger: ...
    def declare(self, repeat: Repeat) -> None: ...


@dataclass(frozen=True, eq=False)
class Declaration:
    """`repeat` does for another worker what `module` did during its import. `kind` is the cluster and the role of the
    worker that imported it; None means that it was imported before there was a worker."""

    kind: tuple[str, Role] | None
    module: str
    repeat: Repeat


@dataclass(frozen=True)
class SharingUse:
    """Takes from a worker's sharing, with `find`, what a module keeps. It equals another one with that `find`, so that
    what is asked for again and again is declared once."""

    find: Callable[[Any], object]

    def __call__(self, context: Any) -> object:
        return self.find(context.sharing)


class DeclaringHandlers(Handlers):
    """Handlers that also declare each registration: for the messenger of each worker, or, with `role`, for the one
    that objects of that role have there. `others` are the handlers to register with."""

    def __init__(self, context: Declaring, role: Role | None = None, others: Handlers | None = None) -> None:
        super().__init__()
        self._context = context
        self._role = role
        if others is not None:
            self._by_action, self._lasting = others._by_action, others._lasting

    def add(self, action: str, handler: Handler, *, once: bool = False) -> None:
        super().add(action, handler, once=once)
        self._context.declare(partial(_register, self._role, action, handler, once))


def _register(role: Role | None, action: str, handler: Handler, once: bool, context: Declaring) -> None:
    messenger = context.messenger if role is None else context.messenger_for_role(role)
    (messenger.once if once else messenger.on)(action, handler)


def calling_module() -> str:
    """Return the name of the nearest calling module that is not one of eggcluster."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _OURS:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
