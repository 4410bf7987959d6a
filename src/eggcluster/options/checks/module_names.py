"""Finds the names that a module's source binds. Pure; runs in the process that starts a cluster.

Only the names: their values are known when a worker has loaded the module.
"""

import ast
from dataclasses import dataclass, field

# A module that uses one of these may bind names that its text does not show.
DYNAMIC_CALLS = frozenset({"globals", "vars", "locals", "exec", "eval", "setattr", "__import__"})


@dataclass
class ModuleNames:
    """The names that are bound at a module's top level. `is_dynamic`: the module may bind others."""

    names: set[str] = field(default_factory=set)
    is_dynamic: bool = False


def module_names(source: bytes) -> ModuleNames | None:
    """Return the names that this source binds; None if it does not parse, which the worker's boot reports."""
    try:
        tree = ast.parse(source)
        collector = _Collector()
        collector.visit(tree)
    except (SyntaxError, ValueError, RecursionError):
        return None
    found = collector.found
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found.names.update(node.names)
        found.is_dynamic |= _is_dynamic(node)
    found.is_dynamic |= "__getattr__" in found.names
    return found


def _is_dynamic(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in DYNAMIC_CALLS
    return isinstance(node, ast.Attribute) and node.attr == "modules"  # sys.modules[__name__] = ...


class _Collector(ast.NodeVisitor):
    # Every statement at the top level counts, also inside if, try, with and for. The bodies of functions and classes do
    # not count.
    def __init__(self) -> None:
        self.found = ModuleNames()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self.found.names.add(node.id)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:  # without a value it binds nothing
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found.is_dynamic |= any(alias.name == "*" for alias in node.names)
        self.found.names.update(alias.asname or alias.name for alias in node.names)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.found.names.add(node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.found.names.add(node.name)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.found.names.add(node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def generic_visit(self, node: ast.AST) -> None:
        captured = getattr(node, "name", None) or getattr(node, "rest", None)
        if isinstance(captured, str):  # `except E as name`, `case [*name]`, `case {**rest}`
            self.found.names.add(captured)
        super().generic_visit(node)
