"""Targets are judged by reading their source: what is certain is said, nothing is imported."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.errors import OptionsError
from eggcluster.options import ResolvedOptions, parse_options
from eggcluster.options.checks.module_names import module_names

GOOD = "async def app(scope, receive, send): ...\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(GOOD)
    return tmp_path


def problems(base: Path, target: str = "app:app", **options: Any) -> list[str]:
    try:
        parse_options(target, environ={}, base_dir=str(base), **options)
    except OptionsError as error:
        return error.problems
    return []


def judged(base: Path, line: str, target: str = "app:app", **options: Any) -> list[str]:
    (base / "app.py").write_text(line + "\n")
    return problems(base, target, **options)


def test_unknown_module_with_a_near_miss(base: Path) -> None:
    [line] = problems(base, "ap:app")
    assert line == (f'app: "ap:app" does not exist: no module "ap" in {base} or on Python\'s path; did you mean "app"?')


def test_unknown_submodule_with_a_near_miss(base: Path) -> None:
    (base / "shop").mkdir()
    (base / "shop" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (base / "shop" / "main.py").write_text(GOOD)
    assert problems(base, "shop.main:app") == []
    [line] = problems(base, "shop.mian:app")
    assert 'no module "shop.mian"' in line
    assert 'did you mean "shop.main"?' in line


def test_the_default_target_says_that_it_is_one(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        parse_options(environ={}, base_dir=str(tmp_path))
    [line] = caught.value.problems
    assert line.startswith('app: "app:app" does not exist')
    assert line.endswith("name yours as module:attribute")


def test_a_file_name_is_no_module(base: Path) -> None:
    [line] = problems(base, "app.py:app")
    assert line.endswith('; a module is named without ".py": "app"')


def test_a_package_that_finds_its_modules_elsewhere_is_trusted(base: Path) -> None:
    (base / "shop").mkdir()
    (base / "shop" / "__init__.py").write_text("__path__ = make()\n")
    assert problems(base, "shop.main:app") == []


def test_unknown_attribute_with_a_near_miss(base: Path) -> None:
    [line] = problems(base, "app:aap")
    assert line == 'app: "app:aap" does not exist: module "app" has no attribute "aap"; did you mean "app"?'


@pytest.mark.parametrize("target", ["app", "app:", ":app", "app:a-b", "a b:c", "app:app:app"])
def test_what_is_no_target_at_all(base: Path, target: str) -> None:
    assert problems(base, target) == [f'app: "{target}" is not module:attribute, for instance "app:app"']


@pytest.mark.parametrize(
    "line",
    [
        "from elsewhere import app",
        "from elsewhere import *",
        "app = make()",
        "app = 1\napp = make()",
        "app = None\ndef setup():\n    global app\n    app = make()",
        "def setup():\n    global app\n    app = make()",
        "try:\n    app = make()\nexcept Exception as error:\n    pass",
        "if debug:\n    app = one()\nelse:\n    app = two()",
        "with context() as app: pass",
        "for app in apps: pass",
        "print(app := make())",
        "one, (app, *rest) = make()",
        "def __getattr__(name): return make()",
        "globals()['app'] = make()",
        "exec('app = make()')",
        "import sys\nsys.modules[__name__] = make()",
        "def object(): return make\napp = object()",
        "match make():\n    case [app]: pass",
        "match make():\n    case {**app}: pass",
        "class app:\n    def __init__(self, scope): ...",
        "app = lambda environ, start_response: []",
        "def app(environ, start_response): ...",
        "def app(scope): ...",
        "def app(): ...",
        "def app(*args): ...",
        "def app(a, b, c, d=1): ...",
        "@decorated\ndef app(a, b, c, d, e): ...",
        "app = 42",
        "app = not yet python (",
        "app = '\0'",
    ],
)
def test_a_name_that_may_be_there_passes(base: Path, line: str) -> None:
    assert judged(base, line) == []


def test_behind_a_dot_only_the_first_name_is_judged(base: Path) -> None:
    assert judged(base, "app = 42", "app:app.wsgi") == []
    [line] = judged(base, "app = 42", "app:api.wsgi")
    assert 'has no attribute "api"' in line


def test_a_submodule_is_an_attribute_too(base: Path) -> None:
    (base / "shop").mkdir()
    (base / "shop" / "__init__.py").touch()
    (base / "shop" / "main.py").write_text(GOOD)
    assert problems(base, "shop:main.app") == []


def test_a_directory_without_init_is_explained(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(GOOD)
    [line] = problems(tmp_path, "app:app")
    assert '"app" is a directory without __init__.py' in line
    assert 'for instance "app.main"' in line
    assert problems(tmp_path, "app.main:app") == []


def test_a_module_without_source_is_not_judged(base: Path) -> None:
    assert problems(base, "math:whatever") == []


def test_the_base_directory_comes_before_pythons_path(base: Path) -> None:
    (base / "json.py").write_text("number = 1\n")
    [line] = problems(base, "json:loads")
    assert 'module "json" has no attribute "loads"' in line


def test_nothing_is_imported_or_remembered(base: Path) -> None:
    (base / "app.py").write_text("raise SystemExit\napp = make()\n")
    path, modules = list(sys.path), set(sys.modules)
    assert problems(base) == []
    assert sys.path == path
    assert "app" not in set(sys.modules) - modules
    assert str(base) not in sys.path_importer_cache


def test_agent_file_makes_the_default_agent(base: Path) -> None:
    assert parse_options("app:app", environ={}, base_dir=str(base)).agent is None
    (base / "agent.py").write_text("from eggcluster import Agent\nagent = Agent()\n")
    assert parse_options("app:app", environ={}, base_dir=str(base)).agent == "agent:agent"
    assert parse_options("app:app", environ={}, base_dir=str(base), no_agent=True).agent is None


def test_agent_package_makes_the_default_agent(base: Path) -> None:
    (base / "agent").mkdir()
    (base / "agent" / "__init__.py").write_text("agent = build()\n")
    assert parse_options("app:app", environ={}, base_dir=str(base)).agent == "agent:agent"


def test_an_agent_file_that_is_not_eggclusters(base: Path) -> None:
    (base / "agent.py").write_text("def chat(): ...\n")
    [line] = problems(base)
    assert line.startswith('agent: "agent:agent" does not exist: module "agent" has no attribute "agent"')
    assert line.endswith("to run without an agent, use no_agent")
    assert problems(base, no_agent=True) == []


def test_a_framework_without_agent(base: Path) -> None:
    (base / "frame.py").write_text("class Application: ...\n")
    expected = 'framework: "frame" does not define `Agent`; name a module that defines both'
    assert problems(base, framework="frame") == [expected]
    (base / "frame.py").write_text("from eggcluster import Agent\nclass Application: ...\n")
    assert problems(base, framework="frame") == []
    (base / "frame.py").write_text("from eggcluster import *\n")
    assert problems(base, framework="frame") == []


def test_a_framework_that_is_not_there(base: Path) -> None:
    [line] = problems(base, framework="fraem")
    assert line.startswith('framework: "fraem" does not exist: no module "fraem"')


def test_required_modules_exist(base: Path) -> None:
    assert problems(base, require=("app", "json", "os.path")) == []
    [line] = problems(base, require=("app", "apq"))
    assert line.startswith('require: "apq" does not exist')
    assert 'did you mean "app"?' in line


def test_the_default_framework_is_always_right(base: Path) -> None:
    assert ResolvedOptions().framework == "eggcluster"
    assert problems(base, framework="eggcluster") == []


@given(st.text())
def test_no_source_raises(source: str) -> None:
    module_names(source.encode("utf-8", "surrogatepass"))
