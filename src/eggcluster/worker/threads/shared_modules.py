"""Modules that several workers of one process share. Runs in workers that are threads.

A module is imported once, and what it declares holds for each worker that imports it.
"""

import asyncio
import importlib
import importlib.machinery
import os
import sys
import threading
from collections import Counter
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from eggcluster.errors import OptionsError
from eggcluster.ipc.messenger import Messenger
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.model.messages.role import Role
from eggcluster.options import ResolvedOptions
from eggcluster.worker.context.declarations import Declaration, DeclaringHandlers, Repeat, calling_module
from eggcluster.worker.context.worker_context import WorkerContext, declared_outside
from eggcluster.worker.threads.module_graph import lies_in, reachable_modules

if TYPE_CHECKING:
    from eggcluster.worker.context.registrations import Registrations


Own = TypeVar("Own", bound="Registrations")


class SharedModules:
    """The application's modules in this process. One import at a time; all are imported anew after each reload."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._declared: list[Declaration] = []
        self._reloads: dict[str, int] = {}
        self._preloaded: frozenset[str] = frozenset()  # modules loaded before the first worker
        self._workers_by_dir: Counter[str] = Counter()  # by base directory
        self._added: set[str] = set()  # to the module path

    def enter(self, spec: WorkerSpec) -> None:
        """Count a worker that starts, and put its base directory on the module path."""
        with self._lock:
            self._preloaded = self._preloaded or frozenset(sys.modules)
            base_dir = spec.options.base_dir
            self._workers_by_dir[base_dir] += 1
            if base_dir not in sys.path:
                sys.path.insert(0, base_dir)
                self._added.add(base_dir)

    def leave(self, spec: WorkerSpec) -> None:
        """Count a worker that has ended. After the last one of a base directory, forget the directory's modules."""
        base_dir = spec.options.base_dir
        with self._lock:
            self._workers_by_dir[base_dir] -= 1
            if not self._workers_by_dir[base_dir]:
                del self._workers_by_dir[base_dir]
                self._forget(base_dir)
                if base_dir in self._added and base_dir in sys.path:
                    self._added.remove(base_dir)
                    sys.path.remove(base_dir)

    def import_for(self, context: "ThreadWorkerContext", name: str) -> ModuleType:
        """Import `name`, or find it imported; what it registered holds for `context`, too."""
        with self._lock:
            self._renew(context.spec)
            self._find_first(context.spec.options.base_dir)
            context.importing = name
            try:
                module = importlib.import_module(name)
            finally:
                context.importing = ""
            _check_origin(module, context.spec.options.base_dir)
            for declaration in self._for(context, module):
                context.repeat(declaration)
        return module

    def note(self, declaration: Declaration) -> None:
        """Keep the declaration for the workers that come later."""
        self._declared.append(declaration)

    def _for(self, context: "ThreadWorkerContext", root: ModuleType) -> list[Declaration]:
        """Return the declarations that hold for `context`: those of its cluster and role, and those of the modules that
        `root` imports."""
        declared = [*declared_outside.values(), *self._declared]
        if all(each.kind == context.kind for each in declared):
            return declared
        found = frozenset(reachable_modules(root, context.spec.options.base_dir))
        return [each for each in declared if each.kind == context.kind or each.module in found]

    def _renew(self, spec: WorkerSpec) -> None:
        """After a reload, forget the application's own modules and what they registered."""
        known = self._reloads.setdefault(spec.cluster_id, spec.reloads)
        if spec.reloads <= known:
            return
        self._reloads[spec.cluster_id] = spec.reloads
        self._forget(spec.options.base_dir)

    def _forget(self, base_dir: str) -> None:
        gone = {
            name
            for name, module in list(sys.modules.items())
            if name not in self._preloaded and lies_in(module, base_dir)
        }
        for name in gone:
            del sys.modules[name]
        self._declared = [each for each in self._declared if each.module not in gone]
        importlib.invalidate_caches()

    def _find_first(self, base_dir: str) -> None:
        """If this process has clusters of several directories, put `base_dir` first, so that its own modules are found.
        Raise OptionsError if a module of another directory has taken the name of one of them."""
        if sys.path[0] != base_dir and len(self._workers_by_dir) > 1:
            sys.path.remove(base_dir)
            sys.path.insert(0, base_dir)
        for module in list(sys.modules.values()) if len(self._workers_by_dir) > 1 else ():
            if any(lies_in(module, other) for other in self._workers_by_dir if other != base_dir):
                _check_origin(module, base_dir)


_shared = SharedModules()


class ThreadWorkerContext(WorkerContext):
    """The context of a worker that shares its process with other workers."""

    def __init__(self, role: Role, spec: WorkerSpec) -> None:
        super().__init__(role)
        self.worker_id = threading.get_native_id()
        self.spec = spec
        self.kind = spec.cluster_id, role
        self.importing = ""
        self._own_handlers = DeclaringHandlers(self, role, self._handlers)
        other = Role.AGENT if role is Role.APP else Role.APP
        self._mute = Messenger(other, DeclaringHandlers(self, other))
        _shared.enter(spec)
        self._repeated: set[Declaration] = set()
        self._own: WeakKeyDictionary[object, Registrations] = WeakKeyDictionary()

    def messenger_for_role(self, role: Role) -> Messenger:
        if role is not self.role:
            return self._mute
        return self.messenger.with_handlers(self._own_handlers) if self.importing else self.messenger

    def import_module(self, name: str) -> ModuleType:
        return _shared.import_for(self, name)

    def configure_logs(
        self, options: ResolvedOptions, speaker: str, level: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Do nothing: the process has configured its logs, and this worker's lines carry its name from the start."""

    def declare(self, repeat: Repeat) -> None:
        if self.importing:
            declaration = Declaration(self.kind, calling_module(), repeat)
            self._repeated.add(declaration)
            _shared.note(declaration)

    def own(self, owner: object, declared: Own) -> Own:
        if self.importing:
            return declared
        found = self._own.get(owner)
        if found is None:
            found = self._own[owner] = declared.copy()
        return found  # type: ignore[return-value]  # a copy of `declared`

    def leave(self) -> None:
        """Give up the shared modules, because the worker has ended."""
        _shared.leave(self.spec)

    def repeat(self, declaration: Declaration) -> None:
        """Repeat for this worker, once, what another worker declared."""
        if declaration not in self._repeated:
            self._repeated.add(declaration)
            declaration.repeat(self)


def _check_origin(module: ModuleType, base_dir: str) -> None:
    """Raise OptionsError if the module comes from elsewhere although `base_dir` has one of the same name."""
    name, path = module.__name__.partition(".")[0], getattr(module, "__file__", None)
    own = os.path.join(base_dir, name)
    if path is None or lies_in(module, base_dir) or not _is_importable(own):
        return
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(base_dir), "")):
        raise OptionsError(
            f"base_dir: workers that are threads share this process's modules, and {name} is {path} here already; "
            f"give {own} another name, or use --start-mode process"
        )


def _is_importable(place: str) -> bool:
    """Return whether a module file or a package is there. A folder without `__init__` shadows no module: the import
    system takes it only if no module of its name is found on the whole path."""
    suffixes = importlib.machinery.all_suffixes()
    return any(os.path.isfile(f"{place}{tail}{suffix}") for suffix in suffixes for tail in ("", "/__init__"))
