"""Imports go down only; what a process does not need it does not load; every file says what it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import eggcluster

ROOT = Path(eggcluster.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Layer -> the layers of ours that it may import, at module level or lazily; itself always. `logs` is a file of
# its own beside the layers, with its handler: both ends of a cluster log.
MAY_IMPORT = {
    "errors": set[str](),
    "wording": set[str](),
    "packing": set[str](),
    "model": {"errors", "wording", "packing"},
    "kernel": {"errors", "wording", "model"},
    "options": {"errors", "wording", "kernel", "model"},
    "ipc": {"errors", "wording", "packing", "model", "kernel", "options"},
    "log_handler": {"wording", "kernel", "model"},
    "logs": {"errors", "wording", "packing", "kernel", "log_handler", "options"},
    "runtime": {"errors", "wording", "kernel"},
    "modes": {"errors", "wording", "model", "kernel", "options", "ipc"},
    "master": {"errors", "wording", "model", "kernel", "options", "ipc", "runtime", "modes", "logs", "http"},
    "file_watcher": {"model", "kernel", "ipc"},
    "http": {"errors", "wording", "packing", "model", "kernel"},
    "worker": {"http", "errors", "wording", "packing", "model", "kernel", "options", "ipc", "logs"},
    "template": {"errors", "wording", "model", "kernel", "ipc", "worker"},
    "integrations": {"errors", "worker"},
    "cluster": {"errors", "wording", "model", "kernel", "options", "ipc", "master"},
    "testing": {"errors", "wording", "model", "ipc", "worker", "cluster"},
    "cli": {"errors", "wording", "model", "kernel", "options", "runtime", "master", "cluster"},
    "__main__": {"cli"},
}
IMPURE = {"asyncio", "os", "socket", "time", "subprocess", "threading", "select", "signal", "multiprocessing"}


def layer(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path, *, types: bool = False) -> Iterator[str]:
    """The modules that a file imports anywhere; those for the type checker alone only with `types`."""

    def walk(node: ast.AST) -> Iterator[str]:
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other)
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return walk(ast.parse(path.read_text(encoding="utf-8")))


def own_layers(path: Path) -> set[str]:
    """The layers of ours that a file imports; public names count as the layer they come from."""
    found = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "eggcluster" and len(parts) > 1:
            home = eggcluster._HOMES.get(parts[1])
            found.add(home.split(".")[0] if home is not None and parts[1] != "cluster" else parts[1])
    return found - {"__version__"}


def every(*layers: str) -> list[Path]:
    return [path for path in FILES if layer(path) in layers]


def test_every_layer_has_its_rule() -> None:
    assert {layer(path) for path in FILES} - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    if layer(path) == "__init__":
        assert own_layers(path) == set(), "it loads what it names at the first use"
        return
    allowed = MAY_IMPORT[layer(path)] | {layer(path)}
    assert own_layers(path) <= allowed


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Lazy imports and those for the type checker count, too. The package itself only names what it loads later."""
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = imports(path, types=True) if path != ROOT / "__init__.py" else ()
        graph[name] = {part for each in found for part in (each, each.rpartition(".")[0]) if part in names} - {name}
    while leaves := {name for name, imported in graph.items() if not imported & graph.keys()}:
        graph = {name: imported for name, imported in graph.items() if name not in leaves}
    assert not graph, "each of these imports another one of them, and so on without end"


def test_the_model_is_pure() -> None:
    for path in every("model", "errors"):
        assert not {name.split(".")[0] for name in imports(path)} & IMPURE, path


def test_errors_import_nothing() -> None:
    assert list(imports(ROOT / "errors.py")) == []


def test_of_ipc_only_the_worker_spec_knows_the_options() -> None:
    assert [path.name for path in every("ipc") if "options" in own_layers(path)] == ["worker_spec.py"]


def test_only_the_command_line_imports_click() -> None:
    for path in FILES:
        if layer(path) != "cli":
            assert not {name.split(".")[0] for name in imports(path)} & {"click"}, path


def test_no_layers_rule_is_wider_than_its_imports() -> None:
    """A permission that is not used is taken out of the table."""
    for name, allowed in MAY_IMPORT.items():
        used = set().union(*(own_layers(path) for path in every(name))) - {name}
        assert allowed - used <= {"errors", "wording", "model", "kernel", "options"}, (name, allowed - used)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_line_of_a_file_says_what_it_owns(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].rstrip().endswith((".", ":")), "a sentence, on one line"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_one_can_hold_in_mind(path: Path, request: pytest.FixtureRequest) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, functions):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 45, f"{node.name} has {length} lines"
