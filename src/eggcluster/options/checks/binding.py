"""Owns what can be said of a module's names by reading its source. Pure; runs in whoever starts a cluster.

It says something only when it is certain: a name bound twice, or in a way not understood, may be anything.
"""

import ast
import builtins
from dataclasses import dataclass, field

# With one of these a module may bind names that its text does not show.
DYNAMIC_CALLS = frozenset({"globals", "vars", "locals", "exec", "eval", "setattr", "__import__"})
# What these build is never callable and never an Agent.
PLAIN_TYPES = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int"}
    | {"list", "object", "range", "set", "str", "tuple"}
)
DISPLAYS: tuple[tuple[type[ast.AST], str], ...] = (
    (ast.JoinedStr, "a text"),
    (ast.List, "a list"),
    (ast.ListComp, "a list"),
    (ast.Dict, "a dict"),
    (ast.DictComp, "a dict"),
    (ast.Set, "a set"),
    (ast.SetComp, "a set"),
    (ast.Tuple, "a tuple"),
    (ast.GeneratorExp, "a generator"),
)


@dataclass
class Bindings:
    """A module's names, each with the nodes that bind it. `is_dynamic`: there may be others."""

    names: dict[str, list[ast.AST]] = field(default_factory=dict)
    is_dynamic: bool = False

    def only(self, name: str) -> ast.AST | None:
        """The one node that binds `name`; None if there are several."""
        nodes = self.names.get(name, [])
        return nodes[0] if len(nodes) == 1 else None

    def add(self, name: str, node: ast.AST) -> None:
        """One more binding."""
        self.names.setdefault(name, []).append(node)


def bindings(source: bytes) -> Bindings | None:
    """What this source binds at its top level; None if it does not parse, which the boot will report."""
    try:
        tree = ast.parse(source)
        collector = _Collector()
        collector.visit(tree)
        return _with_hidden(collector.found, tree)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _with_hidden(found: Bindings, tree: ast.Module) -> Bindings:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            for name in node.names:
                found.add(name, node)
        found.is_dynamic |= _is_dynamic(node)
    found.is_dynamic |= "__getattr__" in found.names
    return found


def _is_dynamic(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in DYNAMIC_CALLS
    return isinstance(node, ast.Attribute) and node.attr == "modules"  # sys.modules[__name__] = ...


class _Collector(ast.NodeVisitor):
    # Every statement at the top level counts, whatever it stands in (if, try, with, for); the bodies of
    # functions and classes do not.
    def __init__(self) -> None:
        self.found = Bindings()

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target, node.value)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, node.value)
            self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self.found.add(node.id, node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.add(alias.asname or alias.name.partition(".")[0], node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.found.is_dynamic = True
            else:
                self.found.add(alias.asname or alias.name, node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.found.add(node.name, node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.found.add(node.name, node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.found.add(node.name, node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def generic_visit(self, node: ast.AST) -> None:
        captured = getattr(node, "name", None) or getattr(node, "rest", None)
        if isinstance(captured, str):  # `except E as name`, `case [*name]`, `case {**rest}`
            self.found.add(captured, node)
        super().generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.found.add(target.id, value)
        else:
            self.visit(target)


def plainly(node: ast.AST | None, rebound: Bindings) -> str:
    """What a binding's value is ("the number 42", "a dict") if it is certain that nobody can call it."""
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant()):
            return f"the number {ast.unparse(node)}"
        case ast.Constant(value=value) if value is not Ellipsis:
            return _constant(value)
        case ast.Import():
            return "a module"
        case ast.Call(func=ast.Name(id=name)) if name in PLAIN_TYPES and name not in rebound.names:
            assert hasattr(builtins, name)
            return f"a plain {name}"
    return next((words for kind, words in DISPLAYS if isinstance(node, kind)), "")


def _constant(value: object) -> str:
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, str | bytes):
        return "a text" if isinstance(value, str) else "bytes"
    return f"the number {value!r}"


def required_parameters(node: ast.AST | None) -> int | None:
    """How many positional parameters this function needs; None if it is no function, or takes others too."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.decorator_list:
        return None
    arguments = node.args
    if arguments.vararg or arguments.defaults or arguments.kwonlyargs:
        return None
    return len(arguments.posonlyargs) + len(arguments.args)
