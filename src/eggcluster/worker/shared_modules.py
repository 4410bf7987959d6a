"""Modules that several workers of one process share: imported once, and what they register holds for each of them.

Where each worker has its own modules an import runs the module's code, which registers handlers and creates shared
clients in that worker. Here it runs in the first one only; for the others it is repeated what was registered.
"""

import asyncio
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.role import Role
from eggcluster.options import ClusterOptions
from eggcluster.worker.place import Place

if TYPE_CHECKING:
    from eggcluster.worker.incarnation import Incarnation

Own = TypeVar("Own", bound="Incarnation")
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True, eq=False)
class Declaration:
    """`repeat` does at a place what `module` did when a worker of `role` imported it."""

    role: Role
    module: str
    repeat: Callable[[Place], object]


class SharedModules:
    """The application's modules in this process. One import at a time; all are imported anew after each reload."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._declared: list[Declaration] = []
        self._editions: dict[str, int] = {}
        self._foundation: frozenset[str] = frozenset()  # what was there before the first worker

    def import_for(self, place: "ThreadPlace", name: str) -> ModuleType:
        """Import `name`, or find it imported; then all that it registered holds at `place`."""
        with self._lock:
            self._foundation = self._foundation or frozenset(sys.modules)
            self._renew(place.order)
            place.importing = name
            try:
                module = importlib.import_module(name)
            finally:
                place.importing = ""
            for declaration in self._for(place, module):
                place.repeat(declaration)
        return module

    def note(self, declaration: Declaration) -> None:
        """It holds for the workers that come later, too."""
        self._declared.append(declaration)

    def _for(self, place: Place, root: ModuleType) -> list[Declaration]:
        """All of the same role share one application. Of what others have imported it is what `root` leads to."""
        if all(each.role is place.role for each in self._declared):
            return self._declared[:]
        found = frozenset(_reachable(root))
        return [each for each in self._declared if each.role is place.role or each.module in found]

    def _renew(self, order: BootOrder) -> None:
        """After a reload: forget what came from the application's own files, and what it has registered."""
        known = self._editions.setdefault(order.cluster_id, order.edition)
        if order.edition <= known:
            return
        self._editions[order.cluster_id] = order.edition
        gone = {
            name
            for name, module in list(sys.modules.items())
            if name not in self._foundation and _lies_in(module, order.options.base_dir)
        }
        for name in gone:
            del sys.modules[name]
        self._declared = [each for each in self._declared if each.module not in gone]
        importlib.invalidate_caches()


_shared = SharedModules()


class ThreadPlace(Place):
    """The place of a worker that is a thread among others of its process."""

    def __init__(self, role: Role, order: BootOrder) -> None:
        super().__init__(role)
        self.worker_id = threading.get_native_id()
        self.order = order
        self.importing = ""
        handlers = _DeclaringHandlers(self)
        self.messenger = Messenger(role, handlers)
        self._own_handlers = _DeclaringHandlers(self, role, handlers)
        other = Role.AGENT if role is Role.APP else Role.APP
        self._mute = Messenger(other, _DeclaringHandlers(self, other))
        self._repeated: set[Declaration] = set()
        self._own: WeakKeyDictionary[object, Incarnation] = WeakKeyDictionary()

    def messenger_of(self, role: Role) -> Messenger:
        if role is not self.role:
            return self._mute
        return self.messenger.registering_with(self._own_handlers) if self.importing else self.messenger

    def import_module(self, name: str) -> ModuleType:
        return _shared.import_for(self, name)

    def configure_logs(
        self, options: ClusterOptions, speaker: str, level: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        """They are the process's, and the worker speaks in its own name from its first line on."""

    def declare(self, repeat: Callable[[Place], object]) -> None:
        assert self.role is not None
        if self.importing:
            declaration = Declaration(self.role, _calling_module(), repeat)
            self._repeated.add(declaration)
            _shared.note(declaration)

    def own(self, owner: object, declared: Own) -> Own:
        if self.importing:
            return declared
        found = self._own.get(owner)
        if found is None:
            found = self._own[owner] = declared.copy()
        return found  # type: ignore[return-value]  # a copy of what came in

    def leave(self) -> None:
        super().leave()
        self._own.clear()

    def repeat(self, declaration: Declaration) -> None:
        """Do here, once, what was declared elsewhere."""
        if declaration not in self._repeated:
            self._repeated.add(declaration)
            declaration.repeat(self)


class _DeclaringHandlers(Handlers):
    """What is registered while a module is imported is registered for every worker that shares the module: with its
    messenger, or with the one that objects of `role` have there. `others` are the handlers to register with."""

    def __init__(self, place: ThreadPlace, role: Role | None = None, others: Handlers | None = None) -> None:
        super().__init__()
        self._place = place
        self._role = role
        if others is not None:
            self._by_action, self._lasting = others._by_action, others._lasting

    def add(self, action: str, handler: Handler, *, once: bool = False) -> None:
        super().add(action, handler, once=once)
        self._place.declare(partial(_register, self._role, action, handler, once))


def _register(role: Role | None, action: str, handler: Handler, once: bool, place: Place) -> None:
    messenger = place.messenger if role is None else place.messenger_of(role)
    (messenger.once if once else messenger.on)(action, handler)


def _calling_module() -> str:
    """Whose code runs: the nearest that is not ours."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _OURS:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def _reachable(root: ModuleType) -> Iterator[str]:
    """The names of `root` and of every module that it has imported, or has imported something from, and so on."""
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if module.__name__ in seen or module.__name__.partition(".")[0] == _OURS:
            continue
        seen.add(module.__name__)
        yield module.__name__
        waiting += [other for value in list(vars(module).values()) if (other := _module_of(value)) is not None]


def _module_of(value: Any) -> ModuleType | None:
    if isinstance(value, ModuleType):
        return value
    # Not an object's own `__module__`: a lazy object may do anything when it is asked.
    named = value if isinstance(value, type | FunctionType) else type(value)
    return sys.modules.get(named.__module__)


def _lies_in(module: ModuleType, base_dir: str) -> bool:
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or f"{os.sep}site-packages{os.sep}" in path:
        return False
    return path.startswith(os.path.join(base_dir, ""))
